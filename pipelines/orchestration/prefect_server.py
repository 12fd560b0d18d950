"""One Prefect server for a workspace: started by its first user, shared by the others, stopped by the last one."""

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx

from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.processes import end_group
from training.stage.files import write_whole

START_SECONDS = 120
"""How long a server may take to start."""

BUSY_SECONDS = 60
"""How long a server that runs may leave a command without an answer: while a training runs it can be slow."""

ANSWER_SECONDS = 10
"""How long one answer of a server may take."""

STOP_SECONDS = 10
"""How long a server may take to stop before it is killed."""


class PrefectUnavailable(RuntimeError):
    """No Prefect server answers and none could be started; the message names what to do, or the server's log."""

    exit_code = 1


@contextlib.contextmanager
def prefect_api(workspace: Workspace, port: int | None = None) -> Iterator[str]:
    """Yield the URL of Prefect's API, with the environment set so that `import prefect` talks to it.

    Where PREFECT_API_URL is set, that server is used as it is. Otherwise the workspace's own runs for as long as
    any command uses it: each user holds a shared lock, and the one that can turn its lock into an exclusive one is
    the last and stops the server.

    Enter before the first import of prefect. A server that has to be started listens on `port`, by default a free one.
    Raises PrefectUnavailable, BadInput where the port is taken.
    """
    quieten()
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        if not answers(configured):
            raise PrefectUnavailable(
                f"no Prefect server answers at PREFECT_API_URL={configured}: start it, or unset the variable"
            )
        yield configured
        return
    home = workspace.state / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "users.lock", "w") as users:
        with _exclusive(home / "start.lock"):
            url, started = _running(home, users), None
            if url is None:
                url, started = _start(workspace, home, free_port(port or 0))
            fcntl.flock(users, fcntl.LOCK_SH)
        os.environ["PREFECT_API_URL"] = url
        os.environ["PREFECT_HOME"] = str(home)
        try:
            yield url
        finally:
            _send_logs()
            del os.environ["PREFECT_API_URL"]
            with _exclusive(home / "start.lock"):
                if _only_user(users):
                    _stop(home, started)


def quieten() -> None:
    """Keep Prefect's own log off the terminal: commands print what a person needs, and the rest is in Prefect."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def _send_logs() -> None:
    """Send the last log lines of this process's runs while the server runs."""
    if "prefect" in sys.modules:
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=10)


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
    with open(log, "ab") as output, open(home / "server.lock", "w") as life:
        try:
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrefectUnavailable(
                f"a Prefect server of this workspace runs already, but {home / 'server.pid'} does not name it: "
                f"end the process that `fuser {life.name}` names"
            ) from None
        (home / "server.pid").unlink(missing_ok=True)  # of one that has ended
        server = subprocess.Popen(
            server_command(port),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[life.fileno()],  # it holds the lock for as long as it lives, however it ends
        )
    try:
        _write_known(home / "server.pid", server.pid, url)
        deadline = time.monotonic() + START_SECONDS
        while not (answers(url) and _has_home(url, home)):
            if server.poll() is not None or time.monotonic() > deadline:
                raise PrefectUnavailable(f"Prefect's local server did not start: see {log}")
            time.sleep(0.2)
    except BaseException:
        _stop(home, server)
        raise
    return url, server


def _running(home: Path, users: IO[str]) -> str | None:
    """The URL of the workspace's server, None where it does not run.

    A server that does not answer is stopped if no other command uses it. Raises PrefectUnavailable if one does.
    """
    known = _read_known(home / "server.pid")
    if known is None:
        return None
    pid, url = known
    deadline = time.monotonic() + BUSY_SECONDS
    while _lives(home):
        if answers(url):
            return url
        if time.monotonic() > deadline:
            if not _only_user(users):
                raise PrefectUnavailable(
                    f"this workspace's Prefect server (process {pid}) has not answered at {url} for {BUSY_SECONDS} s, "
                    "and other commands use it: try again later, or end them and it"
                )
            _stop(home)
            break
        time.sleep(0.2)
    return None


def _stop(home: Path, server: "subprocess.Popen[bytes] | None" = None) -> None:
    """End the workspace's server: the one that server.pid names, or `server` where this process has just started it."""
    known = _read_known(home / "server.pid")
    (home / "server.pid").unlink(missing_ok=True)
    pid = known[0] if known else server.pid if server else None
    if pid is not None:
        end_group(pid, lambda: _lives(home), STOP_SECONDS)
    if server:
        server.wait()


def _lives(home: Path) -> bool:
    """Whether the server that this workspace has started still runs: it holds a lock from its start to its end."""
    with open(home / "server.lock", "w") as lock:
        return not _try_lock(lock)


def _only_user(users: IO[str]) -> bool:
    """Whether no other command uses the server; if so, none can begin to until `users` is closed or shared again."""
    return _try_lock(users)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_known(path: Path) -> tuple[int, str] | None:
    """Process id and URL of the server that was started last; None where the file has no such pair."""
    try:
        pid, url = path.read_text().split()
        return int(pid), url
    except (OSError, ValueError):
        return None


def _write_known(path: Path, pid: int, url: str) -> None:
    try:
        write_whole(path, f"{pid} {url}")
    except OSError as error:
        raise PrefectUnavailable(
            f"Prefect's local server was stopped: its process can't be written to {path}: {error.strerror or error}"
        ) from error


def answers(url: str) -> bool:
    """Whether a Prefect server answers at an API's URL."""
    try:
        return httpx.get(f"{url}/health", timeout=ANSWER_SECONDS).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _has_home(url: str, home: Path) -> bool:
    """Whether the server at the URL is this workspace's: another may have taken the port while ours was starting."""
    try:
        settings = httpx.get(f"{url}/admin/settings", timeout=ANSWER_SECONDS).raise_for_status().json()
        return Path(settings["home"]).resolve() == home.resolve()
    except (httpx.HTTPError, ValueError, TypeError, KeyError):
        return False


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
