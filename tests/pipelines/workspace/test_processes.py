"""Ending a process: what ignores SIGTERM is killed, and what it has started ends with it."""

import signal
import subprocess
import sys

import psutil

from pipelines.workspace.processes import end_process

IGNORES_SIGTERM = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""

STARTS_ANOTHER = """
import subprocess
child = subprocess.Popen(["sleep", "300"])
print(child.pid, flush=True)
child.wait()
"""


def start(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_a_process_that_ignores_sigterm_is_killed():
    with start(IGNORES_SIGTERM) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        end_process(process, seconds=0.2)
    assert process.returncode == -signal.SIGKILL


def test_what_a_process_has_started_ends_with_it():
    with start(STARTS_ANOTHER) as process:
        assert process.stdout
        started = psutil.Process(int(process.stdout.readline()))
        end_process(process)
    assert process.returncode == -signal.SIGTERM
    assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE


def test_a_process_that_has_ended_is_left_alone():
    with start("print('done')") as process:
        process.wait(60)
        end_process(process)
    assert process.returncode == 0
