"""Digests of data, code and params: what a kept result belongs to, and whether two machines have the same code."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder training/."""


def code_of(names: Sequence[str] = ("",)) -> list[bytes]:
    """Path and source of each Python file that is named, or is in a named folder at any depth; by default of all.

    Names are relative to training/, such as "model" or "stage/files.py". The files come sorted by their path, each
    once. Raises FileNotFoundError for a name that is not there.
    """
    paths = set()
    for name in names:
        place = PACKAGE / name
        files = place.rglob("*.py") if place.is_dir() else [place]
        paths.update(path.relative_to(PACKAGE).as_posix() for path in files)
    return [path.encode() + b"\0" + (PACKAGE / path).read_bytes() for path in sorted(paths)]


def key_of(*parts: Any) -> str:
    """16 hex digits of a SHA-256 of the parts, in their order: bytes, or anything that JSON can say."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def package_fingerprint(*parts: Any) -> str:
    """A key of all of training/'s code and of the parts."""
    return key_of(*code_of(), *parts)
