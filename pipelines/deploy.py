"""Make the model server equal to the registry's aliases: `champion` serves as `stable`, `challenger` as `canary`.

pipelines/deploy_plan.py says what has to happen; here it is carried out. It works whether a server runs or not, and
may be killed and started again at any point.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from photoproof import PhotoproofError, Verifier
from pipelines import database, deploy_steps, lock, registry
from pipelines.deploy_plan import LABELS, Actual, Await, Configure, Confirm, Fetch, Plan, Remove, Settle, Step, plan
from pipelines.deploy_steps import DeployFailed, Prove, config_of, folders_of
from pipelines.deployments import DEPLOYED, FAILED, Failure, read_failures, record, write_failures
from pipelines.models_config import Served, config_text, read_config, write_config
from pipelines.prove import prove
from pipelines.serve import known_servers
from pipelines.workspace import Settings, Workspace


class StepFailed(Exception):
    """A step of a plan that could not be carried out, and why."""

    def __init__(self, step: Step, error: Exception):
        super().__init__(f"{step}: {error}")
        self.step = step
        self.error = error

    @property
    def version(self) -> int | None:
        """The version that is to blame, where it is one."""
        return getattr(self.error, "version", None) or getattr(self.step, "version", None)


@dataclass(frozen=True)
class Deployment:
    """What was planned, and what is served now: label -> version, by which running servers (none: no server runs)."""

    plan: Plan
    labels: dict[str, int]
    servers: Sequence[str]

    def __str__(self) -> str:
        if not self.labels:
            return "nothing is served: let an alias name a version with `photoproof promote VERSION`"
        labels = ", ".join(f"{label} is version {version}" for label, version in sorted(self.labels.items()))
        where = f"on {', '.join(self.servers)}" if self.servers else "no server runs: `photoproof serve` starts one"
        return f"{labels}; {where}"


def look(workspace: Workspace, retry: bool = False, keep: bool = True) -> Deployment:
    """What deploy would do, and what serves now. Changes nothing but the memory of failures.

    A failure is forgotten once its alias names another version, or with `retry`; without `keep` only for this look.
    Raises RegistryUnreachable, DeployFailed.
    """
    registered = registry.all_versions(workspace)
    desired = {alias: one.version for one in registered for alias in one.aliases}
    before = read_failures(workspace)
    failures = {a: one for a, one in before.items() if not retry and desired.get(a) == one.version}
    if keep and failures != before:
        write_failures(workspace, failures)
    actual, servers = observe(workspace)
    planned = plan(desired, actual, failed={alias: one.version for alias, one in failures.items()})
    _refuse_other_models(workspace, registered, set(desired.values()), actual)
    warnings = [*planned.warnings]
    for alias, one in failures.items():
        warnings.append(
            f"{alias} names version {one.version}, which failed and is not tried again: {one.reason}; let {alias} name "
            "another version, or mend it and say `photoproof deploy --retry`"
        )
    planned = Plan(planned.steps, planned.changes, warnings)
    return Deployment(planned, dict((actual.config or Served()).labels), servers)


def deploy(
    workspace: Workspace,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    retry: bool = False,
    prove: Prove = prove,
) -> Deployment:
    """Bring models.config, version folders and running servers to what the aliases say; `say` gets a line a step.

    A version that fails leaves its label where it was, is tagged so and is not tried again (`look` says until when);
    the other alias is served all the same, and the failure is raised at the end. `prove` is what a version must pass
    before its folder takes its place.

    Raises RegistryUnreachable, DeployFailed, NotProven, BadInput (the product database, which keeps the history).
    """
    workspace.serving.mkdir(parents=True, exist_ok=True)
    with lock.only_one(workspace.serving / "deploy.lock"):
        if not dry_run:
            _write_where_it_lies(workspace)
        seen, failed = look(workspace, retry, keep=not dry_run), None
        for warning in seen.plan.warnings:
            say(f"WARNING: {warning}")
        if seen.plan.steps and not dry_run:
            database.connect(workspace.database_url).dispose()  # what can't be written down is not done
        while seen.plan.steps and not dry_run:
            try:
                _carry_out(workspace, seen.plan, seen.servers, say, prove)
            except StepFailed as stopped:
                failed = failed or stopped.error
                if not _remember(workspace, seen.plan, stopped):
                    raise stopped.error from None
            else:
                record(workspace, seen.plan.changes, DEPLOYED)
                _tag_deployed(workspace, seen.plan.changes)
                break
            seen = look(workspace)
        if failed is not None:
            raise failed
        return Deployment(seen.plan, dict((read_config(config_of(workspace)) or Served()).labels), seen.servers)


def observe(workspace: Workspace) -> tuple[Actual, list[str]]:
    """What models.config asks for, which folders are there, what running servers have; and those servers.

    Of servers that the settings list, none may lag once one answers: one that does not answer has nothing yet.
    """
    listed = Settings().server_list
    has = {address: _available(address) for address in listed or known_servers(workspace)}
    running = {address: versions for address, versions in has.items() if versions is not None}
    if running and listed:
        running = {address: versions or frozenset() for address, versions in has.items()}
    available = frozenset.intersection(*running.values()) if running else None
    folders = frozenset(int(path.name) for path in folders_of(workspace).glob("*") if path.name.isdigit())
    return Actual(read_config(config_of(workspace)), folders, available), list(running)


def _carry_out(
    workspace: Workspace, planned: Plan, servers: Sequence[str], say: Callable[[str], None], prove: Prove
) -> None:
    """Each step in its order. Raises StepFailed."""
    before = read_config(config_of(workspace)) or Served()
    for step in planned.steps:
        try:
            match step:
                case Fetch(version):
                    deploy_steps.fetch(workspace, version, prove)
                case Configure(to):
                    write_config(config_of(workspace), to, folders_of(workspace))
                case Await(versions):
                    with _put_back(workspace, before):
                        for server in servers:
                            deploy_steps.wait_for(server, versions)
                case Confirm(label, version):
                    with _put_back(workspace, before):
                        for server in servers:
                            deploy_steps.confirm(server, label, folders_of(workspace) / str(version))
                case Settle(versions):
                    for server in servers:
                        deploy_steps.settle(server, versions)
                case Remove(version):
                    shutil.rmtree(folders_of(workspace) / str(version))
        except OSError as error:
            said = f"could not {step}: {error.strerror or error} ({error.filename})"
            raise StepFailed(step, DeployFailed(said)) from error
        except Exception as error:
            raise StepFailed(step, error) from error
        say(f"deploy: {step}")


@contextlib.contextmanager
def _put_back(workspace: Workspace, before: Served) -> Iterator[None]:
    """On an error let the labels name what they named before.

    Where they had moved, the new versions stay loaded: a server may drop a version sooner than it moves a label.
    """
    try:
        yield
    except Exception:
        now = read_config(config_of(workspace)) or Served()
        versions = before.versions if now.labels == before.labels else now.versions
        write_config(config_of(workspace), Served(versions, before.labels), folders_of(workspace))
        raise


def _remember(workspace: Workspace, planned: Plan, stopped: StepFailed) -> bool:
    """Write down that the plan failed: a row of the history, a tag, and what is not tried again; whether there is such.

    Nothing is remembered where MLflow broke off, which says nothing about a version.
    """
    reason = " ".join(str(stopped.error).split()) or type(stopped.error).__name__
    blamed = {alias: change for alias, change in planned.changes.items() if change[1] == stopped.version}
    changes = blamed or dict(planned.changes)
    record(workspace, changes, FAILED, reason)
    if isinstance(stopped.error, registry.RegistryUnreachable) or not changes:
        return False
    failures = {alias: Failure(new, reason) for alias, (_, new) in changes.items()}
    try:
        write_failures(workspace, read_failures(workspace) | failures)
    except OSError:  # a full disk: the reason is told all the same, and the next run tries again
        kept = False
    else:
        kept = True
    with contextlib.suppress(registry.RegistryUnreachable):
        for one in failures.values():
            registry.set_tags(workspace, one.version, {"deployment": f"failed: {reason}"[:5000]})
    return kept


def _tag_deployed(workspace: Workspace, changes: Mapping[str, tuple[int | None, int]]) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(registry.RegistryUnreachable):
        for alias, (_, new) in changes.items():
            registry.set_tags(workspace, new, {"deployment": f"deployed as {LABELS[alias]} at {now}"})


def _available(server: str) -> frozenset[int] | None:
    """The versions that a server answers for; None where no server of the model runs."""
    try:
        with Verifier(server, label=None, timeout=3, retries=0) as verifier:
            return frozenset(one.version for one in verifier.status().versions if one.state == "AVAILABLE")
    except PhotoproofError:
        return None


def _refuse_other_models(
    workspace: Workspace, registered: Sequence[registry.Version], wanted: set[int], actual: Actual
) -> None:
    """A folder of another model under a wanted version's number: the registry was started anew."""
    there = {one.version: one.tags.get("model_id") for one in registered}
    for version in sorted(wanted & actual.folders):
        here = registry.read_facts(folders_of(workspace) / str(version))["model_id"]
        if there.get(version) not in (None, here):
            raise DeployFailed(
                f"version {version} is model {there[version]} in MLflow, but {folders_of(workspace) / str(version)} "
                f"holds model {here}: was the registry started anew? Stop the server and remove {workspace.serving}"
            )


def _write_where_it_lies(workspace: Workspace) -> None:
    """models.config holds an absolute path: write it again where the workspace has moved."""
    served = read_config(config_of(workspace))
    if served and config_of(workspace).read_text() != config_text(served, folders_of(workspace)):
        write_config(config_of(workspace), served, folders_of(workspace))
