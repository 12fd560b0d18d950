"""A model server on 127.0.0.1 as `photoproof serve` starts it, with or without batching."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from photoproof import PhotoproofError, Verifier
from pipelines.deployment.models_config import Served, write_config
from pipelines.deployment.server_command import choose_server
from pipelines.registry.versions import MODEL
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.processes import ending_with_us

MOST_CALLERS = 64
"""Half of the threads that the server has for calls, so that none waits for a thread."""
START_SECONDS = 120
BATCHING = "--enable_batching", "--batching_parameters_file"


@contextlib.contextmanager
def running(saved_model: Path, folder: Path, *, batching: bool) -> Iterator[tuple[str, str]]:
    """A server of the SavedModel with label `stable`, for the block: its gRPC and its REST address."""
    workspace = Workspace(folder.resolve())
    models = workspace.serving / MODEL
    shutil.copytree(saved_model, models / "1")
    write_config(workspace.serving / "models.config", Served(frozenset({1}), {"stable": 1}), models)
    port, rest_port = free_port(), free_port()
    command, _ = choose_server(workspace, port, rest_port)
    if not batching:
        command = [word for word in command if not word.startswith(BATCHING)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(ending_with_us(command), stdout=log, stderr=log)
    try:
        _wait(f"grpc://localhost:{port}", process, folder / "log")
        yield f"grpc://localhost:{port}", f"http://localhost:{rest_port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Verifier(address, model=MODEL, timeout=5) as verifier:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(PhotoproofError):
                if any(version.state == "AVAILABLE" for version in verifier.status().versions):
                    return
            time.sleep(0.1)
    raise RuntimeError(f"the model server did not start: {log.read_text(errors='replace')[-500:]}")
