"""Start the model server on what deploy has put into .photoproof/serving: TensorFlow Serving, or what stands in for it.

The real tensorflow_model_server where it is on the PATH, else Docker's tensorflow/serving, else serving/model_server.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from photoproof import PhotoproofError, Verifier
from pipelines.deployment.addresses import RunningServer, note_of, write_note
from pipelines.deployment.models_config import Served, config_of, folders_of, read_config
from pipelines.deployment.server_command import choose_server
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.processes import end_process, ending_with_us
from training.stage.errors import BadInput

READY_SECONDS = 180
"""How long a server may take to start and to load its versions."""

REPAIR_HINT = "`photoproof deploy` fetches a folder that is missing; one that is damaged, remove first"


class ServerFailed(RuntimeError):
    """The model server did not start, or ended."""

    exit_code = 1


@dataclass(frozen=True)
class LoadProgress:
    """What models.config asks for at a moment, which versions of it answer, and which never will (version -> why)."""

    served: Served
    available: frozenset[int]
    broken: Mapping[int, str]

    @property
    def pending(self) -> frozenset[int]:
        """Versions that may still come to answer."""
        return self.served.versions - self.available - self.broken.keys()

    def answers(self, strict: bool) -> bool:
        """Whether every version does; where not `strict`, what `stable` names, or anything where that can't."""
        if strict:
            return bool(self.available) and self.served.versions <= self.available
        stable = self.served.labels.get("stable")
        return bool(self.available) if stable is None or stable in self.broken else stable in self.available


def serve(workspace: Workspace, port: int, rest_port: int) -> None:
    """Run the model server in the foreground until Ctrl-C or SIGTERM, which stop it too.

    It serves what loads and warns of what does not. Raises BadInput where nothing is deployed or a port is taken,
    ServerFailed where nothing loads or the server ends by itself.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        with running_server(workspace, port, rest_port, strict=False) as server:
            _report(workspace, server)
            if stopping:  # an exception that is raised while gRPC frees an object gets lost
                raise KeyboardInterrupt
            code = server.process.wait()
            raise ServerFailed(f"{server.description} ended by itself with code {code}: see {server.log}")
    except KeyboardInterrupt:
        print("serve: stopped")


@contextlib.contextmanager
def running_server(
    workspace: Workspace, port: int = 0, rest_port: int = 0, strict: bool = True
) -> Iterator[RunningServer]:
    """A model server for the `with` block, ready when it begins; port 0 is a free one.

    Where not `strict`, it is ready once it answers for `stable`, whatever is wrong with other versions. Raises BadInput
    where nothing is deployed or a port is taken, ServerFailed where the server does not start.
    """
    if not read_config(config_of(workspace)):
        raise BadInput("nothing is deployed yet: first `photoproof promote VERSION`, then `photoproof deploy`")
    port, rest_port = (free_port(number) for number in (port, rest_port))
    command, description = choose_server(workspace, port, rest_port)
    workspace.logs.mkdir(parents=True, exist_ok=True)
    log = workspace.logs / f"model_server-{port}.log"
    if log.exists():  # why the last one ended is read after a new one has been started
        log.replace(log.with_name(log.name + ".old"))
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal is for us, and we stop it.
        process = subprocess.Popen(
            ending_with_us(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace.serving,
            start_new_session=True,
        )
    server = RunningServer(
        f"grpc://localhost:{port}", f"http://localhost:{rest_port}", description, log.resolve(), process
    )
    note = note_of(workspace, process.pid)
    try:
        _wait_ready(workspace, server, strict)
        write_note(note, server)
        yield server
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
        end_process(process)


def _wait_ready(workspace: Workspace, server: RunningServer, strict: bool) -> None:
    """Wait until the server answers. Raises ServerFailed where it never will."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        progress = _load_progress(workspace, server)
        broken = [f"version {version} does not load: {reason}" for version, reason in progress.broken.items()]
        if server.process.poll() is not None:
            reasons = "; ".join([_how_it_ended(server), *broken])
            raise ServerFailed(f"{server.description} {reasons} (all: {server.log})")
        if broken and (strict or not (progress.available or progress.pending)):
            raise ServerFailed("; ".join(broken) + ("" if strict else f"; {REPAIR_HINT}"))
        if progress.answers(strict):
            return
        if time.monotonic() > deadline:
            if progress.available and not strict:
                return
            raise ServerFailed(f"{server.description} was not ready after {READY_SECONDS} s: see {server.log}")
        time.sleep(0.1)


def _report(workspace: Workspace, server: RunningServer) -> None:
    """Print what is served, and warn of each version that does not load, until all have loaded or failed."""
    progress, warned = _load_progress(workspace, server), set()
    served = sorted(progress.served.labels.items())
    labels = [f"{label} is version {version}" for label, version in served if version not in progress.broken]
    addresses = f"{server.grpc} and {server.rest}"
    print(f"serve: {server.description} at {addresses}: {', '.join(labels)} (Ctrl-C to stop)")
    print(f"serve: its log is {server.log}", flush=True)
    if progress.pending:
        print(f"serve: still loading: version {', '.join(map(str, sorted(progress.pending)))}", flush=True)
    while True:
        for version in sorted(progress.broken.keys() - warned):
            names = " and ".join(label for label, named in sorted(progress.served.labels.items()) if named == version)
            reason = progress.broken[version]
            effect = f", and whoever asks for {names} gets no verdict" if names else ""
            print(f"WARNING: version {version} does not load{effect}: {reason}; {REPAIR_HINT}", flush=True)
            warned.add(version)
        if not progress.pending or server.process.poll() is not None:
            return
        time.sleep(0.5)
        progress = _load_progress(workspace, server)


def _load_progress(workspace: Workspace, server: RunningServer) -> LoadProgress:
    states = ()
    with contextlib.suppress(PhotoproofError), Verifier(server.grpc, label=None, timeout=5, retries=0) as verifier:
        states = verifier.status().versions
    # Read after the states and anew each time: deploy may change it, and removes folders that it no longer names.
    served = read_config(config_of(workspace)) or Served()
    available = frozenset(state.version for state in states if state.state == "AVAILABLE")
    failed = {
        state.version: " ".join(state.error.split())[:300] for state in states if state.state == "END" and state.error
    }
    broken = {}
    for version in sorted(served.versions - available):
        folder = folders_of(workspace) / str(version)
        if not folder.is_dir():
            broken[version] = f"its folder {folder} is missing"
        elif version in failed:
            broken[version] = failed[version]
    return LoadProgress(served, available & (served.versions or available), broken)


def _how_it_ended(server: RunningServer) -> str:
    code = server.process.returncode
    if code < 0:
        return f"was ended by {signal.Signals(-code).name} while it loaded"
    return f"did not start: {_last_line(server.log)}"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it printed nothing"
