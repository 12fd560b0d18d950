"""Make the model server equal to the registry's aliases: `champion` serves as `stable`, `challenger` as `canary`.

pipelines/deployment/plan.py says what has to happen; here it is carried out. It works whether a server runs or not, and
may be killed and started again at any point.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pipelines.deployment import steps as deploy_steps
from pipelines.deployment.addresses import known_servers
from pipelines.deployment.history import (
    DEPLOYED,
    FAILED,
    Failure,
    history,
    read_failures,
    record,
    served_at,
    write_failures,
)
from pipelines.deployment.models_config import Served, config_text, read_config, write_config
from pipelines.deployment.plan import LABELS, Actual, Await, Configure, Confirm, Fetch, Plan, Remove, Settle, Step, plan
from pipelines.deployment.proving import prove
from pipelines.deployment.steps import DeployFailed, Prove, config_of, folders_of
from pipelines.registry import connection
from pipelines.registry import versions as registry
from pipelines.workspace import lock
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.saved_model import assets


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
    planned = replace(planned, warnings=warnings)
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
    with lock.exclusive(workspace.serving / "deploy.lock"):
        if not dry_run:
            _clear_leftovers(workspace)
            _write_where_it_lies(workspace)
        tried = read_failures(workspace) if retry else {}
        if not dry_run:
            _remove_what_failed(workspace, tried.values())
        seen, failed = look(workspace, retry, keep=not dry_run), None
        for warning in seen.plan.warnings:
            say(f"WARNING: {warning}")
        if seen.plan.steps and not dry_run:
            _catch_up(workspace)  # what can't be written down is not done
            if tried and seen.servers:
                _let_servers_read(config_of(workspace))
        while seen.plan.steps and not dry_run:
            fetches = [step for step in seen.plan.steps if isinstance(step, Fetch)]
            pending = dict(seen.plan.changes)
            try:
                _carry_out(workspace, fetches or seen.plan.steps, pending, seen.servers, say, prove)
            except StepFailed as stopped:
                failed = failed or stopped.error
                if not _remember(workspace, pending, stopped):
                    raise stopped.error from None
            else:
                if not (fetches or seen.plan.partial):
                    break
            seen = look(workspace)  # after minutes of fetching, what serves may be another
        if failed is not None:
            raise failed
        return Deployment(seen.plan, dict((read_config(config_of(workspace)) or Served()).labels), seen.servers)


def observe(workspace: Workspace) -> tuple[Actual, list[str]]:
    """What models.config asks for, which folders are there, what running servers have; and those servers.

    Of servers that the settings list, none may lag once one answers: one that does not answer has nothing yet.
    """
    has = {address: deploy_steps.versions_on(address) for address in known_servers(workspace)}
    running = {address: versions for address, versions in has.items() if versions is not None}
    if running and Settings().server_list:
        running = {address: versions or deploy_steps.Versions() for address, versions in has.items()}
    available = frozenset.intersection(*(one.available for one in running.values())) if running else None
    asked = frozenset.intersection(*(one.asked for one in running.values())) if running else None
    folders = frozenset(int(path.name) for path in folders_of(workspace).glob("*") if path.name.isdigit())
    return Actual(read_config(config_of(workspace)), folders, available, asked), list(running)


def _carry_out(
    workspace: Workspace,
    steps: Sequence[Step],
    pending: dict[str, tuple[int | None, int]],
    servers: Sequence[str],
    say: Callable[[str], None],
    prove: Prove,
) -> None:
    """Each step in its order. A change that has come to pass is written down at once, and leaves `pending`.

    Raises StepFailed.
    """
    before = read_config(config_of(workspace)) or Served()
    for at, step in enumerate(steps):
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
                    deploy_steps.remove(workspace, version, say)
        except OSError as error:
            said = f"could not {step}: {error.strerror or error} ({error.filename})"
            raise StepFailed(step, DeployFailed(said)) from error
        except Exception as error:
            raise StepFailed(step, error) from error
        say(f"deploy: {step}")
        now = read_config(config_of(workspace)) or Served()
        unsure = {later.label for later in steps[at + 1 :] if isinstance(later, Confirm)}
        sure = {label: version for label, version in now.labels.items() if label not in unsure}
        done = {alias: change for alias, change in pending.items() if sure.get(LABELS[alias]) == change[1]}
        if done:
            record(workspace, done, DEPLOYED)
            _tag_deployed(workspace, done)
            for alias in done:
                del pending[alias]
            before = Served(now.versions, {**before.labels, **{LABELS[alias]: new for alias, (_, new) in done.items()}})


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


def _remember(workspace: Workspace, pending: Mapping[str, tuple[int | None, int]], stopped: StepFailed) -> bool:
    """Write down that the plan failed: a row of the history, a tag, and what is not tried again; whether there is such.

    Nothing is remembered where MLflow broke off, which says nothing about a version.
    """
    reason = " ".join(str(stopped.error).split()) or type(stopped.error).__name__
    changes = dict(pending)
    if stopped.version is not None:
        changes = {alias: change for alias, change in pending.items() if change[1] == stopped.version}
    record(workspace, changes, FAILED, reason)
    if isinstance(stopped.error, connection.RegistryUnreachable) or not changes:
        return False
    failures = {alias: Failure(new, reason) for alias, (_, new) in changes.items()}
    try:
        write_failures(workspace, read_failures(workspace) | failures)
    except OSError:  # a full disk: the reason is told all the same, and the next run tries again
        kept = False
    else:
        kept = True
    with contextlib.suppress(connection.RegistryUnreachable):
        for one in failures.values():
            registry.set_tags(workspace, one.version, {"deployment": f"failed: {reason}"[:5000]})
    return kept


def _tag_deployed(workspace: Workspace, changes: Mapping[str, tuple[int | None, int]]) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(connection.RegistryUnreachable):
        for alias, (_, new) in changes.items():
            registry.set_tags(workspace, new, {"deployment": f"deployed as {LABELS[alias]} at {now}"})


def _catch_up(workspace: Workspace) -> None:
    """Write down what labels name and the history does not say: a deploy ended between the one and the other.

    Raises BadInput, DatabaseFailed.
    """
    served = (read_config(config_of(workspace)) or Served()).labels
    known = {label: change.to_version for label, change in served_at(history(workspace)).items()}
    missing = {
        alias: (known.get(label), served[label])
        for alias, label in LABELS.items()
        if label in served and served[label] != known.get(label)
    }
    record(workspace, missing, DEPLOYED, "found in service, and not written down before")


def _clear_leftovers(workspace: Workspace) -> None:
    """Delete what a deploy that was killed had half fetched or half removed."""
    for path in [*workspace.serving.glob(".fetch-*"), *workspace.serving.glob(".remove-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _let_servers_read(config: Path) -> None:
    """Let models.config stand until servers have read it: without, they would not try a version again."""
    age = time.time() - config.stat().st_mtime if config.exists() else deploy_steps.POLL_SECONDS
    if 0 <= age < deploy_steps.POLL_SECONDS:
        time.sleep(deploy_steps.POLL_SECONDS - age)


def _remove_what_failed(workspace: Workspace, failures: Iterable[Failure]) -> None:
    """Remove the folders of versions that failed and do not serve: they are fetched and proven anew."""
    served = (read_config(config_of(workspace)) or Served()).versions
    for failure in failures:
        folder = folders_of(workspace) / str(failure.version)
        if failure.version not in served and folder.is_dir():
            deploy_steps.remove(workspace, failure.version)


def _refuse_other_models(
    workspace: Workspace, registered: Sequence[registry.ModelVersion], wanted: set[int], actual: Actual
) -> None:
    """A folder of another model under a wanted version's number: the registry was started anew."""
    there = {one.version: one.tags.get("model_id") for one in registered}
    for version in sorted(wanted & actual.folders):
        here = assets.read_facts(folders_of(workspace) / str(version))["model_id"]
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
