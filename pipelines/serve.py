"""Start the model server on what deploy has put into .photoproof/serving: TensorFlow Serving, or what stands in for it.

The real tensorflow_model_server where it is on the PATH, else Docker's tensorflow/serving, else serving/model_server.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import serving
from photoproof import PhotoproofError, Verifier
from pipelines.models_config import Served, read_config
from pipelines.prefect_server import free_port
from pipelines.workspace import Settings, Workspace
from training.errors import BadInput

READY_SECONDS = 180
"""How long a server may take to start and to load its versions."""

STOP_SECONDS = 20
"""How long a server may take to finish the calls that it has."""

IMAGE = "tensorflow/serving:2.21.0"
"""The release of the TensorFlow that exports."""

CONFIGS = Path(next(iter(serving.__path__))).resolve() / "tensorflow_serving"
"""Batching and monitoring, each value explained in the folder's README."""

_END_WITH_PARENT = """
import ctypes, os, signal, sys
parent, words = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which the program that follows keeps
if os.getppid() == parent:
    os.execvp(words[0], words)
"""


class ServerFailed(RuntimeError):
    """The model server did not start, or ended."""

    exit_code = 1


@dataclass(frozen=True)
class RunningServer:
    """A model server that answers: its addresses, which one it is, and where its output goes."""

    grpc: str
    rest: str
    description: str
    log: Path
    process: "subprocess.Popen[bytes]"


