"""What one round of deploy goes by, observed once: the registry, what is on disk, running servers, past failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.deployment.addresses import known_servers
from pipelines.deployment.history import Failure, read_failures
from pipelines.deployment.models_config import Served, config_of, folders_of, read_config
from pipelines.deployment.plan import Actual, Plan, plan
from pipelines.deployment.steps import DeployFailed, ServerVersions, versions_on
from pipelines.registry.versions import ModelVersion, all_versions
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.saved_model import assets


@dataclass(frozen=True)
class Observation:
    """What the registry asks for, what models.config, folders and running servers have, and which versions failed."""

    registered: Sequence[ModelVersion]
    config: Served | None
    folders: frozenset[int]
    servers: Mapping[str, ServerVersions]
    """Address -> the versions of the server that runs there."""
    failures: Mapping[str, Failure]
    """Alias -> the version that failed under it, as the last deploy left it."""

    @property
    def desired(self) -> dict[str, int]:
        """Alias -> the version that it names."""
        return {alias: version.version for version in self.registered for alias in version.aliases}

    @property
    def standing_failures(self) -> dict[str, Failure]:
        """The failures whose alias still names the version that failed: it is not tried again."""
        desired = self.desired
        return {alias: failure for alias, failure in self.failures.items() if desired.get(alias) == failure.version}

    @property
    def served(self) -> Served:
        """What models.config asks for; nothing where it is missing."""
        return self.config or Served()

    @property
    def actual(self) -> Actual:
        """What a plan begins from. Of several servers, what all of them have."""
        servers = self.servers.values()
        available = frozenset.intersection(*(server.available for server in servers)) if servers else None
        known = frozenset.intersection(*(server.known for server in servers)) if servers else None
        return Actual(self.config, self.folders, available, known)


def observe(workspace: Workspace, settings: Settings) -> Observation:
    """Look at everything once; nothing changes by it. Raises RegistryUnreachable."""
    registered = all_versions(workspace)
    failures = read_failures(workspace)
    servers = _running_servers(workspace, settings)
    return Observation(registered, read_config(config_of(workspace)), fetched_versions(workspace), servers, failures)


def fetched_versions(workspace: Workspace) -> frozenset[int]:
    """The versions that have a folder."""
    return frozenset(int(path.name) for path in folders_of(workspace).glob("*") if path.name.isdigit())


def plan_deployment(workspace: Workspace, observation: Observation) -> Plan:
    """The steps to what the aliases say, with a warning of each version that failed. Raises DeployFailed."""
    failures = observation.standing_failures
    failed = {alias: failure.version for alias, failure in failures.items()}
    planned = plan(observation.desired, observation.actual, failed=failed)
    _refuse_other_models(workspace, observation)
    warnings = [
        f"{alias} names version {failure.version}, which failed and is not tried again: {failure.reason}; let {alias} "
        "name another version, or repair it and run `photoproof deploy --retry`"
        for alias, failure in failures.items()
    ]
    return replace(planned, warnings=[*planned.warnings, *warnings])


def _running_servers(workspace: Workspace, settings: Settings) -> dict[str, ServerVersions]:
    """The servers that run, with their versions.

    Of servers that the settings list, none may lag once one answers: one that does not answer has nothing yet.
    """
    versions = {address: versions_on(address) for address in known_servers(workspace, settings)}
    running = {address: server for address, server in versions.items() if server is not None}
    if running and settings.server_list:
        return {address: server or ServerVersions() for address, server in versions.items()}
    return running


def _refuse_other_models(workspace: Workspace, observation: Observation) -> None:
    """Refuse a folder of another model under the number of a version to serve: the registry was started anew."""
    registered = {version.version: version.tags.get("model_id") for version in observation.registered}
    for version in sorted(observation.folders.intersection(observation.desired.values())):
        folder = folders_of(workspace) / str(version)
        model_id = assets.read_facts(folder)["model_id"]
        if registered.get(version) not in (None, model_id):
            raise DeployFailed(
                f"version {version} is model {registered[version]} in MLflow, but {folder} holds model {model_id}: "
                f"was the registry started anew? Stop the server and remove {workspace.serving}"
            )
