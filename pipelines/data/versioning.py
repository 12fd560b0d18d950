"""Versions of the data: DVC keeps the bytes, git keeps data.dvc."""

import io
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from pipelines.data import forgotten_ledger
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.files import write_whole

STORE = "store"
"""The DVC remote that flows push to. Never `sample`, whose folder is committed."""

_ERROR = "ERROR: "
_MISSING = ("Checkout failed for following targets", "remote 'sample' doesn't exist")
"""DVC's words for files that it does not find."""


class VersioningFailed(RuntimeError):
    """DVC or git refused; the message has what it said."""

    exit_code = 1


@dataclass(frozen=True)
class DataVersion:
    """What data.dvc says."""

    md5: str
    files: int
    bytes: int

    def __str__(self) -> str:
        return f"data version {self.md5[:12]}: {self.files:,} files, {self.bytes / 1e6:,.1f} MB"


def read_version(workspace: Workspace) -> DataVersion | None:
    """What data.dvc says now; None where there is no data.dvc."""
    path = workspace.root / "data.dvc"
    return parse_version(path.read_text()) if path.is_file() else None


def read_committed(workspace: Workspace, revision: str = "HEAD") -> str | None:
    """The contents of data.dvc in a revision of git's; None where it has no data.dvc."""
    try:
        return _read_blobs(workspace, [f"{revision}:data.dvc"])[0]
    except VersioningFailed:
        return None


def versions_at(workspace: Workspace, revisions: Iterable[str]) -> dict[str, DataVersion]:
    """What data.dvc says in each of git's revisions, read by one process; those without data.dvc are left out."""
    names = list(revisions)
    texts = _read_blobs(workspace, [f"{revision}:data.dvc" for revision in names])
    return {name: parse_version(text) for name, text in zip(names, texts, strict=True) if text is not None}


def _read_blobs(workspace: Workspace, names: list[str]) -> list[str | None]:
    """The texts of files in git, each named as REVISION:PATH; None for one that git does not have."""
    command = ["git", "cat-file", "--batch"]
    output = io.BytesIO(_output(command, workspace.root, "".join(f"{name}\n" for name in names).encode()))
    texts: list[str | None] = []
    for _ in names:
        words = output.readline().split()  # OBJECT TYPE SIZE, or NAME missing
        if len(words) == 3 and words[2].isdigit():
            content = output.read(int(words[2]) + 1)[:-1]
            texts.append(content.decode() if words[1] == b"blob" else None)
        else:
            texts.append(None)
    return texts


def parse_version(text: str) -> DataVersion:
    """What the contents of a data.dvc say."""
    out = yaml.safe_load(text)["outs"][0]
    return DataVersion(out["md5"].removesuffix(".dir"), out.get("nfiles", 1), out.get("size", 0))


def add_data(workspace: Workspace) -> DataVersion:
    """Bring data/ into DVC's cache and write data.dvc. The same pictures give the same data.dvc."""
    ensure_store(workspace)
    _dvc(workspace, "add", "data")
    version = read_version(workspace)
    assert version is not None, "dvc add writes data.dvc"
    return version


def pull_data(workspace: Workspace) -> None:
    """Bring data/ to what data.dvc says, from the store, else from the committed remote.

    Where pictures of that version were forgotten, data.dvc and data/ become the version without them. Raises BadInput
    where neither remote has it, VersioningFailed where DVC says anything else.
    """
    version = read_version(workspace)
    if version is None:
        raise BadInput(
            f"{workspace.root / 'data.dvc'} not found: run `photoproof import DIR`, then `photoproof ingest`"
        )
    ensure_store(workspace)
    for path in forgotten_ledger.find_in_data(workspace):  # DVC would keep them, as files that are nowhere else
        path.unlink()
    successor = forgotten_ledger.find_successor(forgotten_ledger.read(workspace), version.md5)
    if successor != version.md5:
        write_whole(workspace.root / "data.dvc", f"outs:\n- md5: {successor}.dir\n  hash: md5\n  path: data\n")
    _pull(workspace, version)
    if successor != version.md5:
        _dvc(workspace, "add", "data")  # files and bytes of data.dvc


