"""One at a time: a file lock in the workspace, which a killed holder leaves free."""

import contextlib
import fcntl
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipelines.workspace.places import Workspace


class WorkspaceBusy(RuntimeError):
    """Another process holds the lock: it does the same on this workspace."""

    exit_code = 2


@contextlib.contextmanager
def exclusive(path: Path, busy: str = "", patience: float | None = None) -> Iterator[None]:
    """Hold the lock at `path` for the `with` block; without `patience` (seconds), wait for it as long as it takes.

    Who waits without a limit is told for whom in a line on stderr, unless the wait is short.
    Raises WorkspaceBusy with the message `busy`, its {holder} filled in, where another holds it longer than `patience`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = None if patience is None else time.monotonic() + patience
    with path.open("a+") as file:
        for attempt in itertools.count():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline is None and attempt == 1:  # by now the holder has written who it is
                    print(f"{path.stem}: waiting for {path}, held by {_holder(file)}", file=sys.stderr, flush=True)
                if deadline is not None and time.monotonic() > deadline:
                    raise WorkspaceBusy(busy.replace("{holder}", _holder(file))) from None
                time.sleep(0.2)
        file.truncate(0)
        with contextlib.suppress(OSError):  # on a full disk the lock is held all the same
            os.write(file.fileno(), f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        try:
            yield
        finally:
            file.truncate(0)


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "another process"


def exclusive_workspace(workspace: Workspace, patience: float = 10) -> contextlib.AbstractContextManager[None]:
    """Hold the workspace's lock. Raises WorkspaceBusy where another holds it for more than `patience` seconds."""
    busy = f"a retraining runs on {workspace.root} already ({{holder}}): wait for its end, or cancel it"
    return exclusive(workspace.state / "retrain.lock", busy, patience)
