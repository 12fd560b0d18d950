"""Kept measures, looked up by the SHA-256 of a picture's bytes: a data version measures only what is new in it."""

import hashlib
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.stage.files import writing_whole
from training.stage.fingerprints import code_of, key_of
from training.stage.params import Workers
from training.validation import measure

SAVE_EVERY = 60.0  # seconds; what was measured since is measured again after a kill

_PACKAGES = ("imagehash", "numpy", "pillow")  # whose versions measures depend on
_SCHEMA = pa.schema([pa.field("sha256", pa.string()), *measure.SCHEMA])


def measure_new(paths: Sequence[Path], max_pixels: int, folder: Path, workers: Workers = measure.ALL_CORES) -> pa.Table:
    """As `measure.measure_all`; only bytes whose measures are not in `folder` are decoded.

    Afterwards `folder` holds the measures of these pictures and of no others. Measures by other code, or with another
    max_pixels, are not used. Raises BadInput where `workers` is a Dask cluster that is unavailable.
    """
    file = folder / f"{_key(max_pixels)}.parquet"
    digests = [_sha256(path) for path in paths]
    kept = _read(file)
    wanted = set(digests)
    kept = kept.filter(pa.array([digest in wanted for digest in kept["sha256"].to_pylist()], pa.bool_()))
    row_of = {digest: row for row, digest in enumerate(kept["sha256"].to_pylist())}
    rows = np.empty(len(paths), np.int64)
    new: list[int] = []
    for number, digest in enumerate(digests):
        row = row_of.get(digest)
        if row is None:
            row = len(kept) + len(new)
            new.append(number)
            if digest is not None:  # an unreadable file has no digest to look it up by
                row_of[digest] = row
        rows[number] = row

    tables = [kept]
    unsaved: list[dict] = []
    saved = time.monotonic()
    measures = measure.measure_each([paths[number] for number in new], max_pixels, workers)
    try:
        for number, measured in zip(new, measures, strict=True):
            sha256 = digests[number] if measured.bytes is not None else None  # an unreadable file is tried next time
            unsaved.append({"sha256": sha256, **vars(measured)})
            if time.monotonic() - saved > SAVE_EVERY:
                tables.append(pa.Table.from_pylist(unsaved, _SCHEMA))
                unsaved = []
                _write(tables, file)
                saved = time.monotonic()
    finally:
        tables.append(pa.Table.from_pylist(unsaved, _SCHEMA))
        _write(tables, file)
    return pa.concat_tables(tables).take(rows).drop_columns("sha256")


def _key(max_pixels: int) -> str:
    return key_of(*code_of(["validation/measure.py"]), [version(name) for name in _PACKAGES], max_pixels)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # measuring the file gives the reason
        return None


def _read(file: Path) -> pa.Table:
    """The kept measures; none where the file is missing or damaged."""
    try:
        return pq.read_table(file, schema=_SCHEMA)
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()


def _write(tables: Sequence[pa.Table], file: Path) -> None:
    table = pa.concat_tables(tables)
    file.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(file) as part:
        pq.write_table(table.filter(table["sha256"].is_valid()), part, compression="zstd")
    for other in file.parent.iterdir():
        if other != file:
            other.unlink()
