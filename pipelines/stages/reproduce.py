"""Reproduce one stage of dvc.yaml in a process of its own: `python -m pipelines.stages.reproduce STAGE RESULT`.

Ends when its parent ends: its standard input is a pipe that nobody writes to, so the pipe's end means that the
parent is gone, and the whole process group, the stage's command included, is told to stop.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path


def reproduce(stage: str, result: Path) -> int:
    """Run the stage if anything it depends on changed; write {"ran": bool} or {"error": line} to `result`."""
    from dvc.exceptions import DvcException
    from dvc.logger import setup as setup_logging
    from dvc.repo import Repo
    from dvc.repo.reproduce import reproduce as reproduce_with_dvc

    setup_logging(logging.ERROR)  # whoever started this prints what ran

    outcome: dict[str, object]
    try:
        with Repo() as repo:
            outcome = {"ran": bool(reproduce_with_dvc(repo, [stage], single_item=True))}
    except DvcException as error:
        outcome = {"error": _root_cause(error)}
    result.write_text(json.dumps(outcome))
    return 1 if "error" in outcome else 0


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _stop_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.killpg(os.getpgrp(), signal.SIGTERM)


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        sys.exit(reproduce(sys.argv[1], Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(130)
