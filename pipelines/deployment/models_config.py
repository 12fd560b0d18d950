"""TensorFlow Serving's models.config: which versions it serves and which of them each label names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from pipelines.registry.versions import MODEL
from pipelines.workspace.places import Workspace
from training.stage.files import writing_whole

ModelServerConfig = model_server_config_pb2.ModelServerConfig  # pyright: ignore[reportAttributeAccessIssue] (generated)


@dataclass(frozen=True)
class Served:
    """What models.config asks for: versions of the model, and labels that name some of them."""

    versions: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)


def config_of(workspace: Workspace) -> Path:
    """The models.config that deploy writes and model servers read."""
    return workspace.serving / "models.config"


def folders_of(workspace: Workspace) -> Path:
    """The folder with a folder for each version."""
    return workspace.serving / MODEL


def read_config(path: Path) -> Served | None:
    """What a models.config asks for; None where the file is missing, or a model server would refuse it."""
    try:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
    except (FileNotFoundError, UnicodeDecodeError, text_format.ParseError):
        return None
    for model in config.model_config_list.config:
        if model.name == MODEL:
            return Served(frozenset(model.model_version_policy.specific.versions), dict(model.version_labels))
    return None


def config_text(served: Served, base_path: Path) -> str:
    """The file's text; `base_path` is the absolute path of the folder with a folder for each version."""
    config = ModelServerConfig()
    model = config.model_config_list.config.add(name=MODEL, base_path=str(base_path), model_platform="tensorflow")
    model.model_version_policy.specific.versions.extend(sorted(served.versions))
    for label, version in sorted(served.labels.items()):
        model.version_labels[label] = version
    return text_format.MessageToString(config)


def write_config(path: Path, served: Served, base_path: Path) -> None:
    """Write the file by rename: a server that polls it reads the old one or the new one, never half of one."""
    with writing_whole(path, durable=True) as part:
        part.write_text(config_text(served, base_path))
