"""Stages as flows run them, with small stages of the test's own in a real DVC repository."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.stages import stage_process
from pipelines.workspace import lock
from pipelines.workspace.places import Workspace

SLEEPER = """
import pathlib, time
pathlib.Path("started").write_text("")
time.sleep(60)
"""


@pytest.fixture
def small(workspace: Workspace) -> Workspace:
    steps = {
        "copy": {"cmd": "cp in.txt out.txt", "deps": ["in.txt"], "outs": ["out.txt"]},
        "sleep": {"cmd": "python sleeper.py", "outs": ["never.txt"]},
        "refuse": {"cmd": "python -m training.validate", "outs": ["refused.txt"]},
    }
    (workspace.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": steps}))
    (workspace.root / "in.txt").write_text("in")
    (workspace.root / "sleeper.py").write_text(SLEEPER)
    return workspace


def test_a_stage_runs_once_for_the_same_input(small: Workspace) -> None:
    assert stage_process.run_stage(small, "copy").ran
    assert stage_process.run_stage(small, "copy") == stage_process.StageRun("copy", False, "copy: nothing new")


def test_a_stages_own_line_and_exit_code_are_what_its_failure_says(small: Workspace) -> None:
    (small.root / "params.yaml").write_text("trian: {}\n")
    with pytest.raises(
        stage_process.StageFailed, match=r"^refuse: .*unknown key trian; the nearest known one is train"
    ) as failed:
        stage_process.run_stage(small, "refuse")
    assert failed.value.exit_code == 2


def test_a_stage_that_dvc_refuses_says_why(small: Workspace) -> None:
    (small.root / "in.txt").unlink()
    with pytest.raises(stage_process.StageFailed, match=r"copy: .*in\.txt"):
        stage_process.run_stage(small, "copy")


def test_a_cancelled_stage_stops_and_leaves_no_lock(small: Workspace) -> None:
    with pytest.raises(stage_process.StageStopped):
        stage_process.run_stage(small, "sleep", stopped=lambda: (small.root / "started").exists())
    assert not processes_in(small.root)
    assert stage_process.run_stage(small, "copy").ran
    assert json.loads((small.root / ".dvc" / "tmp" / "rwlock").read_text() or "{}") == {}


def test_a_stage_ends_with_whoever_started_it(small: Workspace) -> None:
    code = "import sys, pathlib; from pipelines.stages.stage_process import run_stage; "
    code += "from pipelines.workspace.places import Workspace; run_stage(Workspace(pathlib.Path(sys.argv[1])), 'sleep')"
    parent = subprocess.Popen([sys.executable, "-c", code, str(small.root)], stderr=subprocess.DEVNULL)
    wait_until((small.root / "started").exists)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not processes_in(small.root))
    assert stage_process.run_stage(small, "copy").ran


def test_a_second_retraining_is_refused_in_one_line(small: Workspace) -> None:
    with lock.exclusive_workspace(small):
        refused = pytest.raises(lock.WorkspaceBusy, match=rf"process {os.getpid()}, since")
        with refused, lock.exclusive_workspace(small, patience=0):
            pass
    with lock.exclusive_workspace(small, patience=0):
        pass


def processes_in(folder: Path) -> list[str]:
    """Ids of the processes whose working folder it is."""
    process_ids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if Path(os.readlink(entry / "cwd")) == folder:
                    process_ids.append(entry.name)
            except OSError:
                continue
    return process_ids


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
