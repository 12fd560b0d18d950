"""The steps of a deploy plan, carried out: fetch and prove, wait for servers, see that labels answer rightly."""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from photoproof import DeadlineExceeded, ModelNotFound, PhotoproofError, ServerUnavailable, Verifier
from photoproof.transport.calls import CallFailed
from pipelines.deployment.models_config import folders_of
from pipelines.deployment.proving import TOLERANCE, golden_pair
from pipelines.registry import artifacts
from pipelines.registry import versions as registry
from pipelines.workspace.places import Workspace
from training.saved_model import assets

DROP_SECONDS = 10
"""How long to wait until a server has dropped a version. Only the next change depends on it: later is not a failure."""

POLL_SECONDS = 4
"""How long a server may take to read a new models.config."""

Prove = Callable[[Workspace, Path, int, float], None]
"""What a version must pass: its folder, its number, and the longest that a verdict may take, in milliseconds."""


@dataclass(frozen=True)
class ServerVersions:
    """What a running server has."""

    available: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()
    """Those that it knows it should have, loaded or not."""


class DeployFailed(RuntimeError):
    """A version could not be put into service; what served before still does."""

    exit_code = 1

    def __init__(self, message: str, version: int | None = None):
        super().__init__(message)
        self.version = version


def fetch(workspace: Workspace, version: int, prove: Prove, latency_ms: float) -> None:
    """A version's folder from MLflow, in place by rename once its bytes and its answers are proven.

    Raises DeployFailed, RegistryUnreachable, and what `prove` raises.
    """
    part = workspace.serving / f".fetch-{version}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        registered_sha256 = registry.tags_of(workspace, version).get("saved_model_sha256")
        if registered_sha256 is None:
            raise DeployFailed(
                f"version {version} has no tag saved_model_sha256: it was not registered by a retraining"
            )
        fetched = artifacts.download(workspace, version, part / "download")
        if assets.folder_sha256(fetched) != registered_sha256:
            raise DeployFailed(f"version {version} as MLflow has it is not what was registered: its SHA-256 differs")
        prove(workspace, fetched, version, latency_ms)
        folders_of(workspace).mkdir(exist_ok=True)
        fetched.rename(folders_of(workspace) / str(version))
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove(workspace: Workspace, version: int, say: Callable[[str], None] = print) -> None:
    """Delete a version's folder, renamed first; `say` gets a warning of what can't be removed, which stays."""
    folder, renamed = folders_of(workspace) / str(version), workspace.serving / f".remove-{version}"
    try:
        folder.rename(renamed)
        shutil.rmtree(renamed)
    except OSError as error:
        say(f"WARNING: could not remove {error.filename}: {error.strerror}; remove it by hand")


def versions_on(server: str) -> ServerVersions | None:
    """A server's versions; None where no server of the model runs. One that is too busy to answer has no versions."""
    for retries in (0, 4):
        try:
            with Verifier(server, label=None, timeout=5, retries=retries) as verifier:
                states = verifier.status().versions
        except ModelNotFound:
            return None
        except PhotoproofError as error:
            if isinstance(error.__cause__, CallFailed) and error.__cause__.code == "UNAVAILABLE":
                return None
        else:
            return ServerVersions(
                frozenset(state.version for state in states if state.state == "AVAILABLE"),
                frozenset(state.version for state in states if state.state != "END" or state.error),
            )
    return ServerVersions()


def wait_loaded(server: str, versions: frozenset[int], load_seconds: float) -> None:
    """Wait until a server answers for the versions. Raises DeployFailed where one does not load.

    An error counts after POLL_SECONDS: a server that has yet to read models.config still reports the one before.
    """
    started = time.monotonic()
    deadline = started + load_seconds
    while True:
        missing = set(versions)
        with Verifier(server, label=None, timeout=5) as verifier, contextlib.suppress(PhotoproofError):
            for state in verifier.status().versions:
                if state.version in missing and state.error and time.monotonic() - started > POLL_SECONDS:
                    message = f"version {state.version} does not load on {server}: {state.error[:300]}"
                    raise DeployFailed(message, state.version)
                if state.state == "AVAILABLE":
                    missing.discard(state.version)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise DeployFailed(
                f"{server} did not load version {', '.join(map(str, sorted(missing)))} within {load_seconds:g} s: "
                "does it run, and does it serve this workspace?"
            )
        time.sleep(0.2)


def wait_dropped(server: str, versions: frozenset[int]) -> None:
    """Wait until a server has dropped the versions, for DROP_SECONDS at most."""
    deadline = time.monotonic() + DROP_SECONDS
    with Verifier(server, label=None, timeout=5, retries=0) as verifier, contextlib.suppress(PhotoproofError):
        while time.monotonic() < deadline:
            if not any(state.version in versions and state.state != "END" for state in verifier.status().versions):
                return
            time.sleep(0.2)


def confirm(server: str, label: str, folder: Path, load_seconds: float) -> None:
    """Wait until a server answers by a label with the model in `folder`, and hold its answer to the golden pair.

    Raises DeployFailed.
    """
    model_id = assets.read_facts(folder)["model_id"]
    pair = golden_pair(folder)
    if pair is None:
        return
    deadline = time.monotonic() + load_seconds
    with Verifier(server, label=label, timeout=10) as verifier:
        while True:
            reason = "it does not answer"
            try:
                verdict = verifier.verify(pair.original, pair.photo)
                if verdict.model_id == model_id:
                    break
                reason = f"model {verdict.model_id} still answers"
            except (ModelNotFound, ServerUnavailable, DeadlineExceeded) as error:
                reason = str(error)
            except PhotoproofError as error:
                raise DeployFailed(f"version {folder.name} does not answer by {label} on {server}: {error}") from error
            if time.monotonic() > deadline:
                raise DeployFailed(
                    f"{server} has not moved {label} to model {model_id} within {load_seconds:g} s: {reason}"
                )
            time.sleep(0.2)
    for name in ("similarity", "probability"):
        measured, golden = getattr(verdict, name), getattr(pair, name)
        if abs(measured - golden) > TOLERANCE:
            raise DeployFailed(
                f"version {folder.name} does not reproduce its golden pair on {server}: {name} {measured:.6f}, "
                f"evaluation measured {golden:.6f}"
            )
