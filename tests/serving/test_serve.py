import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTS_A_SERVER = """
import subprocess, sys
from pipelines.serve import ending_with_us
server = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(300)"]
process = subprocess.Popen(ending_with_us(server), start_new_session=True)
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_the_model_server_of_a_serve_that_is_killed_ends_too():
    with subprocess.Popen([sys.executable, "-c", STARTS_A_SERVER], stdout=subprocess.PIPE, text=True) as serve:
        assert serve.stdout
        told, server = int(serve.stdout.readline()), int(serve.stdout.readline())
        assert told == server
        serve.kill()
    deadline = time.monotonic() + 20
    while runs(server):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
