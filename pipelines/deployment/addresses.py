"""Which model servers there are: those that the settings list, and those that `serve` started."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings


@dataclass(frozen=True)
class RunningServer:
    """A model server that answers: its addresses, which one it is, and where its output goes."""

    grpc: str
    rest: str
    description: str
    log: Path
    process: "subprocess.Popen[bytes]"


def known_servers(workspace: Workspace) -> list[str]:
    """Addresses where servers of this workspace may run.

    Those that PHOTOPROOF_SERVERS lists; else the one that PHOTOPROOF_SERVER names; else those that `serve` has started,
    or, where there is none, the default.
    """
    settings = Settings()
    if settings.server_list:
        return settings.server_list
    if "server" in settings.model_fields_set:
        return [settings.server]
    found = []
    for note in sorted((workspace.serving / "servers").glob("*.json")):
        with contextlib.suppress(ProcessLookupError, PermissionError, FileNotFoundError, json.JSONDecodeError):
            os.kill(int(note.stem), 0)
            found.append(json.loads(note.read_text())["grpc"])
    return found or [settings.server]


def server_to_ask(workspace: Workspace) -> str:
    """Where verdicts are asked for: the address that PHOTOPROOF_SERVER names, else the first known one."""
    settings = Settings()
    return settings.server if "server" in settings.model_fields_set else known_servers(workspace)[0]


def _write_note(note: Path, server: RunningServer) -> None:
    """Leave a server's addresses for `known_servers`; on a full disk it serves without."""
    try:
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps({"grpc": server.grpc, "rest": server.rest}))
    except OSError as error:
        said = f"{note} can't be written ({error.strerror or error}): deploy finds this server only by"
        print(f"WARNING: {said} PHOTOPROOF_SERVER={server.grpc}", file=sys.stderr)
