"""What every `python -m training.STAGE` does around its stage: params in, one line out, an exit code."""

import argparse
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

from training.stage.params import Params, read_params


class _PythonsStderr(io.TextIOBase):
    """What Python writes to while hushed. It is never closed: a log handler that keeps it goes on writing."""

    def write(self, text: str) -> int:
        os.write(self.fileno(), text.encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return 2 if _real_stderr is None else _real_stderr

    def isatty(self) -> bool:
        return os.isatty(self.fileno())


_real_stderr: int | None = None
_python_stderr = _PythonsStderr()
_before: TextIO | None = None


class Report(Protocol):
    """What a stage returns: `str()` says what it did, `where` is where to look."""

    @property
    def where(self) -> Path | str:
        """A path relative to the workspace."""
        ...


def is_verbose() -> bool:
    """Whether the person wants tracebacks and TensorFlow's chatter: -v, or PHOTOPROOF_VERBOSE."""
    return "-v" in sys.argv[1:] or "--verbose" in sys.argv[1:] or bool(os.environ.get("PHOTOPROOF_VERBOSE"))


def hush() -> None:
    """Silence what native code writes to stderr, until `unhush`; Python's own stderr goes on.

    TensorFlow 2.21 writes some lines while it is imported whatever its log level says. Does nothing where
    the person wants to see them.
    """
    global _real_stderr, _before
    if is_verbose() or _real_stderr is not None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    _real_stderr = os.dup(2)
    _before, sys.stderr = sys.stderr, _python_stderr
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def unhush() -> None:
    """End what `hush` began."""
    global _real_stderr, _before
    if _real_stderr is not None:
        os.dup2(_real_stderr, 2)
        os.close(_real_stderr)
        _real_stderr = None
        if sys.stderr is _python_stderr:  # else somebody has put another one in its place, and will take it away
            sys.stderr = _before or sys.__stderr__
        _before = None


@contextmanager
def hushed() -> Iterator[None]:
    """Hush for a `with` block: around the first import of TensorFlow, or a decode of what is known to be broken."""
    hush()
    try:
        yield
    finally:
        unhush()


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
    parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    if not is_verbose():
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # names every font that is not there
    started = time.monotonic()
    try:
        report = stage(Path.cwd(), read_params())
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        exit_code = getattr(error, "exit_code", 1)
        if not _told({"error": describe(error), "exit_code": exit_code}):
            print(f"{name}: {describe(error)}", file=sys.stderr)
        if is_verbose():
            raise
        sys.exit(exit_code)
    line = f"{name}: {report} in {duration(time.monotonic() - started)} -> {report.where}"
    if not _told({"line": line}):
        print(line)


def _told(said: dict[str, object]) -> bool:
    """Leave what would be printed in the file that PHOTOPROOF_STAGE_RESULT names, for a flow that runs the stage."""
    result = os.environ.get("PHOTOPROOF_STAGE_RESULT")
    if result:
        Path(result).write_text(json.dumps(said))
    return bool(result)


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
