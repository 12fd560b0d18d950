"""What every `python -m training.STAGE` does around its stage: params in, one line out, an exit code."""

import argparse
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from training.stage.params import Params, read_params
from training.stage.quiet import VARIABLE, is_verbose, unhush


class Report(Protocol):
    """What a stage returns: `str()` says what it did, `where` is the place to look at."""

    @property
    def where(self) -> Path | str:
        """A path relative to the workspace."""
        ...


def run_stage(name: str, stage: Callable[[Path, Params], Report]) -> None:
    """Run a stage in the current folder, with its params.yaml, as a command.

    Prints one line, `NAME: WHAT in HOW LONG -> WHERE`. An error is one line on stderr and ends the process:
    with the error's `exit_code` where it has one (BadInput: 2), else 1; with -v the traceback is shown
    too. Where PHOTOPROOF_STAGE_RESULT names a file, the line goes there instead. SIGTERM unwinds the stack,
    so that what is open is closed, and ends with 143.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{name}", description=stage.__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="show TensorFlow's log and tracebacks")
    unhush()
    if parser.parse_args().verbose:
        os.environ[VARIABLE] = "1"  # so that processes started by the stage know it too
    signal.signal(signal.SIGTERM, _terminate)
    if not is_verbose():
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # names every font that is not installed
    started = time.monotonic()
    try:
        report = stage(Path.cwd(), read_params())
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        exit_code = getattr(error, "exit_code", 1)
        if not _leave_result({"error": describe(error), "exit_code": exit_code}):
            print(f"{name}: {describe(error)}", file=sys.stderr)
        if is_verbose():
            traceback.print_exc()
        sys.exit(exit_code)
    line = f"{name}: {report} in {duration(time.monotonic() - started)} -> {report.where}"
    if not _leave_result({"line": line}):
        print(line)


def _leave_result(result: dict[str, object]) -> bool:
    """Write what would be printed to the file that PHOTOPROOF_STAGE_RESULT names, for a flow that runs the stage.

    False where it names none.
    """
    path = os.environ.get("PHOTOPROOF_STAGE_RESULT")
    if path:
        Path(path).write_text(json.dumps(result))
    return bool(path)


def describe(error: Exception) -> str:
    """An error as one line: its message where it is meant for people, else its type too."""
    message = " ".join(str(error).split())
    if hasattr(error, "exit_code"):
        return message
    return f"{type(error).__name__}: {message or 'no message'} (-v shows where)"


def duration(seconds: float) -> str:
    """Seconds as people say them: "58 s", "12 min 5 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _terminate(number: int, frame: Any) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    sys.exit(128 + number)
