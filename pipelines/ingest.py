"""From the product database to data/: the labelled pictures as files, and manifest.parquet that says what each is.

A file's name is made of its picture's id and sha256, so a file that is there is the right one: only what is new is
read from the database and written. New files come first, then the manifest, then what nobody needs goes. Whoever
reads data/ meanwhile finds the old state or the new one, and a run that was killed is simply started again.
"""

import hashlib
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from tqdm import tqdm

from photoproof.errors import InvalidImage
from photoproof.pictures import upright
from pipelines.database import photos, products, snapshot
from pipelines.quarantine import is_deleted, write_released
from training.errors import BadInput
from training.manifest import SCHEMA, write_manifest

BATCH_BYTES = 64_000_000
MANIFEST = "manifest.parquet"
FOLDERS = {"original": "originals", "photo": "photos"}


@dataclass(frozen=True)
class IngestReport:
    """What data/ holds now, and what an ingest did for it."""

    originals: int
    photos: int
    written: int
    kept: int
    removed: int
    photos_without_truth: int
    photos_without_original: int
    """Photos with a truth, left out because their product has no original."""
    products_without_original: tuple[str, ...]
    same_original: tuple[tuple[str, ...], ...]
    """Product ids whose originals are the same bytes."""
    photos_deleted: int = 0
    """Photos left out because a person deleted them in quarantine."""

    def __str__(self) -> str:
        said = (
            f"{self.originals:,} originals and {self.photos:,} photos "
            f"({self.written:,} written, {self.kept:,} kept, {self.removed:,} removed)"
        )
        if self.photos_without_truth:
            said += f", {self.photos_without_truth:,} photos without a truth left out"
        if self.photos_deleted:
            said += f", {self.photos_deleted:,} photos that were deleted in quarantine left out"
        if self.products_without_original:
            said += (
                f", {len(self.products_without_original):,} products without an original left out with their "
                f"{self.photos_without_original:,} photos ({_some(self.products_without_original)})"
            )
        if self.same_original:
            pairs = [" = ".join(group) for group in self.same_original]
            said += f", {len(pairs):,} originals in more than one product ({_some(pairs)})"
        return said


def ingest(engine: Engine, data: Path, *, progress: bool = True) -> IngestReport:
    """Make data/ equal to the database's labelled pictures, as they were at one moment.

    An upright JPEG or PNG is kept byte for byte, what else decodes is turned into one, what does not is left alone
    for validation to find. `progress` shows a bar on a terminal's stderr.

    Raises BadInput where the database holds no original.
    """
    for folder in FOLDERS.values():
        (data / folder).mkdir(parents=True, exist_ok=True)
    before = _previous(data / MANIFEST)
    rows: list[dict[str, Any]] = []
    written = 0
    with snapshot(engine) as connection, ThreadPoolExecutor() as pool:
        total = _count(connection)
        with tqdm(total=total, desc="ingest", unit="picture", disable=None if progress else True) as bar:
            for role, query, table in (("original", _originals(), products), ("photo", _labelled_photos(), photos)):
                for batch in _batches(connection, query):
                    entries = [_Entry(data, role, dict(row), before) for row in batch]
                    missing = {entry.picture_id: entry for entry in entries if not entry.there}
                    image_bytes = _image_bytes(connection, table, list(missing))
                    list(pool.map(lambda one, read=image_bytes: one.write(read[one.picture_id]), missing.values()))
                    written += len(missing)
                    rows += [entry.row for entry in entries]
                    bar.update(len(batch))
        report = _report(connection, rows, written)
        write_released(connection, data)
    write_manifest(pa.Table.from_pylist(rows, schema=SCHEMA), data / MANIFEST)
    return IngestReport(**report, removed=_remove_others(data, {row["path"] for row in rows}))


class _Entry:
    """A picture on its way: its row of the manifest, and whether its file is there already."""

    def __init__(self, data: Path, role: str, found: dict[str, Any], before: dict[tuple[str, str], dict[str, Any]]):
        self.data = data
        self.picture_id: str = found["picture_id"]
        size = found.pop("bytes")
        self.row: dict[str, Any] = {"role": role, "scene": None, "taken_at": None, "label_source": None, **found}
        self.stem = f"{FOLDERS[role]}/{safe_name(self.picture_id, found['sha256'])}"
        old = before.get((role, self.picture_id))
        self.there = old is not None and old["path"].startswith(self.stem) and _has(data / old["path"], size)
        if old is not None and self.there:
            self.row |= {name: old[name] for name in ("path", "sha256", "source_format", "source_orientation")}

    def write(self, image_bytes: bytes) -> None:
        """Write the picture's file and complete its row."""
        try:
            turned = upright(image_bytes)
            facts, out = (turned.source_format, turned.source_orientation), turned.image_bytes
        except InvalidImage:
            facts, out = (None, None), image_bytes
        changed = "" if out is image_bytes or out == image_bytes else _CONVERTED
        path = f"{self.stem}{changed}{_suffix(out)}"
        self.row |= {
            "path": path,
            "sha256": hashlib.sha256(image_bytes).hexdigest(),
            "source_format": facts[0],
            "source_orientation": facts[1],
        }
        part = self.data / FOLDERS[self.row["role"]] / f".{os.path.basename(path)}.part"
        part.write_bytes(out)
        part.replace(self.data / path)


_CONVERTED = "-upright"


