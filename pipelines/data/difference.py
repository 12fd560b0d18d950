"""What differs between two versions of data."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipelines.data.versioning import VersioningFailed
from training.stage.errors import BadInput

COLUMNS = ["role", "picture_id", "product_id", "sha256"]
"""The columns of a manifest that are compared."""

PictureRow = tuple[str, str, str, str]
"""A picture's COLUMNS."""

Counts = Counter[tuple[str, str]]
"""(what happened, role) -> to how many pictures."""

_ROWS = 2_000


@dataclass(frozen=True)
class DataDifference:
    """What changed from one version to another: picture ids, sorted, by what happened to them."""

    new_products: tuple[str, ...]
    lost_products: tuple[str, ...]
    new_photos: tuple[str, ...]
    lost_photos: tuple[str, ...]
    changed: tuple[str, ...]
    """Originals ("original ID") and photos ("photo ID") with other bytes."""
    relabelled: tuple[str, ...]
    """Photos with another truth."""
    products: int
    """How many the later version has."""
    photos: int

    def __str__(self) -> str:
        counts: Counts = Counter(("changed", name.partition(" ")[0]) for name in self.changed)
        counts.update(
            {
                ("new", "original"): len(self.new_products),
                ("lost", "original"): len(self.lost_products),
                ("new", "photo"): len(self.new_photos),
                ("lost", "photo"): len(self.lost_photos),
                ("relabelled", "photo"): len(self.relabelled),
                ("kept", "original"): self.products - len(self.new_products),
                ("kept", "photo"): self.photos - len(self.new_photos),
            }
        )
        return summarize(counts)


def read_rows(fs: Any, path: str) -> Iterator[PictureRow]:
    """The rows of a manifest in its order, read as they are needed.

    Raises BadInput where it is not sorted, VersioningFailed where it can't be read to its end.
    """
    last = ("", "")
    try:
        with fs.open(path, "rb") as file, pq.ParquetFile(file) as manifest:
            for batch in manifest.iter_batches(_ROWS, columns=COLUMNS):
                role, picture_id, product_id, sha256 = (batch.column(name).to_pylist() for name in COLUMNS)
                for row in zip(role, picture_id, product_id, sha256, strict=True):
                    if row[:2] < last:
                        raise BadInput(f"{path} is not sorted by role and picture_id: let `photoproof ingest` write it")
                    last = row[:2]
                    yield row
    except BadInput:
        raise
    except Exception as error:  # each kind of remote raises its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise VersioningFailed(f"the manifest {path} can't be read to its end: {reason}") from error


def compare_manifests(before: Iterable[PictureRow], after: Iterable[PictureRow]) -> Iterator[tuple[str, str, str]]:
    """(what happened, role, picture_id) of every picture of two manifests, which are read in parallel in their order.

    A picture is "new", "lost" or "kept"; one that is kept may be "changed" (its bytes) and, if it is a photo,
    "relabelled" (its truth) as well.
    """
    old_rows, new_rows = iter(before), iter(after)
    old, new = next(old_rows, None), next(new_rows, None)
    while old or new:
        if old and (not new or old[:2] < new[:2]):
            yield "lost", *old[:2]
            old = next(old_rows, None)
        elif new and (not old or new[:2] < old[:2]):
            yield "new", *new[:2]
            new = next(new_rows, None)
        elif old and new:
            yield "kept", *new[:2]
            if old[3] != new[3]:
                yield "changed", *new[:2]
            if new[0] == "photo" and old[2] != new[2]:
                yield "relabelled", *new[:2]
            old, new = next(old_rows, None), next(new_rows, None)


def find_difference(before: Iterable[PictureRow], after: Iterable[PictureRow]) -> DataDifference:
    """What changed between two manifests; only what changed is held in memory."""
    ids: dict[tuple[str, str], list[str]] = {}
    kept: Counts = Counter()
    for change, role, picture_id in compare_manifests(before, after):
        if change == "kept":
            kept[change, role] += 1
        else:
            ids.setdefault((change, role), []).append(picture_id)

    def ids_of(change: str, role: str) -> tuple[str, ...]:
        return tuple(ids.get((change, role), ()))

    return DataDifference(
        new_products=ids_of("new", "original"),
        lost_products=ids_of("lost", "original"),
        new_photos=ids_of("new", "photo"),
        lost_photos=ids_of("lost", "photo"),
        changed=tuple(
            f"{role} {picture_id}" for role in ("original", "photo") for picture_id in ids_of("changed", role)
        ),
        relabelled=ids_of("relabelled", "photo"),
        products=kept["kept", "original"] + len(ids_of("new", "original")),
        photos=kept["kept", "photo"] + len(ids_of("new", "photo")),
    )


def summarize(counts: Counts) -> str:
    """A difference in a line: "+35 photos, −2 products (812 products, 9,117 photos)"."""
    changed = counts["changed", "original"] + counts["changed", "photo"]
    relabelled = counts["relabelled", "photo"]
    parts = [
        _signed("+", counts["new", "original"], "product"),
        _signed("−", counts["lost", "original"], "product"),
        _signed("+", counts["new", "photo"], "photo"),
        _signed("−", counts["lost", "photo"], "photo"),
        f"{changed:,} changed" if changed else "",
        f"{relabelled:,} relabelled" if relabelled else "",
    ]
    return f"{', '.join(part for part in parts if part) or 'the same pictures'} ({summarize_size(counts)})"


def summarize_size(counts: Counts) -> str:
    """How many pictures the later version has: "812 products, 9,117 photos"."""
    products, photos = (counts["new", role] + counts["kept", role] for role in ("original", "photo"))
    return f"{format_count(products, 'product')}, {format_count(photos, 'photo')}"


def _signed(sign: str, count: int, noun: str) -> str:
    return f"{sign}{format_count(count, noun)}" if count else ""


def format_count(count: int, noun: str) -> str:
    """A number of things: "1 photo", "2 photos"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
