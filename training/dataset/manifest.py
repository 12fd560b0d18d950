"""The manifest of data/: a row a picture, and which split each picture is in.

data/ holds originals/, photos/ and manifest.parquet. Splits are a hash of product id and scene, with a
salt from params.yaml, so a picture is in the same split in every data version.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.stage.errors import BadInput
from training.stage.params import Split

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

SPLITS = ("train", "validation", "test")


ROW_GROUP = 10_000
"""Rows of a manifest that are compressed, and read, together."""


@contextlib.contextmanager
def manifest_writer(path: Path) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """A function that takes rows in the order of role and picture_id; the manifest appears when the block ends well.

    The same rows give the same bytes, in however many calls they come, and ROW_GROUP of them are in memory at most.
    """
    part = path.with_name(path.name + ".part")
    waiting: list[dict[str, Any]] = []

    def write(rows: list[dict[str, Any]], at_least: int = ROW_GROUP) -> None:
        waiting.extend(rows)
        while waiting and len(waiting) >= at_least:
            file.write_table(pa.Table.from_pylist(waiting[:ROW_GROUP], SCHEMA), row_group_size=ROW_GROUP)
            del waiting[:ROW_GROUP]

    with pq.ParquetWriter(part, SCHEMA, compression="zstd") as file:
        yield write
        write([], at_least=1)
    part.replace(path)


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


def scene_of(photo_id: str, scene: str | None, scene_run: int) -> str:
    """The scene as given, or else the photo id's prefix and its last number // scene_run."""
    if scene:
        return scene
    numbered = re.fullmatch(r"(.*?)(\d+)(\D*)", photo_id)
    if not numbered:
        return photo_id
    return f"{numbered[1]}#{int(numbered[2]) // scene_run}"


def hash_to_unit(*words: str) -> float:
    """SHA-256 of the words as a number in [0, 1)."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(pictures: pd.DataFrame, split: Split) -> pd.DataFrame:
    """What `splits_of` gives, for those who need all splits.

    Raises BadInput, naming the salt, where one of the five groups of photos (known: train, validation, test; new:
    validation, test) is empty.
    """
    out = splits_of(pictures, split)
    photos = out[out.role == "photo"]
    there = set(zip(photos.known, photos.split, strict=True))
    wanted = [(True, "train"), (True, "validation"), (True, "test")]
    if split.new_products > 0:
        wanted += [(False, "validation"), (False, "test")]
    for is_known, name in wanted:
        if (is_known, name) not in there:
            kind = "known" if is_known else "new"
            raise BadInput(
                f"the {name} split has no photo of a {kind} product: choose another split.salt than {split.salt!r} "
                f"in params.yaml, other shares, or add photos "
                f"({len(photos)} photos of {photos.product_id.nunique()} products now)"
            )
    return out


def splits_of(pictures: pd.DataFrame, split: Split) -> pd.DataFrame:
    """The same rows with `known` (bool: does the product train?) and `split` ("train", "validation", "test").

    A known product's original is in "train", its photos in the split of their scene. A new product is with
    all its pictures in "validation" or in "test".
    """
    held_out = split.validation + split.test
    known, splits = [], []
    columns = pictures[["role", "picture_id", "product_id", "scene"]]
    for role, picture_id, product_id, given in columns.itertuples(index=False, name=None):
        at = hash_to_unit(split.salt, "product", product_id)
        known.append(at >= split.new_products)
        if not known[-1]:
            at *= held_out / split.new_products
        elif role == "photo":
            scene = scene_of(picture_id, _text(given), split.scene_run)
            at = hash_to_unit(split.salt, "scene", scene)
        else:
            at = 1.0
        splits.append("validation" if at < split.validation else "test" if at < held_out else "train")
    return pictures.assign(known=known, split=splits)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
