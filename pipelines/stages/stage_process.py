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
    """The stage was stopped before its end, because its run was cancelled."""

    exit_code = 130


@dataclass(frozen=True)
class StageRun:
    """The outcome of a stage."""

    stage: str
    ran: bool
    """False where nothing that it depends on has changed."""
    line: str
    """For a person: the stage's own last line, or that it did not run."""


def run_stage(workspace: Workspace, stage: str, stopped: Callable[[], bool] = lambda: False) -> StageRun:
    """Reproduce one stage. `stopped` is called every second and says whether the stage is to be stopped.

    Raises StageFailed with the stage's own error line, StageStopped where `stopped` returned True.
    """
    with tempfile.TemporaryDirectory() as folder:
        message_file, result_file = Path(folder, "stage.json"), Path(folder, "result.json")
        child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.stages.reproduce", stage, str(result_file)],
            cwd=workspace.root,
            env=stage_environment(workspace) | {"PHOTOPROOF_STAGE_RESULT": str(message_file)},
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
        result, message = _read_json(result_file), _read_json(message_file)
    if child.returncode or "error" in result:
        error = message.get("error") or result.get("error") or f"ended with {child.returncode}"
        raise StageFailed(f"{stage}: {error}", int(message.get("exit_code", 1)))
    ran = bool(result["ran"])
    return StageRun(stage, ran, message.get("line") or f"{stage}: {'restored from DVC' if ran else 'nothing new'}")


def stage_environment(workspace: Workspace) -> dict[str, str]:
    """The environment of a stage: this interpreter first on the PATH, and the workspace's code before any other."""
    interpreters = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{interpreters}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(workspace.root),
    }


def _read_json(path: Path) -> dict[str, str]:
    return json.loads(path.read_text()) if path.is_file() else {}
