"""The registered model `product-encoder` in MLflow: its versions, and the aliases that say which one serves.

Importing MLflow takes seconds, so it is imported where it is first needed.
"""

import base64
import contextlib
import hashlib
import json
import logging
import os
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from pipelines.workspace import Workspace
from training import tracking
from training.errors import BadInput
from training.stage import hushed

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = "product-encoder"
CHAMPION, CHALLENGER = "champion", "challenger"
ARTIFACT = "saved_model"
"""Name, in a version's artifacts, of the folder that export wrote."""


class RegistryUnreachable(RuntimeError):
    """MLflow does not answer, or breaks off."""

    exit_code = 6


class VersionNotFound(LookupError):
    """The registry has no such version or alias."""

    exit_code = 7


@dataclass(frozen=True)
class Registered:
    """A version of the registered model; `new` where this call made it."""

    version: int
    model_id: str
    new: bool


@dataclass(frozen=True)
class Promoted:
    """An alias and the version that it names now; `previous` is what it named before."""

    alias: str
    version: int
    previous: int | None


def register(workspace: Workspace) -> Registered:
    """Register models/saved_model, unchanged, unless its model_id is a version already.

    Raises BadInput where there is no exported model, RegistryUnreachable.
    """
    folder = workspace.models / "saved_model"
    facts = read_facts(folder)
    model_id = facts["model_id"]
    if not (workspace.models / "autoencoder" / "run.json").is_file():
        raise BadInput("models/autoencoder/run.json not found: run `dvc repro train` first")
    with _client(workspace) as client:
        for known in _search(client, f"name = '{MODEL}' and tags.model_id = '{model_id}'"):
            return Registered(int(known.version), model_id, new=False)
        tags = version_tags(workspace, folder, facts)
        # MLflow loads what it logged once, and TensorFlow with it.
        with tracking.run(workspace.root, resume=True) as run_id, hushed():
            logged = _log_model(folder)
        if not _search(client, f"name = '{MODEL}'", models=True):
            client.create_registered_model(MODEL, description="Does this photo show that product?")
        # The tags come with the version, so that a version without its model_id never exists.
        made = client.create_model_version(
            MODEL, logged.model_uri, run_id=run_id, tags=tags, model_id=logged.model_id, await_creation_for=60
        )
        return Registered(int(made.version), model_id, new=True)


def promote(workspace: Workspace, version: int | str, alias: str = CHAMPION) -> Promoted:
    """Let the alias name a version: a number, or what another alias names.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with _client(workspace) as client:
        aliases = _aliases(client)
        try:
            number = int(version)
        except ValueError:
            number = aliases.get(str(version), 0)
            if not number:
                known = ", ".join(f"{name} (version {at})" for name, at in sorted(aliases.items())) or "none"
                raise VersionNotFound(f"{MODEL} has no alias {version!r}; its aliases: {known}") from None
        _get(client, number)
        client.set_registered_model_alias(MODEL, alias, str(number))
        return Promoted(alias, number, aliases.get(alias))


def find(workspace: Workspace, version: int | None = None) -> Registered:
    """A version, by default the newest. Raises VersionNotFound, RegistryUnreachable."""
    with _client(workspace) as client:
        if version is None:
            numbers = [int(one.version) for one in _search(client, f"name = '{MODEL}'")]
            if not numbers:
                raise VersionNotFound(f"{MODEL} has no version yet: `photoproof retrain` registers one")
            version = max(numbers)
        return Registered(version, _get(client, version).tags.get("model_id", ""), new=False)


def versions_by_alias(workspace: Workspace) -> dict[str, int]:
    """The version that each alias names; empty where nothing is registered. Raises RegistryUnreachable."""
    with _client(workspace) as client:
        return _aliases(client)


def tags_of(workspace: Workspace, version: int) -> dict[str, str]:
    """The tags of a version. Raises VersionNotFound, RegistryUnreachable."""
    with _client(workspace) as client:
        return dict(_get(client, version).tags)


def set_tags(workspace: Workspace, version: int, tags: dict[str, str]) -> None:
    """Set tags of a version. Raises RegistryUnreachable."""
    with _client(workspace) as client:
        for key, value in tags.items():
            client.set_model_version_tag(MODEL, str(version), key, value)


def download(workspace: Workspace, version: int, folder: Path) -> Path:
    """The version's SavedModel, fetched into the empty folder `folder`; the path of the SavedModel in it.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with _client(workspace) as client:
        from mlflow.artifacts import download_artifacts

        _get(client, version)
        download_artifacts(artifact_uri=f"models:/{MODEL}/{version}", dst_path=str(folder))
    return folder / "artifacts" / ARTIFACT


