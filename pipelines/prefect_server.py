"""One Prefect server for a workspace: reused where one runs, started where none does, stopped by its last user."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from pipelines.workspace import Workspace

START_SECONDS = 120


class PrefectUnavailable(RuntimeError):
    """No Prefect server answers and none could be started; the message says where its log is."""

    exit_code = 1


@contextlib.contextmanager
def prefect_api(workspace: Workspace, port: int | None = None) -> Iterator[str]:
    """Yield the URL of Prefect's API, with the environment set so that `import prefect` talks to it.

    Where PREFECT_API_URL is set, that server is used as it is. Otherwise the workspace's own runs for as long as
    any command uses it: each user holds a shared lock, and the one that can turn its lock into an exclusive one is
    the last and stops the server.

    Enter before the first import of prefect. A server that has to be started listens on `port`, or on any free one.
    Raises PrefectUnavailable.
    """
    quieten()
    given = os.environ.get("PREFECT_API_URL")
    if given:
        if not _answers(given):
            raise PrefectUnavailable(
                f"no Prefect server answers at PREFECT_API_URL={given}: start it, or unset the variable"
            )
        yield given
        return
    home = workspace.state / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "users.lock", "w") as users:
        with _exclusive(home / "start.lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            url, started = _running(home), None
            if url is None:
                url, started = _start(workspace, home, port or free_port())
        os.environ["PREFECT_API_URL"] = url
        os.environ["PREFECT_HOME"] = str(home)
        try:
            yield url
        finally:
            _send_logs()
            del os.environ["PREFECT_API_URL"]
            with _exclusive(home / "start.lock"), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(home)
                if started is not None:
                    started.wait()


def quieten() -> None:
    """Keep Prefect's own log off the terminal: the commands speak, the run's log in Prefect has the rest."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def _send_logs() -> None:
    """Let the last lines of this process's runs reach the server while it is there."""
    if "prefect" in sys.modules:
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=10)


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def server_command(port: int) -> list[str]:
    """The command line of a server on the loopback interface."""
    return [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]


def _start(workspace: Workspace, home: Path, port: int) -> tuple[str, subprocess.Popen[bytes]]:
    url = f"http://127.0.0.1:{port}/api"
    workspace.logs.mkdir(parents=True, exist_ok=True)
    log = workspace.logs / "prefect.log"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    }
    with open(log, "ab") as out:
        server = subprocess.Popen(
            server_command(port),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    (home / "server.pid").write_text(f"{server.pid} {url}")
    deadline = time.monotonic() + START_SECONDS
    while not _answers(url):
        if server.poll() is not None or time.monotonic() > deadline:
            _stop(home)
            raise PrefectUnavailable(f"Prefect's local server did not start: see {log}")
        time.sleep(0.2)
    return url, server


def _running(home: Path) -> str | None:
    known = home / "server.pid"
    if not known.is_file():
        return None
    url = known.read_text().split()[1]
    return url if _answers(url) else None


def _stop(home: Path) -> None:
    known = home / "server.pid"
    pid = int(known.read_text().split()[0])
    known.unlink()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):  # started by another command: not ours to reap
            os.waitpid(pid, os.WNOHANG)
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
