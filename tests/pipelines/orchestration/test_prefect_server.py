import contextlib
import fcntl
import http.server
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.orchestration import prefect_server
from pipelines.orchestration.prefect_server import PrefectUnavailable, prefect_api
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from training.stage.errors import BadInput


class OfAnotherClone(http.server.BaseHTTPRequestHandler):
    """Answers as the Prefect server of another clone."""

    def do_GET(self) -> None:
        body = b'{"home": "/another/clone/.photoproof/prefect"}' if self.path.endswith("/settings") else b"true"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def another_clones_server(port: int = 0) -> Iterator[int]:
    """A server of another clone for the block; gives its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), OfAnotherClone) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@contextlib.contextmanager
def process(*inherits: int) -> Iterator[subprocess.Popen[bytes]]:
    """An idle process with a group of its own, as a server has."""
    words = [sys.executable, "-IS", "-c", "import time; time.sleep(300)"]
    with subprocess.Popen(words, start_new_session=True, pass_fds=inherits) as running:
        try:
            yield running
        finally:
            running.kill()


def pid_file(workspace: Workspace) -> Path:
    """Where the workspace's server is written down; its folder is made."""
    (workspace.state / "prefect").mkdir(parents=True, exist_ok=True)
    return workspace.state / "prefect" / "server.pid"


def use(workspace: Workspace, port: int | None = None) -> None:
    with prefect_api(workspace, port):
        pass


def test_one_server_is_shared_even_while_it_is_slow_and_its_last_user_stops_it(workspace: Workspace) -> None:
    with process() as stranger, another_clones_server() as port:
        pid_file(workspace).write_text(
            f"{stranger.pid} http://127.0.0.1:{port}/api"
        )  # from before the machine's restart
        with prefect_api(workspace) as first:
            assert not first.startswith(f"http://127.0.0.1:{port}/")
            pid = int(pid_file(workspace).read_text().split()[0])
            del os.environ["PREFECT_API_URL"]  # as another command of the same workspace finds it
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(2.5, os.kill, (pid, signal.SIGCONT)).start()
            with prefect_api(workspace) as second:
                assert second == first
                assert int(pid_file(workspace).read_text().split()[0]) == pid
            assert httpx.get(f"{first}/health").status_code == 200
            os.environ["PREFECT_API_URL"] = first
        assert stranger.poll() is None
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{first}/health")


def test_a_port_on_which_another_server_answers_is_refused_in_a_line(workspace: Workspace) -> None:
    with another_clones_server() as port, pytest.raises(BadInput, match=f"^port {port} is taken: stop what listens"):
        use(workspace, port)
    assert not pid_file(workspace).exists()


def test_a_server_that_takes_the_port_while_ours_starts_is_not_mistaken_for_ours(workspace: Workspace) -> None:
    port, done = free_port(), threading.Event()

    def take_the_port() -> None:
        while not (pid_file(workspace).exists() or done.is_set()):
            time.sleep(0.01)
        with another_clones_server(port):
            done.wait(60)

    other = threading.Thread(target=take_the_port)
    other.start()
    try:
        with pytest.raises(PrefectUnavailable, match=r"did not start: see .*prefect\.log"):
            use(workspace, port)
    finally:
        done.set()
        other.join()
    assert not pid_file(workspace).exists()


@pytest.mark.parametrize("content", [b"", b"4711", b"\xff\xff http://127.0.0.1:9/api"])
def test_a_file_that_names_no_server_counts_as_missing(workspace: Workspace, content: bytes) -> None:
    pid_file(workspace).write_bytes(content)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BadInput, match="is taken"):
        use(workspace, taken.getsockname()[1])  # it gets as far as starting a server


def test_a_full_disk_leaves_no_server_behind(workspace: Workspace) -> None:
    pid_file(workspace)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(PrefectUnavailable, match=r"can't be written to .*server\.pid: File too large"):
            use(workspace)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in pid_file(workspace).parent.glob("server.p*")] == []
    with open(workspace.state / "prefect" / "server.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it


def test_a_server_that_hangs_is_named_while_others_use_it_and_ended_when_nobody_does(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_server, "BUSY_SECONDS", 0.3)
    home = pid_file(workspace).parent
    with open(home / "server.lock", "w") as lock, socket.create_server(("127.0.0.1", 0)) as taken:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with process(lock.fileno()) as server:
            lock.close()
            pid_file(workspace).write_text(f"{server.pid} http://127.0.0.1:{free_port()}/api")
            with open(home / "users.lock", "w") as user:
                fcntl.flock(user, fcntl.LOCK_SH)
                with pytest.raises(PrefectUnavailable, match=rf"\(process {server.pid}\) has not answered .* use it"):
                    use(workspace)
                assert server.poll() is None
            with pytest.raises(BadInput, match="is taken"):  # it gets as far as starting another server
                use(workspace, taken.getsockname()[1])
            assert server.wait(5) == -signal.SIGTERM


def test_a_server_that_is_named_and_does_not_answer_is_one_clear_line(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with (
        pytest.raises(PrefectUnavailable, match="no Prefect server answers at PREFECT_API_URL"),
        prefect_api(workspace),
    ):
        pass


def test_importing_the_server_module_imports_no_prefect() -> None:
    code = "import sys, pipelines.orchestration.prefect_server; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
