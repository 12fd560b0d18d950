"""TensorFlow's chatter kept off the terminal."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


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
