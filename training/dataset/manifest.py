"""The manifest of data/, a row a picture. data/ holds originals/, photos/ and manifest.parquet."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.stage.errors import BadInput
from training.stage.files import writing_whole

SCHEMA = pa.schema(
    [
        pa.field("role", pa.string(), nullable=False),  # "original" or "photo"
        pa.field("picture_id", pa.string(), nullable=False),  # the product_id of an original, the photo_id of a photo
        pa.field("product_id", pa.string(), nullable=False),  # the truth
        pa.field("name", pa.string(), nullable=False),  # the product's
        pa.field("category", pa.string(), nullable=False),  # the product's; "" where it has none
        pa.field("path", pa.string(), nullable=False),  # below data/, with forward slashes
        pa.field("sha256", pa.string(), nullable=False),  # of the bytes as the database has them
        pa.field("scene", pa.string()),
        pa.field("taken_at", pa.timestamp("us", tz="UTC")),
        pa.field("label_source", pa.string()),  # "import" or "person"; null for an original
        pa.field("source_format", pa.string()),  # "JPEG", "HEIC", …; null where the bytes don't decode
        pa.field("source_orientation", pa.int8()),  # EXIF, 1 to 8
    ]
)

ROW_GROUP = 10_000
"""Rows of a manifest that are compressed, and read, together."""


@contextlib.contextmanager
def manifest_writer(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """A function that takes rows in the order of role and picture_id; the manifest appears when the block succeeds.

    The same rows give the same bytes, in however many calls they come, and ROW_GROUP of them are in memory at most.
    """
    waiting: list[dict[str, Any]] = []

    def write(rows: list[dict[str, Any]], at_least: int = ROW_GROUP) -> None:
        waiting.extend(rows)
        while waiting and len(waiting) >= at_least:
            file.write_table(pa.Table.from_pylist(waiting[:ROW_GROUP], SCHEMA), row_group_size=ROW_GROUP)
            del waiting[:ROW_GROUP]

    with writing_whole(path) as part, pq.ParquetWriter(part, SCHEMA, compression="zstd") as file:
        yield write
        write([], at_least=1)


def write_manifest(rows: pa.Table, path: Path) -> None:
    """Write the rows, sorted by role and picture_id, so that the same pictures give the same bytes."""
    table = rows.cast(SCHEMA).sort_by([("role", "ascending"), ("picture_id", "ascending")])
    with manifest_writer(path) as write:
        for batch in table.to_batches(ROW_GROUP):
            write(batch.to_pylist())


def read_manifest(path: Path) -> pd.DataFrame:
    """The rows of a manifest, or of the validate stage's accepted.parquet, which has these columns and more."""
    try:
        return pq.read_table(path).to_pandas()
    except FileNotFoundError:
        raise BadInput(
            f"{path} not found: run `photoproof ingest`, or `dvc pull data.dvc` for the committed version"
        ) from None
