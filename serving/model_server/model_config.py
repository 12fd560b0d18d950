"""models.config: which configurations are taken, and which folders they ask for."""

import logging
from pathlib import Path
from urllib.parse import urlsplit

from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from serving.model_server.status import invalid_argument
from serving.model_server.versions import numbered, wanted_versions

log = logging.getLogger(__name__)


def check(config: config_pb2.ModelServerConfig, old: config_pb2.ModelServerConfig) -> None:
    """Raises StatusError where a configuration may not follow the old one."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument("ModelServer does not yet support custom model config.")
    platforms = {model.name: _platform(model) for model in old.model_config_list.config}
    seen: set[str] = set()
    for model in config.model_config_list.config:
        if model.name in seen:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        if not urlsplit(model.base_path).scheme and not Path(model.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        platform = _platform(model)
        if platforms.get(model.name, platform) != platform:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{platforms[model.name]} and new platform requested is {platform}"
            )
        if platform != "tensorflow":
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")


def _platform(model: config_pb2.ModelConfig) -> str:
    platform = "tensorflow" if model.model_type == config_pb2.ModelType.TENSORFLOW else model.model_platform
    if not platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    return platform


def wanted_folders(model: config_pb2.ModelConfig) -> dict[int, Path]:
    """Version -> folder, of the versions that a model's policy serves. Raises OSError for an unreadable base path."""
    base = Path(model.base_path.removeprefix("file://"))
    children = numbered(child.name for child in base.iterdir())
    wanted = wanted_versions(model.model_version_policy, children)
    for number in sorted(set(model.model_version_policy.specific.versions) - set(children)):
        log.warning(
            "Version %d of servable %s, which was requested to be served as a 'specific' version in the servable's "
            "version policy, was not found in the file system",
            *(number, model.name),
        )
    if not wanted:
        log.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?",
            *(model.name, model.base_path),
        )
    return {number: base / children[number] for number in wanted}
