"""The command that starts a model server: TensorFlow Serving, Docker, or the stand-in."""

import shutil
import subprocess
import sys
from pathlib import Path

import serving
from pipelines.deployment.models_config import config_of
from pipelines.workspace.places import Workspace

IMAGE = "tensorflow/serving:2.21.0"
"""The release of the TensorFlow that exports."""

CONFIGS = Path(next(iter(serving.__path__))).resolve() / "tensorflow_serving"
"""Batching and monitoring, each value explained in the folder's README."""


def choose_server(workspace: Workspace, port: int, rest_port: int) -> tuple[list[str], str]:
    """The command line of the best model server that this machine has, and its name."""
    binary = shutil.which("tensorflow_model_server")
    flags = server_flags(workspace, port, rest_port)
    if binary:
        return [binary, *flags], f"TensorFlow Serving ({binary})"
    if _docker_works():
        folder = workspace.serving
        command = [
            "docker",
            "run",
            "--rm",
            "--init",
            f"--name=photoproof-{port}",
            "--entrypoint=tensorflow_model_server",
        ]
        # The folders, not files: a bind mount of one file does not follow a rename.
        command += [f"--volume={folder}:{folder}:ro", f"--volume={CONFIGS}:{CONFIGS}:ro"]
        command += [f"--publish=127.0.0.1:{number}:{number}" for number in (port, rest_port)]
        return [*command, IMAGE, *flags], f"TensorFlow Serving (Docker's {IMAGE})"
    return [sys.executable, "-m", "serving.model_server", *flags], "the local model server (serving/model_server)"


def server_flags(workspace: Workspace, port: int, rest_port: int) -> list[str]:
    """The flags of tensorflow_model_server, which the stand-in takes too."""
    return [
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={config_of(workspace)}",
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


def _docker_works() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=15).returncode == 0
    except subprocess.TimeoutExpired:
        return False
