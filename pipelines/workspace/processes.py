"""Processes that end with us, and how one is ended."""

import os
import subprocess
import sys

STOP_SECONDS = 20
"""How long a server may take to finish the calls that it has."""

_END_WITH_PARENT = """
import ctypes, os, signal, sys
parent, words = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which the program that follows keeps
if os.getppid() == parent:
    os.execvp(words[0], words)
"""


def ending_with_us(words: list[str]) -> list[str]:
    """The command line of the same program, which on Linux gets SIGTERM when this thread ends, however it ends.

    A killed `serve` would otherwise leave a server that holds its ports. The program keeps the process id.
    """
    return [sys.executable, "-IS", "-c", _END_WITH_PARENT, str(os.getpid()), *words]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