def safe_name(picture_id: str, sha256: str) -> str:
    """A file name, without its suffix, for any id: readable, lower-case ASCII, another one for each id and content.

    So no id leaves the folder, and no two collide on a file system that folds case or Unicode.
    """
    plain = unicodedata.normalize("NFKD", picture_id).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "id"
    digest = hashlib.sha256(f"{picture_id}\0{sha256}".encode()).hexdigest()
    return f"{slug}-{digest[:20]}"


def _suffix(image_bytes: bytes) -> str:
    if image_bytes.startswith(b"\xff\xd8\xff"):
        return ".jpg"
    return ".png" if image_bytes.startswith(b"\x89PNG\r\n\x1a\n") else ".bin"


def _has(path: Path, size: int) -> bool:
    """Is the file there, and as long as the picture is? The length of a converted one is not known."""
    try:
        length = path.stat().st_size
    except OSError:
        return False
    return length > 0 if path.stem.endswith(_CONVERTED) else length == size


def _previous(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the manifest that is there, by role and picture_id; none where it can't be read."""
    columns = ["role", "picture_id", "path", "sha256", "source_format", "source_orientation"]
    try:
        rows = pq.read_table(path, columns=columns).to_pylist()
    except (OSError, pa.ArrowException):
        return {}
    return {(row["role"], row["picture_id"]): row for row in rows}


def _originals() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(
        products.c.product_id.label("picture_id"),
        products.c.product_id,
        products.c.name,
        products.c.category,
        products.c.sha256,
        sa.func.length(products.c.image_bytes).label("bytes"),
    ).where(_has_original())


def _labelled_photos() -> sa.Select[*tuple[Any, ...]]:
    """Photos with a truth; the join leaves out those without."""
    return (
        sa.select(
            photos.c.photo_id.label("picture_id"),
            photos.c.product_id,
            products.c.name,
            products.c.category,
            photos.c.sha256,
            photos.c.scene,
            photos.c.taken_at,
            photos.c.label_source,
            sa.func.length(photos.c.image_bytes).label("bytes"),
        )
        .join(products, photos.c.product_id == products.c.product_id)
        .where(_has_original(), ~is_deleted("photo", photos.c.sha256))
    )


def _has_original() -> sa.ColumnElement[bool]:
    """One that nobody deleted in quarantine."""
    return products.c.image_bytes.is_not(None) & ~is_deleted("original", products.c.sha256)


def _count(connection: Connection) -> int:
    counts = [
        connection.scalar(sa.select(sa.func.count()).select_from(query.subquery()))
        for query in (_originals(), _labelled_photos())
    ]
    if not counts[0]:
        raise BadInput("the product database holds no original: run `photoproof import DIR` first")
    return sum(count or 0 for count in counts)


def _batches(connection: Connection, query: sa.Select[*tuple[Any, ...]]) -> Iterator[list[sa.RowMapping]]:
    """The query's rows in batches of at most 500, and of few enough that their pictures fit into memory."""
    batch: list[sa.RowMapping] = []
    size = 0
    for row in connection.execute(query.execution_options(yield_per=500)).mappings():
        if batch and (len(batch) == 500 or size + row["bytes"] > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row["bytes"]
    if batch:
        yield batch


def _image_bytes(connection: Connection, table: sa.Table, ids: list[str]) -> dict[str, bytes]:
    if not ids:
        return {}
    (key,) = table.primary_key
    return {row[0]: row[1] for row in connection.execute(sa.select(key, table.c.image_bytes).where(key.in_(ids)))}


def _report(connection: Connection, rows: list[dict[str, Any]], written: int) -> dict[str, Any]:
    originals = sorted((row["sha256"], row["picture_id"]) for row in rows if row["role"] == "original")
    groups = (
        tuple(picture_id for _, picture_id in group) for _, group in itertools.groupby(originals, lambda pair: pair[0])
    )
    lacking = ~_has_original()
    named = products.c.name != ""  # what was forgotten has no name, and nobody waits for its original
    unlabelled = sa.select(sa.func.count()).select_from(photos).where(photos.c.product_id.is_(None))
    labelled = photos.join(products, photos.c.product_id == products.c.product_id)
    orphaned = sa.select(sa.func.count()).select_from(labelled).where(lacking)
    deleted = sa.select(sa.func.count()).select_from(labelled)
    deleted = deleted.where(_has_original(), is_deleted("photo", photos.c.sha256))
    return {
        "originals": len(originals),
        "photos": len(rows) - len(originals),
        "written": written,
        "kept": len(rows) - written,
        "photos_without_truth": connection.scalar(unlabelled),
        "photos_without_original": connection.scalar(orphaned),
        "photos_deleted": connection.scalar(deleted),
        "products_without_original": tuple(
            sorted(connection.scalars(sa.select(products.c.product_id).where(lacking, named)))
        ),
        "same_original": tuple(group for group in groups if len(group) > 1),
    }


def _remove_others(data: Path, paths: set[str]) -> int:
    """Remove every file that is not among the paths, and what a killed run left; the number of pictures among them."""
    removed = 0
    for folder in FOLDERS.values():
        for entry in list(os.scandir(data / folder)):
            if f"{folder}/{entry.name}" not in paths and not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                removed += not entry.name.endswith(".part")
    (data / f"{MANIFEST}.part").unlink(missing_ok=True)
    return removed


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