def serve(workspace: Workspace, port: int, rest_port: int) -> None:
    """Run the model server in the foreground until Ctrl-C or SIGTERM, which stop it too.

    Raises BadInput where nothing is deployed or a port is taken, ServerFailed where the server ends by itself.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_server(workspace, port, rest_port) as server:
            served = read_config(workspace.serving / "models.config") or Served()
            labels = ", ".join(f"{label} is version {at}" for label, at in sorted(served.labels.items()))
            print(f"serve: {server.description} at {server.grpc} and {server.rest}: {labels} (Ctrl-C to stop)")
            print(f"serve: its log is {server.log}", flush=True)
            code = server.process.wait()
            raise ServerFailed(f"{server.description} ended by itself with code {code}: see {server.log}")
    except KeyboardInterrupt:
        print("serve: stopped")


@contextlib.contextmanager
def running_server(workspace: Workspace, port: int = 0, rest_port: int = 0) -> Iterator[RunningServer]:
    """A model server for the `with` block, ready when it begins; port 0 is a free one.

    Raises BadInput where nothing is deployed or a port is taken, ServerFailed where the server does not start.
    """
    if not read_config(workspace.serving / "models.config"):
        raise BadInput("nothing is deployed yet: first `photoproof promote VERSION`, then `photoproof deploy`")
    port, rest_port = (_free(one) for one in (port, rest_port))
    words, description = choose_server(workspace, port, rest_port)
    workspace.logs.mkdir(parents=True, exist_ok=True)
    log = workspace.logs / f"model_server-{port}.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal is for us, and we stop it.
        process = subprocess.Popen(
            ending_with_us(words),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace.serving,
            start_new_session=True,
        )
    server = RunningServer(
        f"grpc://localhost:{port}", f"http://localhost:{rest_port}", description, log.resolve(), process
    )
    note = workspace.serving / "servers" / f"{process.pid}.json"
    try:
        _wait(server, read_config(workspace.serving / "models.config") or Served())
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps({"grpc": server.grpc, "rest": server.rest}))
        yield server
    finally:
        note.unlink(missing_ok=True)
        _stop(process)


def known_servers(workspace: Workspace) -> list[str]:
    """Addresses where servers of this workspace may run.

    Those that PHOTOPROOF_SERVERS lists; else the one that PHOTOPROOF_SERVER names; else those that `serve` has started,
    or, where there is none, the default.
    """
    settings = Settings()
    if settings.server_list:
        return settings.server_list
    if "server" in settings.model_fields_set:
        return [settings.server]
    found = []
    for note in sorted((workspace.serving / "servers").glob("*.json")):
        with contextlib.suppress(ProcessLookupError, PermissionError, FileNotFoundError, json.JSONDecodeError):
            os.kill(int(note.stem), 0)
            found.append(json.loads(note.read_text())["grpc"])
    return found or [settings.server]


def server_to_ask(workspace: Workspace) -> str:
    """Where verdicts are asked for: the address that PHOTOPROOF_SERVER names, else the first known one."""
    settings = Settings()
    return settings.server if "server" in settings.model_fields_set else known_servers(workspace)[0]


def choose_server(workspace: Workspace, port: int, rest_port: int) -> tuple[list[str], str]:
    """The command line of the best model server that this machine has, and its name."""
    binary = shutil.which("tensorflow_model_server")
    flags = _flags(workspace, port, rest_port)
    if binary:
        return [binary, *flags], f"TensorFlow Serving ({binary})"
    if _docker_works():
        folder = workspace.serving
        words = ["docker", "run", "--rm", "--init", f"--name=photoproof-{port}", "--entrypoint=tensorflow_model_server"]
        # The folders, not files: a bind mount of one file does not follow a rename.
        words += [f"--volume={folder}:{folder}:ro", f"--volume={CONFIGS}:{CONFIGS}:ro"]
        words += [f"--publish=127.0.0.1:{at}:{at}" for at in (port, rest_port)]
        return [*words, IMAGE, *flags], f"TensorFlow Serving (Docker's {IMAGE})"
    return [sys.executable, "-m", "serving.model_server", *flags], "the local model server (serving/model_server)"


def ending_with_us(words: list[str]) -> list[str]:
    """The command line of the same program, which on Linux gets SIGTERM when this thread ends, however it ends.

    A killed `serve` would otherwise leave a server that holds its ports. The program keeps the process id.
    """
    return [sys.executable, "-IS", "-c", _END_WITH_PARENT, str(os.getpid()), *words]


def _flags(workspace: Workspace, port: int, rest_port: int) -> list[str]:
    flags = [
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={workspace.serving / 'models.config'}",
        "--model_config_file_poll_wait_seconds=1",
        # Without it a restart fails on labels, which are assigned before versions are loaded.
        "--allow_version_labels_for_unavailable_models=true",
        # A version that does not load would otherwise be tried again for minutes, with the others waiting.
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=500000",
        "--enable_batching=true",
        f"--batching_parameters_file={CONFIGS / 'batching.config'}",
        f"--monitoring_config_file={CONFIGS / 'monitoring.config'}",
        # A call holds a thread while it waits for its batch; by default there are four a core.
        "--grpc_max_threads=128",
    ]
    return flags


def _docker_works() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=15).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _free(port: int) -> int:
    """The port, or a free one for 0. Raises BadInput where somebody listens on it."""
    if port == 0:
        return free_port()
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BadInput(f"port {port} is taken: stop what listens there, or name another port")
    return port


def _wait(server: RunningServer, served: Served) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with Verifier(server.grpc, label=None, timeout=5) as verifier:
        while True:
            if server.process.poll() is not None:
                raise ServerFailed(f"{server.description} {_how_it_ended(server)} (all: {server.log})")
            with contextlib.suppress(PhotoproofError):
                states = verifier.status().versions
                ended = [one for one in states if one.state == "END" and one.version in served.versions]
                if ended and all(one.state in ("END", "AVAILABLE") for one in states):
                    raise ServerFailed(f"version {ended[0].version} does not load: {ended[0].error[:300]}")
                if served.versions <= {one.version for one in states if one.state == "AVAILABLE"}:
                    return
            if time.monotonic() > deadline:
                raise ServerFailed(f"{server.description} was not ready after {READY_SECONDS} s: see {server.log}")
            time.sleep(0.1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _how_it_ended(server: RunningServer) -> str:
    code = server.process.returncode
    if code < 0:
        return f"was ended by {signal.Signals(-code).name} while it loaded"
    return f"did not start: {_last_line(server.log)}"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
