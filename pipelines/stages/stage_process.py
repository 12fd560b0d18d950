"""Run a stage of dvc.yaml so that it can be told to stop, and leaves nothing running and no lock behind."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.workspace.places import Workspace
from pipelines.workspace.processes import end_process

STOP_SECONDS = 15
"""How long a stage may take to stop before it is killed."""


class StageFailed(RuntimeError):
    """A stage ended with an error; the message is the stage's own line."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


class StageStopped(RuntimeError):
    """The stage was told to stop, and did."""

    exit_code = 130


@dataclass(frozen=True)
class StageRun:
    """What came of a stage."""

    stage: str
    ran: bool
    line: str


def run_stage(workspace: Workspace, stage: str, stopped: Callable[[], bool] = lambda: False) -> StageRun:
    """Reproduce one stage. `stopped` is asked every second whether somebody wants it to end.

    Raises StageFailed with the stage's own error line, StageStopped where `stopped` said so.
    """
    with tempfile.TemporaryDirectory() as folder:
        said, result = Path(folder, "stage.json"), Path(folder, "result.json")
        child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.stages.reproduce", stage, str(result)],
            cwd=workspace.root,
            env=stage_environment(workspace) | {"PHOTOPROOF_STAGE_RESULT": str(said)},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                if stopped():
                    raise StageStopped(f"{stage}: stopped before its end, because the run was cancelled")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=1)
        finally:
            end_process(child, STOP_SECONDS)
        outcome = _read(result)
        stage_said = _read(said)
    if child.returncode or "error" in outcome:
        error = stage_said.get("error") or outcome.get("error") or f"ended with {child.returncode}"
        raise StageFailed(f"{stage}: {error}", int(stage_said.get("exit_code", 1)))
    ran = bool(outcome["ran"])
    return StageRun(stage, ran, stage_said.get("line") or f"{stage}: {'restored from DVC' if ran else 'nothing new'}")


def stage_environment(workspace: Workspace) -> dict[str, str]:
    """The environment of a stage: this interpreter first on the PATH, and the workspace's code before any other."""
    here = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(workspace.root),
    }


def _read(path: Path) -> dict[str, str]:
    return json.loads(path.read_text()) if path.is_file() else {}
