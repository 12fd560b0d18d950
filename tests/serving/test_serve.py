import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from photoproof import PhotoproofError, Verifier
from pipelines.deployment.model_server import ServerFailed, running_server
from pipelines.deployment.models_config import Served, write_config
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port

SERVES = """
import sys
from pathlib import Path
from pipelines.deployment.model_server import serve
from pipelines.workspace.places import Workspace
serve(Workspace(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
"""

STARTS_A_SERVER = """
import subprocess, sys
from pipelines.workspace.processes import ending_with_us
server = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"]
process = subprocess.Popen(ending_with_us(server), start_new_session=True)
print(process.pid, flush=True)
process.wait()
"""


def deploy(workspace: Workspace, *versions: int, **labels: int) -> None:
    """models.config as deploy writes it."""
    folders = workspace.serving / "product-encoder"
    folders.mkdir(parents=True, exist_ok=True)
    write_config(workspace.serving / "models.config", Served(frozenset(versions), labels), folders)


def folder(workspace: Workspace, version: int) -> Path:
    return workspace.serving / "product-encoder" / str(version)


@contextlib.contextmanager
def serving(workspace: Workspace, port: int) -> Iterator["subprocess.Popen[str]"]:
    """`photoproof serve` as a process, which ends with the block."""
    command = [sys.executable, "-c", SERVES, str(workspace.root), str(port), str(free_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(40)


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout
    return [process.stdout.readline().rstrip() for _ in range(count)]


def test_stable_is_served_as_deploy_moves_it_and_what_does_not_load_is_named(tmp_path: Path, toy_model: Path) -> None:
    workspace, port = Workspace(tmp_path), free_port()
    deploy(workspace, 1, 2, 3, 4, stable=1, canary=3)
    loads_for_ever(shutil.copytree(toy_model, folder(workspace, 1)))
    folder(workspace, 2).symlink_to(toy_model)
    folder(workspace, 3).mkdir()
    (folder(workspace, 3) / "saved_model.pb").write_bytes(b"not a model")
    workspace.logs.mkdir()
    log = workspace.logs / f"model_server-{port}.log"
    log.write_text("why the last one crashed")
    with serving(workspace, port) as process, Verifier(f"grpc://localhost:{port}") as verifier:
        until(lambda: 2 in available(verifier))
        deploy(workspace, 2, 3, 4, stable=2, canary=3)
        ready, where, canary, fourth = lines(process, 4)
        until(lambda: verifier.status().version == 2)
    assert ready.endswith(": stable is version 2 (Ctrl-C to stop)")
    assert where.endswith(str(log))
    assert canary.startswith("WARNING: version 3 does not load, and whoever asks for canary gets no verdict: ")
    missing = f"its folder {folder(workspace, 4)} is missing"
    assert fourth.startswith(f"WARNING: version 4 does not load: {missing}; `photoproof deploy` fetches")
    assert log.with_name(f"{log.name}.old").read_text() == "why the last one crashed"
    assert process.returncode == 0


def test_a_stable_that_is_missing_is_named_and_canary_is_served_without_a_note_too(
    tmp_path: Path, toy_model: Path
) -> None:
    workspace, port = Workspace(tmp_path), free_port()
    deploy(workspace, 1, 2, stable=1, canary=2)
    folder(workspace, 2).symlink_to(toy_model)
    (workspace.serving / "servers").write_text("")  # no folder: nothing can be written into it
    with serving(workspace, port) as process:
        note, ready, _, stable = lines(process, 4)
        with Verifier(f"grpc://localhost:{port}", label="canary") as verifier:
            assert verifier.status().version == 2
    assert note.startswith("WARNING: ") and note.endswith(
        f"deploy finds this server only by PHOTOPROOF_SERVER=grpc://localhost:{port}"
    )
    assert ready.endswith(": canary is version 2 (Ctrl-C to stop)")
    assert stable.startswith(
        "WARNING: version 1 does not load, and whoever asks for stable gets no verdict: its folder"
    )
    assert process.returncode == 0


def test_where_nothing_loads_it_fails_at_once_and_says_why(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    deploy(workspace, 1, 2, stable=1, canary=2)
    reasons = "; ".join(f"version {v} does not load: its folder {folder(workspace, v)} is missing" for v in (1, 2))
    message = re.escape(f"{reasons}; `photoproof deploy` fetches")
    with pytest.raises(ServerFailed, match=message), running_server(workspace, strict=False):
        pass


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def loads_for_ever(model: Path) -> None:
    """Put a pipe that nobody writes to in place of the weights."""
    (variables,) = model.glob("variables/*.data*")
    variables.unlink()
    os.mkfifo(variables)


def available(verifier: Verifier) -> set[int]:
    try:
        return {state.version for state in verifier.status().versions if state.state == "AVAILABLE"}
    except PhotoproofError:
        return set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_the_model_server_of_a_serve_that_is_killed_ends_too():
    with subprocess.Popen([sys.executable, "-c", STARTS_A_SERVER], stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout
        process_id, server = int(serve.stdout.readline()), int(serve.stdout.readline())
        assert process_id == server
        serve.kill()
    until(lambda: not runs(server))


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
