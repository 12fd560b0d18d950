"""TensorFlow's chatter kept off the terminal."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from training.stage.fingerprints import PACKAGE

VARIABLE = "PHOTOPROOF_VERBOSE"


class _PythonStderr(io.TextIOBase):
    """What Python writes to while hushed. It is never closed: a log handler that keeps it goes on writing."""

    def write(self, text: str) -> int:
        os.write(self.fileno(), text.encode(errors="backslashreplace"))
        return len(text)

    def fileno(self) -> int:
        return 2 if _real_stderr is None else _real_stderr

    def isatty(self) -> bool:
        return os.isatty(self.fileno())


_real_stderr: int | None = None
_python_stderr = _PythonStderr()
_stderr_before: TextIO | None = None


def is_verbose() -> bool:
    """Whether the person wants tracebacks and TensorFlow's chatter: PHOTOPROOF_VERBOSE, or -v of a command of ours.

    Empty, 0, false and no mean no. A -v counts before the command has parsed it, for TensorFlow may be imported by
    then; the arguments of any other program, such as pytest, are not looked at.
    """
    if os.environ.get(VARIABLE, "").strip().lower() not in ("", "0", "false", "no"):
        return True
    return _is_our_command(sys.argv[0]) and not {"-v", "--verbose"}.isdisjoint(sys.argv[1:])


def _is_our_command(program: str) -> bool:
    """Whether argv[0] is of `python -m training.STAGE` or of `photoproof`.

    It is "-m" while Python locates the module; that of training/ is the only one that imports this meanwhile.
    """
    path = Path(program).absolute()
    module = path.parent if path.name == "__main__.py" else path
    return program == "-m" or path.parent == PACKAGE or module.stem == "photoproof"


def hush() -> None:
    """Silence what native code writes to stderr, until `unhush`; Python's own stderr goes on.

    TensorFlow 2.21 writes some lines while it is imported whatever its log level says. Does nothing where
    the person wants to see them.
    """
    global _real_stderr, _stderr_before
    if is_verbose() or _real_stderr is not None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    _real_stderr = os.dup(2)
    _stderr_before, sys.stderr = sys.stderr, _python_stderr
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def unhush() -> None:
    """End what `hush` began."""
    global _real_stderr, _stderr_before
    if _real_stderr is not None:
        os.dup2(_real_stderr, 2)
        os.close(_real_stderr)
        _real_stderr = None
        if sys.stderr is _python_stderr:  # else somebody has put another stream in its place, and will restore it
            sys.stderr = _stderr_before or sys.__stderr__
        _stderr_before = None


@contextmanager
def hushed() -> Iterator[None]:
    """Hush for a `with` block: around the first import of TensorFlow, or a decode of what is known to be broken."""
    hush()
    try:
        yield
    finally:
        unhush()
