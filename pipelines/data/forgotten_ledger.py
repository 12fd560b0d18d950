"""`data.forgotten`: the ledger of DVC objects that were removed for good, and what replaced them.

A committed text file, a line an object: the object, what replaces it ("-": nothing), the day. A picture is replaced by
nothing; a manifest and a whole version (an object ending in ".dir") that named it are replaced by the same without it.
So an old version can still be asked for, and every clone knows what must not come back.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput
from training.stage.files import write_whole

LEDGER = "data.forgotten"
_HEAD = "# Removed for good by `photoproof data forget`: object, what replaces it, day. Keep every line.\n"


def read(workspace: Workspace) -> dict[str, str | None]:
    """Object -> what replaces it, None where nothing does. Raises BadInput for a line that can't be read."""
    path = workspace.root / LEDGER
    replacements: dict[str, str | None] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if len(words) != 3:
            raise BadInput(f"{path}, line {number}: {line!r} is not an object, what replaces it, and a day")
        replacements[words[0]] = None if words[1] == "-" else words[1]
    return replacements


def add(workspace: Workspace, replaced: dict[str, str | None]) -> None:
    """Add objects to the ledger; what it has already stays as it is."""
    known = read(workspace)
    path = workspace.root / LEDGER
    text = path.read_text() if path.is_file() else _HEAD
    day = datetime.now(UTC).date().isoformat()
    text += "".join(f"{old} {new or '-'} {day}\n" for old, new in sorted(replaced.items()) if old not in known)
    write_whole(path, text)


def find_in_data(workspace: Workspace) -> list[Path]:
    """Files of data/ that are forgotten; searched only where the manifest is that of a forgotten version."""
    ledger = read(workspace)
    manifest = workspace.data / "manifest.parquet"
    if not ledger or not manifest.is_file() or _md5(manifest) not in ledger:
        return []
    return [path for path in sorted(workspace.data.rglob("*")) if path.is_file() and _md5(path) in ledger]


def find_successor(ledger: dict[str, str | None], md5: str) -> str:
    """The md5 (without ".dir") of the version that replaced a version; its own where it names nothing forgotten."""
    seen: set[str] = set()
    while (successor := ledger.get(f"{md5}.dir")) is not None and md5 not in seen:
        seen.add(md5)
        md5 = successor.removesuffix(".dir")
    return md5


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