def folder_sha256(folder: Path) -> str:
    """SHA-256 of a folder: of the sorted lines "SHA256 PATH" of its files, as `sha256sum` prints them."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """assets.extra/model.json of a SavedModel. Raises BadInput where it is missing or names no model_id."""
    path = folder / "assets.extra" / "model.json"
    try:
        facts = json.loads(path.read_text())
        facts["model_id"]
    except FileNotFoundError:
        raise BadInput(f"{path} not found: run `dvc repro export` first") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise BadInput(f"{path} names no model_id: run `dvc repro export` again") from None
    return facts


def version_tags(workspace: Workspace, folder: Path, facts: dict[str, Any]) -> dict[str, str]:
    """What a version says of itself: where it comes from, how good it is, and which bytes it is."""
    params = json.dumps(facts.get("params"), sort_keys=True)
    status = subprocess.run(
        ["git", "-C", str(workspace.root), "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    tags = {
        "model_id": facts["model_id"],
        "data_version": facts.get("data_version") or tracking.data_version(workspace.root),
        "git_commit": tracking.git_commit(workspace.root),
        "git_dirty": str(bool(status.stdout.strip())).lower(),
        "params_sha256": hashlib.sha256(params.encode()).hexdigest(),
        "saved_model_sha256": folder_sha256(folder),
        "accept_at": facts.get("accept_at"),
        "reject_at": facts.get("reject_at"),
    }
    for group, figures in (facts.get("metrics") or {}).items():
        tags |= {f"{group}.{name}": f"{value:.6g}" for name, value in figures.items()}
    return {name: str(value) for name, value in tags.items() if value is not None}


def _log_model(folder: Path) -> Any:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    inputs: list[Any] = [ColSpec(DataType.binary, name) for name in ("original_bytes", "photo_bytes")]
    outputs: list[Any] = [
        ColSpec(DataType.float, "similarity"),
        ColSpec(DataType.float, "probability"),
        ColSpec(DataType.string, "outcome"),
        ColSpec(DataType.boolean, "decoded"),
        ColSpec(DataType.string, "model_id"),
    ]
    return mlflow.pyfunc.log_model(
        name=MODEL,
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts={ARTIFACT: str(folder)},
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        input_example=_example(folder),
        pip_requirements=[f"{name}=={version_of(name)}" for name in ("mlflow", "tensorflow", "numpy", "pandas")],
    )


def _example(folder: Path) -> Any:
    """The first golden pair, as the pyfunc takes it."""
    import pandas as pd

    try:
        pair = json.loads((folder / "assets.extra" / "golden.json").read_text())["pairs"][0]
    except (FileNotFoundError, KeyError, IndexError):
        return None
    return pd.DataFrame({name: [base64.b64decode(pair[name])] for name in ("original_bytes", "photo_bytes")})


@contextlib.contextmanager
def _client(workspace: Workspace) -> Iterator["MlflowClient"]:
    """A client of the workspace's registry; what MLflow raises becomes one line."""
    uri = tracking.tracking_uri(workspace.root)
    if uri.startswith("http"):
        try:
            httpx.get(f"{uri.rstrip('/')}/health", timeout=10)
        except httpx.HTTPError as error:
            raise RegistryUnreachable(f"MLflow at {uri} does not answer: {_in_a_line(error)}") from None
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # of 7 the last come minutes later
    import mlflow
    from sqlalchemy.exc import SQLAlchemyError

    try:
        tracking.setup(workspace.root)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\.")
            yield mlflow.MlflowClient()
    except (mlflow.MlflowException, SQLAlchemyError, OSError) as error:
        if hasattr(error, "exit_code"):
            raise
        raise RegistryUnreachable(f"MLflow at {uri} broke off: {_in_a_line(error)}") from error


def _aliases(client: "MlflowClient") -> dict[str, int]:
    found = _search(client, f"name = '{MODEL}'", models=True)
    return {alias: int(version) for alias, version in found[0].aliases.items()} if found else {}


def _search(client: "MlflowClient", query: str, models: bool = False) -> list[Any]:
    search = client.search_registered_models if models else client.search_model_versions
    return list(search(query))


def _get(client: "MlflowClient", version: int) -> "ModelVersion":
    found = _search(client, f"name = '{MODEL}'")
    for one in found:
        if int(one.version) == version:
            return one
    known = ", ".join(sorted((str(one.version) for one in found), key=int)) or "none"
    raise VersionNotFound(f"{MODEL} has no version {version}; its versions: {known}")


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
