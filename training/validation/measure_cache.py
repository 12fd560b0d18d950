"""Measures that were taken before, found again by a picture's bytes: a data version measures only what is new in it."""

import hashlib
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.stage.fingerprints import code_of
from training.stage.params import Workers
from training.validation import measure

FOLDER = Path(".photoproof/measured")
SAVE_EVERY = 60.0  # seconds; what was measured since is measured again after a kill

_DECIDE = ("imagehash", "numpy", "pillow")  # packages whose versions measures depend on
_SCHEMA = pa.schema([pa.field("sha256", pa.string()), *measure.SCHEMA])


def measure_new(paths: Sequence[Path], max_pixels: int, folder: Path, workers: Workers = measure.ALL_CORES) -> pa.Table:
    """What `measure.measure_all` returns; only bytes whose measures are not in `folder` are decoded.

    Afterwards `folder` holds the measures of these pictures and of no others. Measures by other code, or with another
    max_pixels, are not taken. Raises BadInput where `workers` is a Dask cluster that can't be had.
    """
    file = folder / f"{_key(max_pixels)}.parquet"
    digests = [_sha256(path) for path in paths]
    held = _read(file)
    here = set(digests)
    held = held.filter(pa.array([one in here for one in held["sha256"].to_pylist()], pa.bool_()))
    row_of = {digest: row for row, digest in enumerate(held["sha256"].to_pylist())}
    rows = np.empty(len(paths), np.int64)
    new: list[int] = []
    for at, digest in enumerate(digests):
        row = row_of.get(digest)
        if row is None:
            row = len(held) + len(new)
            new.append(at)
            if digest is not None:  # else there is nothing to know it by
                row_of[digest] = row
        rows[at] = row

    pieces = [held]
    fresh: list[dict] = []
    saved = time.monotonic()
    try:
        for at, row in zip(new, measure.measure_each([paths[at] for at in new], max_pixels, workers), strict=True):
            known_by = digests[at] if row.bytes is not None else None  # a file that could not be read may be, next time
            fresh.append({"sha256": known_by, **vars(row)})
            if time.monotonic() - saved > SAVE_EVERY:
                pieces.append(pa.Table.from_pylist(fresh, _SCHEMA))
                fresh = []
                _write(pieces, file)
                saved = time.monotonic()
    finally:
        pieces.append(pa.Table.from_pylist(fresh, _SCHEMA))
        _write(pieces, file)
    return pa.concat_tables(pieces).take(rows).drop_columns("sha256")


def _key(max_pixels: int) -> str:
    code = b"".join(code_of(["validation/measure.py"]))
    packages = " ".join(version(name) for name in _DECIDE)
    return hashlib.sha256(b"\0".join([code, packages.encode(), str(max_pixels).encode()])).hexdigest()[:16]


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # measuring it says why
        return None


def _read(file: Path) -> pa.Table:
    """The measures that are kept; none where there is no file, or a damaged one, which the next takes the place of."""
    try:
        return pq.read_table(file, schema=_SCHEMA)
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()


def _write(pieces: Sequence[pa.Table], file: Path) -> None:
    table = pa.concat_tables(pieces)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    pq.write_table(table.filter(table["sha256"].is_valid()), part, compression="zstd")
    part.replace(file)
    for other in file.parent.iterdir():
        if other != file:
            other.unlink()
