"""Digests of code and data: what a kept result depends on."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder training/."""


def code_of(names: Sequence[str] = ("",)) -> list[bytes]:
    """The source of every Python file below the named files and folders of training/; of all of it by default.

    Paths are relative to training/, such as "model" or "stage/files.py"; the order does not depend on the machine.
    """
    paths = set()
    for name in names:
        place = PACKAGE / name
        files = list(place.rglob("*.py")) if place.is_dir() else [place]
        paths.update(path.relative_to(PACKAGE).as_posix() for path in files)
    return [path.encode() + b"\0" + (PACKAGE / path).read_bytes() for path in sorted(paths)]


def package_fingerprint(extra: str = "") -> str:
    """SHA-256 of all of training/'s code and of `extra`."""
    return hashlib.sha256(b"\0".join([*code_of(), extra.encode()])).hexdigest()


def key_of(*parts: Any) -> str:
    """A digest of data, code and params: bytes, or anything that JSON can say."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]
