"""Make the model server equal to the registry's aliases: `champion` serves as `stable`, `challenger` as `canary`.

pipelines/deploy_plan.py says what has to happen; here it is carried out. It works whether a server runs or not, and
may be killed and started again at any point.
"""

import base64
import contextlib
import fcntl
import getpass
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from photoproof import (
    DeadlineExceeded,
    InvalidImage,
    ModelNotFound,
    PhotoproofError,
    ServerUnavailable,
    Verifier,
)
from photoproof.pictures import prepare
from pipelines import database, registry
from pipelines.deploy_plan import Actual, Await, Configure, Confirm, Fetch, Plan, Remove, plan
from pipelines.models_config import Served, config_text, read_config, write_config
from pipelines.registry import MODEL
from pipelines.serve import known_servers
from pipelines.workspace import Workspace

LOAD_SECONDS = 180
"""How long a server may take to load a version."""

LABEL_SECONDS = 60
"""How long a server may take to answer by a label that has moved."""

TOLERANCE = 1e-4
"""Of a golden pair's scores."""


class DeployFailed(RuntimeError):
    """A version could not be put into service; what served before still does."""

    exit_code = 1


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


def deploy(workspace: Workspace, dry_run: bool = False, say: Callable[[str], None] = print) -> Deployment:
    """Bring models.config, version folders and running servers to what the aliases say; `say` gets a line a step.

    Raises RegistryUnreachable, DeployFailed, BadInput (the product database, which keeps the history).
    """
    workspace.serving.mkdir(parents=True, exist_ok=True)
    with _only_one(workspace):
        desired = registry.versions_by_alias(workspace)
        _write_where_it_lies(workspace)
        actual, servers = observe(workspace)
        _refuse_other_models(workspace, desired, actual)
        planned = plan(desired, actual)
        for warning in planned.warnings:
            say(f"WARNING: {warning}")
        labels = dict((actual.config or Served()).labels)
        if dry_run or not planned.steps:
            return Deployment(planned, labels, servers)
        engine = database.connect(workspace.database_url)
        try:
            _carry_out(workspace, planned, servers, say)
        except Exception as error:
            _record(engine, planned, "failed", " ".join(str(error).split()))
            raise
        else:
            _record(engine, planned, "deployed", "")
        finally:
            engine.dispose()
        return Deployment(planned, dict((read_config(_config(workspace)) or Served()).labels), servers)


def observe(workspace: Workspace) -> tuple[Actual, list[str]]:
    """What models.config asks for, which folders are there, what running servers have; and those servers."""
    servers, available = [], None
    for address in known_servers(workspace):
        has = _available(address)
        if has is not None:
            servers.append(address)
            available = has if available is None else available & has
    folders = frozenset(int(path.name) for path in _folders(workspace).glob("*") if path.name.isdigit())
    return Actual(read_config(_config(workspace)), folders, available), servers


def _carry_out(workspace: Workspace, planned: Plan, servers: Sequence[str], say: Callable[[str], None]) -> None:
    before = read_config(_config(workspace)) or Served()
    for step in planned.steps:
        match step:
            case Fetch(version):
                _fetch(workspace, version)
            case Configure(to):
                write_config(_config(workspace), to, _folders(workspace))
            case Await(versions):
                with _put_back(workspace, before):
                    for server in servers:
                        _await(server, versions)
            case Confirm(label, version):
                with _put_back(workspace, before):
                    for server in servers:
                        _confirm(server, label, _folders(workspace) / str(version))
            case Remove(version):
                shutil.rmtree(_folders(workspace) / str(version))
        say(f"deploy: {step}")


@contextlib.contextmanager
def _put_back(workspace: Workspace, before: Served) -> Iterator[None]:
    """On an error let the labels name what they named before.

    Where they had moved, the new versions stay loaded: a server may drop a version sooner than it moves a label.
    """
    try:
        yield
    except Exception:
        now = read_config(_config(workspace)) or Served()
        versions = before.versions if now.labels == before.labels else now.versions
        write_config(_config(workspace), Served(versions, before.labels), _folders(workspace))
        raise


