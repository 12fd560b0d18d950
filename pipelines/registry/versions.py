"""The registered model `product-encoder` in MLflow: its versions, and the aliases that say which one serves.

Importing MLflow takes seconds, so it is imported where it is first needed.
"""

import base64
import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import ssl
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from pipelines.workspace.places import Workspace
from training.stage import tracking
from training.stage.errors import BadInput

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = "product-encoder"
CHAMPION, CHALLENGER = "champion", "challenger"
ARTIFACT, EVIDENCE = "saved_model", "evidence"
"""Names, in a version's artifacts, of the folder that export wrote and of that of pipelines/registry/evidence.py."""


class RegistryUnreachable(RuntimeError):
    """MLflow does not answer, or breaks off."""

    exit_code = 6


class NoRoom(RuntimeError):
    """The disk, or a quota, has no room for a version."""

    exit_code = 1


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
class Version:
    """A version with what it says of itself, and the aliases that name it."""

    version: int
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Promoted:
    """An alias and the version that it names now; `previous` is what it named before."""

    alias: str
    version: int
    previous: int | None


def promote(workspace: Workspace, version: int | str, alias: str = CHAMPION) -> Promoted:
    """Let the alias name a version: a number, or what another alias names.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with client_of(workspace) as client:
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
    with client_of(workspace) as client:
        if version is None:
            numbers = [int(one.version) for one in _search(client, f"name = '{MODEL}'")]
            if not numbers:
                raise VersionNotFound(f"{MODEL} has no version yet: `photoproof retrain` registers one")
            version = max(numbers)
        return Registered(version, _get(client, version).tags.get("model_id", ""), new=False)


def versions_by_alias(workspace: Workspace) -> dict[str, int]:
    """The version that each alias names; empty where nothing is registered. Raises RegistryUnreachable."""
    with client_of(workspace) as client:
        return _aliases(client)


def tags_of(workspace: Workspace, version: int) -> dict[str, str]:
    """The tags of a version. Raises VersionNotFound, RegistryUnreachable."""
    with client_of(workspace) as client:
        return dict(_get(client, version).tags)


def set_tags(workspace: Workspace, version: int, tags: dict[str, str]) -> None:
    """Set tags of a version. Raises RegistryUnreachable."""
    with client_of(workspace) as client:
        for key, value in tags.items():
            client.set_model_version_tag(MODEL, str(version), key, value)


def download(workspace: Workspace, version: int, folder: Path) -> Path:
    """The version's SavedModel, fetched into the empty folder `folder`; the path of the SavedModel in it.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with client_of(workspace) as client:
        _get(client, version)
        return _fetch(version, ARTIFACT, folder)


def download_part(workspace: Workspace, version: int, part: str, folder: Path) -> Path | None:
    """A file or folder of the version's artifacts, by its path, fetched into `folder`; None where it has none such.

    Raises VersionNotFound, RegistryUnreachable.
    """
    with client_of(workspace) as client:
        from mlflow.artifacts import list_artifacts

        _get(client, version)
        at = f"models:/{MODEL}/{version}/artifacts"
        for name in part.split("/"):
            if not any(Path(one.path).name == name for one in list_artifacts(artifact_uri=at)):
                return None
            at += f"/{name}"
        return _fetch(version, part, folder)


def all_versions(workspace: Workspace) -> list[Version]:
    """Every version that the registry has, with its tags and aliases. Raises RegistryUnreachable."""
    uri = tracking.tracking_uri(workspace.root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return []  # nothing was ever registered, and asking would make a registry, which takes seconds
    with client_of(workspace) as client:
        names: dict[int, list[str]] = {}
        for alias, version in _aliases(client).items():
            names.setdefault(version, []).append(alias)
        found = _search(client, f"name = '{MODEL}'")
        return [
            Version(int(one.version), dict(one.tags), tuple(sorted(names.get(int(one.version), ())))) for one in found
        ]


def describe(workspace: Workspace, version: int, markdown: str) -> None:
    """Show a text on the version's page, unless a person has written one there. Raises RegistryUnreachable."""
    with client_of(workspace) as client:
        there = _get(client, version).description
        if not there or there.startswith(f"# {MODEL}"):
            client.update_model_version(MODEL, str(version), markdown)


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


@contextlib.contextmanager
def client_of(workspace: Workspace) -> Iterator["MlflowClient"]:
    """A client of the workspace's registry; what MLflow raises becomes one line."""
    uri = tracking.tracking_uri(workspace.root)
    if uri.startswith("http"):
        try:
            httpx.get(f"{uri.rstrip('/')}/health", timeout=10, verify=uri.startswith("https") and _tls())
        except (httpx.HTTPError, OSError) as error:
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


def _tls() -> ssl.SSLContext | bool:
    """How a server's certificate is checked: by the variables that MLflow's own client goes by. Raises OSError."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return False
    names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    name = next((name for name in names if os.environ.get(name)), "")
    bundle = os.environ.get(name)
    own = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    if bundle is None and own is None:
        return True
    if bundle and not os.path.exists(bundle):
        raise FileNotFoundError(f"{name} names {bundle}, which is not there")
    folder = bundle is not None and os.path.isdir(bundle)
    context = ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    if own:
        context.load_cert_chain(own)
    return context


def _fetch(version: int, part: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True, exist_ok=True)
    uri = f"models:/{MODEL}/{version}/artifacts/{part}"
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except Exception as error:
        # MLflow tells what the system said of a file as text, whatever it was.
        said = re.search(r"\[Errno (\d+)\]", str(error))
        if said and int(said[1]) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(f"could not fetch version {version} to {folder}: {os.strerror(int(said[1]))}") from error
        raise


def golden_pictures(saved_model: Path) -> list[bytes]:
    """The photos of a SavedModel's golden pairs."""
    pairs = json.loads((saved_model / "assets.extra" / "golden.json").read_text())["pairs"]
    return [base64.b64decode(pair["photo_bytes"]) for pair in pairs]


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
