"""The addresses of model servers: those that the settings list, and those that `serve` started."""

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
    """A model server that answers: its addresses, which program it is, and where its output goes."""

    grpc: str
    rest: str
    description: str
    log: Path
    process: "subprocess.Popen[bytes]"


def known_servers(workspace: Workspace, settings: Settings) -> list[str]:
    """Addresses where servers of this workspace may run.

    Those that PHOTOPROOF_SERVERS lists; else the one that PHOTOPROOF_SERVER names; else those that `serve` has started,
    or the default where it has started none.
    """
    if settings.server_list:
        return settings.server_list
    if "server" in settings.model_fields_set:
        return [settings.server]
    addresses = []
    for note in sorted(_notes(workspace).glob("*.json")):
        with contextlib.suppress(ProcessLookupError, PermissionError, FileNotFoundError, json.JSONDecodeError):
            os.kill(int(note.stem), 0)
            addresses.append(json.loads(note.read_text())["grpc"])
    return addresses or [settings.server]


def server_to_ask(workspace: Workspace, settings: Settings) -> str:
    """Where verdicts are asked for: the address that PHOTOPROOF_SERVER names, else the first known one."""
    return settings.server if "server" in settings.model_fields_set else known_servers(workspace, settings)[0]


def note_of(workspace: Workspace, pid: int) -> Path:
    """The file in which `serve` notes the addresses of the server with this process id."""
    return _notes(workspace) / f"{pid}.json"


def _notes(workspace: Workspace) -> Path:
    return workspace.serving / "servers"


def write_note(note: Path, server: RunningServer) -> None:
    """Note a server's addresses for `known_servers`; where that fails, on a full disk, it serves all the same."""
    try:
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps({"grpc": server.grpc, "rest": server.rest}))
    except OSError as error:
        reason = error.strerror or error
        print(
            f"WARNING: {note} can't be written ({reason}): deploy finds this server only by "
            f"PHOTOPROOF_SERVER={server.grpc}",
            file=sys.stderr,
        )
