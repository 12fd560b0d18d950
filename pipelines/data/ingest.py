"""From the product database to data/: the labelled pictures as files, and manifest.parquet that says what each is.

A file's name is made of its picture's id and sha256, so a file that is there is the right one: only what is new is
read from the database and written. New files come first, then the manifest, then what nobody needs goes. Whoever
reads data/ meanwhile finds the old state or the new one, and a run that was killed is simply started again. The
database and the old manifest are read alongside, in one order, and the new manifest is written on the way, so memory
does not grow with the catalogue.
"""

import contextlib
import hashlib
import os
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy.engine import Engine
from tqdm import tqdm

from photoproof.errors import InvalidImage
from photoproof.pictures.prepare import upright
from pipelines.data.ingest_queries import count_pictures, find_left_out, read_image_bytes, read_pictures
from pipelines.data.quarantine import write_released
from pipelines.database.engine import snapshot
from training.dataset.manifest import manifest_writer
from training.stage.files import writing_whole
from training.stage.places import MANIFEST

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
        text = (
            f"{self.originals:,} originals and {self.photos:,} photos "
            f"({self.written:,} written, {self.kept:,} kept, {self.removed:,} removed)"
        )
        if self.photos_without_truth:
            text += f", {self.photos_without_truth:,} photos without a truth left out"
        if self.photos_deleted:
            text += f", {self.photos_deleted:,} deleted in quarantine left out"
        if self.products_without_original:
            text += (
                f", {len(self.products_without_original):,} products without an original left out with their "
                f"{self.photos_without_original:,} photos ({_first_three(self.products_without_original)})"
            )
        if self.same_original:
            pairs = [" = ".join(group) for group in self.same_original]
            text += f", {len(pairs):,} originals in more than one product ({_first_three(pairs)})"
        return text


def ingest(engine: Engine, data: Path, *, progress: bool = True) -> IngestReport:
    """Make data/ equal to the database's labelled pictures, as they were at one moment.

    An upright JPEG or PNG is kept byte for byte, any other that decodes is turned into one, and what does not decode
    is left as it is for validation to find. `progress` shows a bar on a terminal's stderr.

    Raises BadInput where the database holds no original.
    """
    for folder in FOLDERS.values():
        (data / folder).mkdir(parents=True, exist_ok=True)
    before, names = _PreviousManifest(data / MANIFEST), _FileNames()
    counts = {"original": 0, "photo": 0}
    written = 0
    with (
        snapshot(engine) as connection,
        ThreadPoolExecutor() as pool,
        tqdm(
            total=count_pictures(connection), desc="ingest", unit="picture", disable=None if progress else True
        ) as bar,
    ):
        with manifest_writer(data / MANIFEST) as write:
            for role, table, batch in read_pictures(connection):
                entries = [_Entry(data, role, dict(row), before) for row in batch]
                missing = [entry for entry in entries if not entry.has_file]
                contents = read_image_bytes(connection, table, [entry.picture_id for entry in missing])
                list(pool.map(_Entry.write, missing, [contents[entry.picture_id] for entry in missing]))
                write([entry.row for entry in entries])
                names.add(entry.row["path"] for entry in entries)
                counts[role] += len(entries)
                written += len(missing)
                bar.update(len(batch))
            write_released(connection, data)
        report = find_left_out(connection)
    total = sum(counts.values())
    return IngestReport(
        originals=counts["original"],
        photos=counts["photo"],
        written=written,
        kept=total - written,
        removed=_remove_others(data, names),
        **report,
    )


class _Entry:
    """A picture to ingest: its row of the manifest, and whether data/ has its file already."""

    def __init__(self, data: Path, role: str, columns: dict[str, Any], before: "_PreviousManifest"):
        self.data = data
        self.picture_id: str = columns["picture_id"]
        size = columns.pop("bytes")
        self.row: dict[str, Any] = {"role": role, "scene": None, "taken_at": None, "label_source": None, **columns}
        self.stem = f"{FOLDERS[role]}/{safe_name(self.picture_id, columns['sha256'])}"
        old = before.get(role, self.picture_id)
        same_picture = old is not None and old["path"].startswith(self.stem)
        self.has_file = old is not None and same_picture and _is_whole(f"{data}/{old['path']}", size)
        if old is not None and self.has_file:
            self.row |= {name: old[name] for name in ("path", "sha256", "source_format", "source_orientation")}

    def write(self, image_bytes: bytes) -> None:
        """Write the picture's file and complete its row."""
        try:
            picture = upright(image_bytes)
            source, content = (picture.source_format, picture.source_orientation), picture.image_bytes
        except InvalidImage:
            source, content = (None, None), image_bytes
        converted = "" if content is image_bytes or content == image_bytes else _CONVERTED
        path = f"{self.stem}{converted}{_suffix(content)}"
        self.row |= {
            "path": path,
            "sha256": hashlib.sha256(image_bytes).hexdigest(),
            "source_format": source[0],
            "source_orientation": source[1],
        }
        with writing_whole(self.data / path) as part:
            part.write_bytes(content)


_CONVERTED = "-upright"


def safe_name(picture_id: str, sha256: str) -> str:
    """A file name, without its suffix, for any id: readable, lower-case ASCII, different for each id and content.

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


def _is_whole(path: str, size: int) -> bool:
    """Whether the file exists, as long as the picture is; the length of a converted one is not known."""
    try:
        length = os.stat(path).st_size  # of every picture: pathlib takes a tenth more of an ingest
    except OSError:
        return False
    return length > 0 if os.path.splitext(path)[0].endswith(_CONVERTED) else length == size


class _PreviousManifest:
    """The manifest of the last ingest, read in parallel: rows are looked up in its own order, by role and id."""

    _COLUMNS = ("role", "picture_id", "path", "sha256", "source_format", "source_orientation")

    def __init__(self, path: Path):
        self._rows = self._read(path)
        self._next = next(self._rows, None)

    def get(self, role: str, picture_id: str) -> dict[str, Any] | None:
        """The picture's row; None where it has no row, or the manifest can't be read."""
        while self._next is not None and (self._next["role"], self._next["picture_id"]) < (role, picture_id):
            self._next = next(self._rows, None)
        if self._next is None or (self._next["role"], self._next["picture_id"]) != (role, picture_id):
            return None
        return self._next

    def _read(self, path: Path) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(OSError, pa.ArrowException), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(500, columns=list(self._COLUMNS)):
                yield from batch.to_pylist()


class _FileNames:
    """Which files of data/ are wanted, at 8 bytes a file: two names collide in 1 of 2^64 cases, and a file stays."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, paths: Iterable[str]) -> None:
        self._hashes.extend(map(_hash, paths))

    def sorted(self) -> NDArray[np.uint64]:
        """Their hashes, ascending."""
        return np.sort(np.frombuffer(self._hashes, np.uint64))


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big")


def _remove_others(data: Path, wanted: _FileNames) -> int:
    """Remove every file that is not wanted, and what a killed run left; the number of pictures among them."""
    removed, known = 0, wanted.sorted()
    for folder in FOLDERS.values():
        with os.scandir(data / folder) as entries:
            files = (f"{folder}/{entry.name}" for entry in entries if not entry.is_dir(follow_symlinks=False))
            others = [path for path in files if not _is_among(known, _hash(path))]
        for path in others:
            os.unlink(data / path)
            removed += not path.endswith(".part")
    return removed


def _is_among(ascending: NDArray[np.uint64], value: int) -> bool:
    index = np.searchsorted(ascending, np.uint64(value))
    return bool(index < len(ascending) and ascending[index] == value)


def _first_three(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
