"""The steps of a deploy plan, carried out: fetch and prove, wait for servers, see that labels answer rightly."""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from photoproof import DeadlineExceeded, ModelNotFound, PhotoproofError, ServerUnavailable, Verifier
from photoproof.transport.calls import CallFailed
from pipelines.deployment.proving import TOLERANCE, golden_pair
from pipelines.registry import artifacts
from pipelines.registry import versions as registry
from pipelines.registry.versions import MODEL
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.saved_model import assets

SETTLE_SECONDS = 10
"""How long a server may take to drop a version. Nothing depends on it but the next change, so it is no failure."""

POLL_SECONDS = 4
"""How long a server may take to read a new models.config."""

Prove = Callable[[Workspace, Path, int], None]


@dataclass(frozen=True)
class Versions:
    """What a running server has."""

    available: frozenset[int] = frozenset()
    asked: frozenset[int] = frozenset()
    """Those that it knows it should have, loaded or not."""


class DeployFailed(RuntimeError):
    """A version could not be put into service; what served before still does."""

    exit_code = 1

    def __init__(self, message: str, version: int | None = None):
        super().__init__(message)
        self.version = version


def config_of(workspace: Workspace) -> Path:
    """The models.config that deploy writes and model servers read."""
    return workspace.serving / "models.config"


def folders_of(workspace: Workspace) -> Path:
    """The folder with a folder for each version."""
    return workspace.serving / MODEL


def fetch(workspace: Workspace, version: int, prove: Prove) -> None:
    """A version's folder from MLflow, in place by rename once its bytes and its answers are proven.

    Raises DeployFailed, RegistryUnreachable, and what `prove` raises.
    """
    part = workspace.serving / f".fetch-{version}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        wanted = registry.tags_of(workspace, version).get("saved_model_sha256")
        if wanted is None:
            raise DeployFailed(
                f"version {version} has no tag saved_model_sha256: it was not registered by a retraining"
            )
        fetched = artifacts.download(workspace, version, part / "download")
        if assets.folder_sha256(fetched) != wanted:
            raise DeployFailed(f"version {version} as MLflow has it is not what was registered: its SHA-256 differs")
        prove(workspace, fetched, version)
        folders_of(workspace).mkdir(exist_ok=True)
        fetched.rename(folders_of(workspace) / str(version))
    finally:
        shutil.rmtree(part, ignore_errors=True)


def remove(workspace: Workspace, version: int, say: Callable[[str], None] = print) -> None:
    """Delete a version's folder, which is gone by a rename first; what can't be removed is told and stays."""
    folder, gone = folders_of(workspace) / str(version), workspace.serving / f".remove-{version}"
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        say(f"WARNING: could not remove {error.filename}: {error.strerror}; remove it by hand")


def versions_on(server: str) -> Versions | None:
    """A server's versions; None where none of the model runs there. One that is there and can't say has none."""
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
            return Versions(
                frozenset(one.version for one in states if one.state == "AVAILABLE"),
                frozenset(one.version for one in states if one.state != "END" or one.error),
            )
    return Versions()


def wait_for(server: str, versions: frozenset[int]) -> None:
    """Wait until a server answers for the versions. Raises DeployFailed where one does not load.

    An error counts after POLL_SECONDS: a server that has yet to read models.config tells that of the time before.
    """
    seconds = Settings().load_seconds
    started = time.monotonic()
    deadline = started + seconds
    while True:
        missing = set(versions)
        with Verifier(server, label=None, timeout=5) as verifier, contextlib.suppress(PhotoproofError):
            for one in verifier.status().versions:
                if one.version in missing and one.error and time.monotonic() - started > POLL_SECONDS:
                    said = f"version {one.version} does not load on {server}: {one.error[:300]}"
                    raise DeployFailed(said, one.version)
                if one.state == "AVAILABLE":
                    missing.discard(one.version)
        if not missing:
            return
        if time.monotonic() > deadline:
            raise DeployFailed(
                f"{server} did not load version {', '.join(map(str, sorted(missing)))} within {seconds:g} s: "
                "does it run, and does it serve this workspace?"
            )
        time.sleep(0.2)


def settle(server: str, versions: frozenset[int]) -> None:
    """Wait until a server has dropped the versions, for a while."""
    deadline = time.monotonic() + SETTLE_SECONDS
    with Verifier(server, label=None, timeout=5, retries=0) as verifier, contextlib.suppress(PhotoproofError):
        while time.monotonic() < deadline:
            if not any(one.version in versions and one.state != "END" for one in verifier.status().versions):
                return
            time.sleep(0.2)


def confirm(server: str, label: str, folder: Path) -> None:
    """Wait until a server answers by a label with the model in `folder`, and hold its answer to the golden pair.

    Raises DeployFailed.
    """
    model_id = assets.read_facts(folder)["model_id"]
    pair = golden_pair(folder)
    if pair is None:
        return
    seconds = Settings().load_seconds
    deadline = time.monotonic() + seconds
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
            except PhotoproofError as error:
                raise DeployFailed(f"version {folder.name} does not answer by {label} on {server}: {error}") from error
            if time.monotonic() > deadline:
                raise DeployFailed(f"{server} has not moved {label} to model {model_id} within {seconds:g} s: {said}")
            time.sleep(0.2)
    for name in ("similarity", "probability"):
        measured, golden = getattr(verdict, name), getattr(pair, name)
        if abs(measured - golden) > TOLERANCE:
            raise DeployFailed(
                f"version {folder.name} does not reproduce its golden pair on {server}: {name} {measured:.6f}, "
                f"evaluation measured {golden:.6f}"
            )