def _pull(workspace: Workspace, version: DataVersion) -> None:
    errors = []
    for words in (["checkout"], ["pull", "-r", STORE], ["pull", "-r", "sample"]):
        try:
            _dvc(workspace, *words, "data.dvc")
            return
        except VersioningFailed as error:
            errors.append(error)
    for error in errors:
        if not any(words in str(error) for words in _MISSING):
            raise VersioningFailed(f"data/ can't be brought to data.dvc ({version}): {error}") from error
    raise BadInput(
        f"the data of data.dvc ({version}) is neither in DVC's cache nor in the remotes {STORE} and sample: "
        "push it from where it was made (`dvc push -r store data.dvc`), or run `photoproof ingest`"
    )


def push_data(workspace: Workspace) -> None:
    """Push the data of data.dvc to the store."""
    ensure_store(workspace)
    _dvc(workspace, "push", "-r", STORE, "data.dvc")


def ensure_store(workspace: Workspace) -> None:
    """Have a remote `store`, and have it as the default, so that no push by hand reaches the committed remote.

    A `store` that somebody configured (S3, a share) is left as it is.
    """
    folder = workspace.root / ".dvc"
    configs = [path.read_text() for path in (folder / "config.local", folder / "config") if path.is_file()]
    if any(f'remote "{STORE}"' in text for text in configs):
        return
    from dvc.config import Config  # in this process: `dvc remote add` takes a second
    from dvc.exceptions import DvcException

    (workspace.state / STORE).mkdir(parents=True, exist_ok=True)
    try:
        with Config(os.fspath(folder)).edit("local") as opened:
            config = cast("dict[str, Any]", opened)
            # verify: else DVC trusts what it pulls by its name, a half-written picture too
            config["remote"][STORE] = {"url": os.fspath(workspace.state / STORE), "verify": True}
            config["core"]["remote"] = STORE
    except DvcException as error:
        raise VersioningFailed(f"dvc remote add {STORE}: {error}") from error


def commit(workspace: Workspace, names: list[str], message: str) -> str | None:
    """Commit those of the files that differ from HEAD, and nothing else; their commit, None where nothing differs."""
    present = [name for name in names if (workspace.root / name).exists()]
    changed = git(workspace, "status", "--porcelain", "--", *present).splitlines() if present else []
    if not changed:
        return None
    paths = [line[3:] for line in changed]
    git(workspace, "add", "--", *paths)
    author = [] if _has_identity(workspace) else ["-c", "user.name=Photoproof", "-c", "user.email=photoproof@localhost"]
    git(workspace, *author, "commit", "--quiet", "--only", "-m", message, "--", *paths)
    return git(workspace, "rev-parse", "HEAD").strip()


def _has_identity(workspace: Workspace) -> bool:
    command = ["git", "var", "GIT_COMMITTER_IDENT"]
    return subprocess.run(command, cwd=workspace.root, capture_output=True).returncode == 0


def git(workspace: Workspace, *words: str) -> str:
    """What a git command prints. Raises VersioningFailed."""
    return _run(["git", *words], workspace.root)


def _dvc(workspace: Workspace, *words: str) -> None:
    _run([sys.executable, "-m", "dvc", *words], workspace.root)


def _run(command: list[str], cwd: Path) -> str:
    return _output(command, cwd).decode()


def _output(command: list[str], cwd: Path, stdin: bytes = b"") -> bytes:
    process = subprocess.run(command, cwd=cwd, capture_output=True, input=stdin)
    if process.returncode:
        words = " ".join(command[2:] if command[1] == "-m" else command)
        reason = _find_reason((process.stderr or process.stdout).decode(errors="replace"))
        raise VersioningFailed(f"{words}: {reason or f'ended with {process.returncode}'}")
    return process.stdout


def _find_reason(output: str) -> str:
    """DVC's first error, with the file that it names in the line after, or git's last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(_ERROR):
            return f"{line.removeprefix(_ERROR)} {after if after.startswith('/') else ''}".rstrip()
    return lines[-1] if lines else ""