def _fetch(workspace: Workspace, version: int) -> None:
    """A version's folder from MLflow, in place by rename once its bytes are proven to be those registered."""
    part = workspace.serving / f".fetch-{version}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        wanted = registry.tags_of(workspace, version).get("saved_model_sha256")
        if wanted is None:
            raise DeployFailed(
                f"version {version} has no tag saved_model_sha256: it was not registered by a retraining"
            )
        fetched = registry.download(workspace, version, part)
        if registry.folder_sha256(fetched) != wanted:
            raise DeployFailed(f"version {version} as MLflow has it is not what was registered: its SHA-256 differs")
        _folders(workspace).mkdir(exist_ok=True)
        fetched.rename(_folders(workspace) / str(version))
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _await(server: str, versions: frozenset[int]) -> None:
    """Wait until a server answers for the versions. Raises DeployFailed where one does not load."""
    deadline = time.monotonic() + LOAD_SECONDS
    while True:
        missing = set(versions)
        with Verifier(server, label=None, timeout=5) as verifier, contextlib.suppress(PhotoproofError):
            for one in verifier.status().versions:
                if one.version in missing and one.error:
                    raise DeployFailed(f"version {one.version} does not load on {server}: {one.error[:300]}")
                if one.state == "AVAILABLE":
                    missing.discard(one.version)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise DeployFailed(
                f"{server} did not load version {', '.join(map(str, sorted(missing)))} within {LOAD_SECONDS} s: "
                "does it serve this workspace?"
            )
        time.sleep(0.2)


def _confirm(server: str, label: str, folder: Path) -> None:
    """Wait until a server answers by a label with the model in `folder`, and hold its answer to the golden pair."""
    model_id = registry.read_facts(folder)["model_id"]
    pair = golden_pair(folder)
    if pair is None:
        return
    deadline = time.monotonic() + LABEL_SECONDS
    with Verifier(server, label=label, timeout=10) as verifier:
        while True:
            said = "it does not answer"
            try:
                verdict = verifier.verify(pair.original, pair.photo)
                if verdict.model_id == model_id:
                    break
                said = f"model {verdict.model_id} still answers"
            except (ModelNotFound, ServerUnavailable, DeadlineExceeded) as error:
                said = str(error)
            if time.monotonic() > deadline:
                raise DeployFailed(
                    f"{server} has not moved {label} to model {model_id} within {LABEL_SECONDS} s: {said}"
                )
            time.sleep(0.2)
    for name in ("similarity", "probability"):
        measured, golden = getattr(verdict, name), getattr(pair, name)
        if abs(measured - golden) > TOLERANCE:
            raise DeployFailed(
                f"version {folder.name} does not reproduce its golden pair on {server}: {name} {measured:.6f}, "
                f"evaluation measured {golden:.6f}"
            )


@dataclass(frozen=True)
class GoldenPair:
    """Two pictures and the scores that evaluation measured of them."""

    original: bytes
    photo: bytes
    similarity: float
    probability: float


def golden_pair(folder: Path) -> GoldenPair | None:
    """The first golden pair of a SavedModel that the client sends as it is; None where there is none."""
    try:
        pairs = json.loads((folder / "assets.extra" / "golden.json").read_text())["pairs"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    for pair in pairs:
        original, photo = (base64.b64decode(pair[name]) for name in ("original_bytes", "photo_bytes"))
        with contextlib.suppress(InvalidImage):
            if all(prepare(picture).image_bytes == picture for picture in (original, photo)):
                return GoldenPair(original, photo, pair["similarity"], pair["probability"])
    return None


def _available(server: str) -> frozenset[int] | None:
    """The versions that a server answers for; None where no server of the model runs."""
    try:
        with Verifier(server, label=None, timeout=3, retries=0) as verifier:
            return frozenset(one.version for one in verifier.status().versions if one.state == "AVAILABLE")
    except PhotoproofError:
        return None


def _refuse_other_models(workspace: Workspace, desired: dict[str, int], actual: Actual) -> None:
    """A folder of another model under a wanted version's number: the registry was started anew."""
    for version in sorted(set(desired.values()) & actual.folders):
        here = registry.read_facts(_folders(workspace) / str(version))["model_id"]
        there = registry.tags_of(workspace, version).get("model_id")
        if there is not None and here != there:
            raise DeployFailed(
                f"version {version} is model {there} in MLflow, but {_folders(workspace) / str(version)} holds "
                f"model {here}: was the registry started anew? Stop the server and remove {workspace.serving}"
            )


def _write_where_it_lies(workspace: Workspace) -> None:
    """models.config holds an absolute path: write it again where the workspace has moved."""
    served = read_config(_config(workspace))
    if served and _config(workspace).read_text() != config_text(served, _folders(workspace)):
        write_config(_config(workspace), served, _folders(workspace))


def _record(engine: sa.Engine, planned: Plan, outcome: str, reason: str) -> None:
    rows = [
        {"who": getpass.getuser(), "alias": alias, "from_version": old, "to_version": new}
        | {"outcome": outcome, "reason": reason}
        for alias, (old, new) in planned.changes.items()
    ]
    if rows:
        with database.transaction(engine) as connection:
            connection.execute(sa.insert(database.deployments), rows)


@contextlib.contextmanager
def _only_one(workspace: Workspace) -> Iterator[None]:
    """A second deployment waits for the first."""
    with (workspace.serving / "deploy.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _config(workspace: Workspace) -> Path:
    return workspace.serving / "models.config"


def _folders(workspace: Workspace) -> Path:
    return workspace.serving / MODEL
