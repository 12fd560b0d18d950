"""The registered model `product-encoder` in MLflow: its versions, and the aliases that say which one serves.

Importing MLflow takes seconds, so it is imported where it is first needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.registry.connection import client_of
from pipelines.workspace.places import Workspace
from training.saved_model.assets import MODEL_NAME
from training.stage import tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

MODEL = MODEL_NAME
CHAMPION, CHALLENGER = "champion", "challenger"

_OF_MODEL = f"name = '{MODEL}'"
"""Filter of MLflow's searches."""


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
class ModelVersion:
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
                known = ", ".join(f"{name} (version {named})" for name, named in sorted(aliases.items())) or "none"
                raise VersionNotFound(f"{MODEL} has no alias {version!r}; its aliases: {known}") from None
        get_version(client, number)
        client.set_registered_model_alias(MODEL, alias, str(number))
        return Promoted(alias, number, aliases.get(alias))


def find_version(workspace: Workspace, version: int | None = None) -> Registered:
    """A version, by default the newest. Raises VersionNotFound, RegistryUnreachable."""
    with client_of(workspace) as client:
        if version is None:
            numbers = [int(known.version) for known in client.search_model_versions(_OF_MODEL)]
            if not numbers:
                raise VersionNotFound(f"{MODEL} has no version yet: `photoproof retrain` registers one")
            version = max(numbers)
        return Registered(version, get_version(client, version).tags.get("model_id", ""), new=False)


def versions_by_alias(workspace: Workspace) -> dict[str, int]:
    """The version that each alias names; empty where nothing is registered. Raises RegistryUnreachable."""
    with client_of(workspace) as client:
        return _aliases(client)


def tags_of(workspace: Workspace, version: int) -> dict[str, str]:
    """The tags of a version. Raises VersionNotFound, RegistryUnreachable."""
    with client_of(workspace) as client:
        return dict(get_version(client, version).tags)


def set_tags(workspace: Workspace, version: int, tags: dict[str, str]) -> None:
    """Set tags of a version. Raises RegistryUnreachable."""
    with client_of(workspace) as client:
        for key, value in tags.items():
            client.set_model_version_tag(MODEL, str(version), key, value)


def all_versions(workspace: Workspace) -> list[ModelVersion]:
    """Every version that the registry has, with its tags and aliases. Raises RegistryUnreachable."""
    uri = tracking.tracking_uri(workspace.root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return []  # nothing was ever registered, and asking would make a registry, which takes seconds
    with client_of(workspace) as client:
        names: dict[int, list[str]] = {}
        for alias, version in _aliases(client).items():
            names.setdefault(version, []).append(alias)
        return [
            ModelVersion(int(known.version), dict(known.tags), tuple(sorted(names.get(int(known.version), ()))))
            for known in client.search_model_versions(_OF_MODEL)
        ]


def describe_version(workspace: Workspace, version: int, markdown: str) -> None:
    """Show a text on the version's page, unless a person has written one there. Raises RegistryUnreachable."""
    with client_of(workspace) as client:
        description = get_version(client, version).description
        if not description or description.startswith(f"# {MODEL}"):
            client.update_model_version(MODEL, str(version), markdown)


def get_version(client: "MlflowClient", version: int) -> "MlflowVersion":
    """MLflow's own record of a version. Raises VersionNotFound, which names those that exist."""
    versions = client.search_model_versions(_OF_MODEL)
    for known in versions:
        if int(known.version) == version:
            return known
    numbers = ", ".join(sorted((str(known.version) for known in versions), key=int)) or "none"
    raise VersionNotFound(f"{MODEL} has no version {version}; its versions: {numbers}")


def _aliases(client: "MlflowClient") -> dict[str, int]:
    models = client.search_registered_models(_OF_MODEL)
    return {alias: int(version) for alias, version in models[0].aliases.items()} if models else {}
