"""Processes that end with us, and how one is ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

STOP_SECONDS = 20
"""How long a process that is asked to end may take, a server for the calls that it has."""

KILL_SECONDS = 10
"""How long the end of a process that is killed is waited for."""

_END_WITH_PARENT = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which the program that follows keeps
if os.getppid() == parent:
    os.execvp(command[0], command)
"""


def ending_with_us(command: list[str]) -> list[str]:
    """The command line of the same program, which on Linux gets SIGTERM when this thread ends, however it ends.

    A killed `serve` would otherwise leave a server that holds its ports. The program keeps the process id.
    """
    return [sys.executable, "-IS", "-c", _END_WITH_PARENT, str(os.getpid()), *command]


def end_group(leader: int, lives: Callable[[], bool], seconds: float = STOP_SECONDS) -> None:
    """End the process group of a process: asked first, and killed if `lives` still says so after so many seconds.

    `lives` is asked before every signal: by then the number may be another process's.
    """
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, KILL_SECONDS)):
        if not lives():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, number)
        deadline = time.monotonic() + patience
        while lives() and time.monotonic() < deadline:
            time.sleep(0.05)


def end_process(process: "subprocess.Popen[Any]", seconds: float = STOP_SECONDS) -> None:
    """End a process that has a session of its own, with all that it has started, and wait for its end."""
    end_group(process.pid, lambda: _group_lives(process), seconds)
    if process.stdin:
        process.stdin.close()
    process.wait()


def _group_lives(leader: "subprocess.Popen[Any]") -> bool:
    leader.poll()
    try:
        os.killpg(leader.pid, 0)
    except ProcessLookupError:
        return False
    return True
