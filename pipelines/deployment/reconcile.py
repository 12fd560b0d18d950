"""Make the model server equal to the registry's aliases: `champion` serves as `stable`, `challenger` as `canary`.

In rounds: observation.py observes and plans, here the plan is carried out. It works whether a server runs or not, and
may be killed and started again at any point.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy.engine import Engine

from pipelines.database.engine import opened
from pipelines.deployment.history import (
    DEPLOYED,
    FAILED,
    Failure,
    read_failures,
    read_history,
    record,
    served_at,
    write_failures,
)
from pipelines.deployment.models_config import (
    Served,
    config_of,
    config_text,
    folders_of,
    read_config,
    write_config,
)
from pipelines.deployment.observation import Observation, fetched_versions, observe, plan_deployment
from pipelines.deployment.plan import LABELS, Configure, Confirm, Fetch, Plan, Remove, Step, WaitDropped, WaitLoaded
from pipelines.deployment.proving import prove
from pipelines.deployment.steps import (
    POLL_SECONDS,
    DeployFailed,
    Prove,
    confirm,
    fetch,
    remove,
    wait_dropped,
    wait_loaded,
)
from pipelines.registry import connection
from pipelines.registry import versions as registry
from pipelines.workspace import lock
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings

Changes = Mapping[str, tuple[int | None, int]]
"""Alias -> the version that its label named before, and the one that it is to name."""


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


@dataclass(frozen=True)
class _Run:
    """One run of deploy: what its steps act on and are told."""

    workspace: Workspace
    settings: Settings
    engine: Engine
    say: Callable[[str], None]
    prove: Prove


def deploy(
    workspace: Workspace,
    settings: Settings,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
    retry: bool = False,
    prove: Prove = prove,
) -> Deployment:
    """Bring models.config, version folders and running servers to what the aliases say; `say` gets a line a step.

    A version that fails leaves its label where it was, is tagged so and is not tried again until its alias has named
    another version, or with `retry`; the other alias is served all the same, and the failure is raised at the end.
    `prove` is what a version must pass before its folder takes its place.

    Raises RegistryUnreachable, DeployFailed, NotProven, BadInput (the product database, which keeps the history).
    """
    workspace.serving.mkdir(parents=True, exist_ok=True)
    with _deploying_alone(workspace):
        if not dry_run:
            _clear_leftovers(workspace)
            _correct_base_path(workspace)
        observation = observe(workspace, settings)
        retried = observation.failures if retry else {}
        if not dry_run:
            _remove_failed_folders(workspace, observation.served, retried.values())
            _forget(workspace, observation, retry)
        if retry:
            observation = replace(observation, failures={}, folders=fetched_versions(workspace))
        planned = plan_deployment(workspace, observation)
        for warning in planned.warnings:
            say(f"WARNING: {warning}")
        if dry_run or not planned.steps:
            return Deployment(planned, dict(observation.served.labels), list(observation.servers))
        with opened(workspace.database_url) as engine:
            _complete_history(engine, observation.served)  # without a history nothing is deployed
            if retried and observation.servers:
                _wait_until_read(config_of(workspace))
            return _reconcile(_Run(workspace, settings, engine, say, prove), observation, planned)


def forget_failures(workspace: Workspace, settings: Settings) -> None:
    """Forget each failure whose alias has named another version since, as deploy does. Raises RegistryUnreachable."""
    with _deploying_alone(workspace):
        _forget(workspace, observe(workspace, settings))


def _deploying_alone(workspace: Workspace) -> contextlib.AbstractContextManager[None]:
    return lock.exclusive(workspace.serving / "deploy.lock")


def _forget(workspace: Workspace, observation: Observation, retry: bool = False) -> None:
    """Forget the failures that stand no longer; all of them with `retry`."""
    failures = {} if retry else observation.standing_failures
    if failures != observation.failures:
        write_failures(workspace, failures)


def _reconcile(run: _Run, observation: Observation, planned: Plan) -> Deployment:
    """Carry out the plan, and what is still to do after it, round by round. Raises what a step raised."""
    error: Exception | None = None
    while planned.steps:
        fetches = [step for step in planned.steps if isinstance(step, Fetch)]
        pending = dict(planned.changes)
        try:
            served = _carry_out(run, observation, fetches or planned.steps, pending)
        except StepFailed as stopped:
            error = error or stopped.error
            if not _remember(run, pending, stopped):
                raise stopped.error from None
        else:
            if not (fetches or planned.partial):
                observation = replace(observation, config=served)
                break
        observation = observe(run.workspace, run.settings)  # fetching takes minutes: what serves may have changed
        _forget(run.workspace, observation)
        planned = plan_deployment(run.workspace, observation)
    if error is not None:
        raise error
    return Deployment(planned, dict(observation.served.labels), list(observation.servers))


def _carry_out(
    run: _Run, observation: Observation, steps: Sequence[Step], pending: dict[str, tuple[int | None, int]]
) -> Served:
    """Each step in its order; what models.config asks for afterwards.

    A change that has come to pass is recorded at once, and leaves `pending`. Raises StepFailed.
    """
    workspace, load_seconds = run.workspace, run.settings.load_seconds
    before = served = observation.served
    for position, step in enumerate(steps):
        try:
            match step:
                case Fetch(version):
                    fetch(workspace, version, run.prove, run.settings.latency_ms)
                case Configure(config):
                    write_config(config_of(workspace), config, folders_of(workspace))
                    served = config
                case WaitLoaded(versions):
                    with _restoring_labels(workspace, before, served):
                        for server in observation.servers:
                            wait_loaded(server, versions, load_seconds)
                case Confirm(label, version):
                    with _restoring_labels(workspace, before, served):
                        for server in observation.servers:
                            confirm(server, label, folders_of(workspace) / str(version), load_seconds)
                case WaitDropped(versions):
                    for server in observation.servers:
                        wait_dropped(server, versions)
                case Remove(version):
                    remove(workspace, version, run.say)
        except OSError as error:
            message = f"could not {step}: {error.strerror or error} ({error.filename})"
            raise StepFailed(step, DeployFailed(message)) from error
        except Exception as error:
            raise StepFailed(step, error) from error
        run.say(f"deploy: {step}")
        unconfirmed = {later.label for later in steps[position + 1 :] if isinstance(later, Confirm)}
        moved = {label: version for label, version in served.labels.items() if label not in unconfirmed}
        done = {alias: change for alias, change in pending.items() if moved.get(LABELS[alias]) == change[1]}
        if done:
            record(run.engine, done, DEPLOYED)
            _tag_deployed(workspace, done)
            for alias in done:
                del pending[alias]
            labels = {LABELS[alias]: new for alias, (_, new) in done.items()}
            before = Served(served.versions, {**before.labels, **labels})
    return served


@contextlib.contextmanager
def _restoring_labels(workspace: Workspace, before: Served, served: Served) -> Iterator[None]:
    """On an error let the labels name what they named before, in place of what is `served`.

    Where they had moved, the new versions stay loaded: a server may drop a version sooner than it moves a label.
    """
    try:
        yield
    except Exception:
        versions = before.versions if served.labels == before.labels else served.versions
        write_config(config_of(workspace), Served(versions, before.labels), folders_of(workspace))
        raise


def _remember(run: _Run, pending: Changes, stopped: StepFailed) -> bool:
    """Record that the plan failed: in the history, a tag, and as not to be tried again; whether the last was done.

    Where MLflow broke off, which says nothing about a version, only the history has it.
    """
    reason = " ".join(str(stopped.error).split()) or type(stopped.error).__name__
    changes = dict(pending)
    if stopped.version is not None:
        changes = {alias: change for alias, change in pending.items() if change[1] == stopped.version}
    record(run.engine, changes, FAILED, reason)
    if isinstance(stopped.error, connection.RegistryUnreachable) or not changes:
        return False
    failures = {alias: Failure(new, reason) for alias, (_, new) in changes.items()}
    try:
        write_failures(run.workspace, read_failures(run.workspace) | failures)
    except OSError:  # a full disk: the reason is raised all the same, and the next run tries again
        written = False
    else:
        written = True
    with contextlib.suppress(connection.RegistryUnreachable):
        for failure in failures.values():
            registry.set_tags(run.workspace, failure.version, {"deployment": f"failed: {reason}"[:5000]})
    return written


def _tag_deployed(workspace: Workspace, changes: Changes) -> None:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(connection.RegistryUnreachable):
        for alias, (_, new) in changes.items():
            registry.set_tags(workspace, new, {"deployment": f"deployed as {LABELS[alias]} at {now}"})


def _complete_history(engine: Engine, served: Served) -> None:
    """Record what labels name and the history does not say: a deploy ended between the one and the other.

    Raises DatabaseFailed.
    """
    recorded = {label: change.to_version for label, change in served_at(read_history(engine)).items()}
    missing = {
        alias: (recorded.get(label), served.labels[label])
        for alias, label in LABELS.items()
        if label in served.labels and served.labels[label] != recorded.get(label)
    }
    record(engine, missing, DEPLOYED, "found in service, and not written down before")


def _clear_leftovers(workspace: Workspace) -> None:
    """Delete what a deploy that was killed had half fetched or half removed."""
    for path in [*workspace.serving.glob(".fetch-*"), *workspace.serving.glob(".remove-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _correct_base_path(workspace: Workspace) -> None:
    """models.config holds an absolute path: write it again where the workspace has moved."""
    config = config_of(workspace)
    served = read_config(config)
    if served and config.read_text() != config_text(served, folders_of(workspace)):
        write_config(config, served, folders_of(workspace))


def _remove_failed_folders(workspace: Workspace, served: Served, failures: Iterable[Failure]) -> None:
    """Remove the folders of versions that failed and are not served: they are fetched and proven anew."""
    for failure in failures:
        if failure.version not in served.versions and (folders_of(workspace) / str(failure.version)).is_dir():
            remove(workspace, failure.version)


def _wait_until_read(config: Path) -> None:
    """Let models.config stand until servers have read it: without, they would not try a version again."""
    age = time.time() - config.stat().st_mtime if config.exists() else POLL_SECONDS
    if 0 <= age < POLL_SECONDS:
        time.sleep(POLL_SECONDS - age)
