"""A model server on 127.0.0.1: tensorflow_model_server where it is on the PATH, else the local one."""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import serving
from photoproof import PhotoproofError, Verifier
from pipelines.workspace.ports import free_port
from pipelines.workspace.processes import ending_with_us

MODEL = "product-encoder"
MOST_CALLERS = 64
START_SECONDS = 120

BATCHING = Path(next(iter(serving.__path__))) / "tensorflow_serving/batching.config"


@contextlib.contextmanager
def running(saved_model: Path, folder: Path, *, batching: bool) -> Iterator[tuple[str, str]]:
    """A server of the SavedModel with label `stable`, for the block: its gRPC and its REST address."""
    folder.mkdir(parents=True)
    (folder / MODEL).mkdir()
    (folder / MODEL / "1").symlink_to(saved_model.resolve())
    (folder / "models.config").write_text(
        f'model_config_list {{ config {{ name: "{MODEL}" base_path: "{(folder / MODEL).resolve()}" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    port, rest_port = free_port(), free_port()
    binary = shutil.which("tensorflow_model_server")
    command = [binary] if binary else [sys.executable, "-m", "serving.model_server"]
    command += [
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={folder / 'models.config'}",
        "--allow_version_labels_for_unavailable_models=true",
        f"--grpc_max_threads={2 * MOST_CALLERS}",
    ]
    if batching:
        command += ["--enable_batching=true", f"--batching_parameters_file={BATCHING}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(ending_with_us(command), stdout=log, stderr=log)
    try:
        _wait(f"grpc://localhost:{port}", process, folder / "log")
        yield f"grpc://localhost:{port}", f"http://localhost:{rest_port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    with Verifier(address, model=MODEL, timeout=5) as verifier:
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(PhotoproofError):
                if any(one.state == "AVAILABLE" for one in verifier.status().versions):
                    return
            time.sleep(0.1)
    raise RuntimeError(f"the model server did not start: {log.read_text(errors='replace')[-500:]}")
