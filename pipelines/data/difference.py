"""What differs between two versions of data."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from pipelines.data.versioning import VersioningFailed
from training.stage.errors import BadInput

COLUMNS = ["role", "picture_id", "product_id", "sha256"]
"""Of a manifest, all that a difference looks at."""

Row = tuple[str, str, str, str]
"""A picture's COLUMNS."""

Counts = Counter[tuple[str, str]]
"""(what happened, role) -> to how many pictures."""

_ROWS = 2_000


@dataclass(frozen=True)
class Difference:
    """What changed from one version to another: picture ids, sorted, by what happened to them."""

    new_products: tuple[str, ...]
    lost_products: tuple[str, ...]
    new_photos: tuple[str, ...]
    lost_photos: tuple[str, ...]
    changed: tuple[str, ...]
    """Originals ("original ID") and photos ("photo ID") whose bytes are others now."""
    relabelled: tuple[str, ...]
    """Photos with another truth."""
    products: int
    """How many the later version has."""
    photos: int

    def __str__(self) -> str:
        counts: Counts = Counter(("changed", one.partition(" ")[0]) for one in self.changed)
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
        return summary(counts)


def _rows(fs: Any, path: str) -> Iterator[Row]:
    """The rows of a manifest in its order, read as they are asked for.

    Raises BadInput where it has another order, VersioningFailed where it can't be read, or not to its end.
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
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise VersioningFailed(f"the manifest {path} can't be read to its end: {said}") from error


def compare(before: Iterable[Row], after: Iterable[Row]) -> Iterator[tuple[str, str, str]]:
    """(what happened, role, picture_id) of every picture of two manifests, which are read alongside in their order.

    A picture is "new", "lost" or "kept"; one that is kept may be "changed" (its bytes) and, if it is a photo,
    "relabelled" (its truth) besides.
    """
    olds, news = iter(before), iter(after)
    old, new = next(olds, None), next(news, None)
    while old or new:
        if old and (not new or old[:2] < new[:2]):
            yield "lost", *old[:2]
            old = next(olds, None)
        elif new and (not old or new[:2] < old[:2]):
            yield "new", *new[:2]
            new = next(news, None)
        elif old and new:
            yield "kept", *new[:2]
            if old[3] != new[3]:
                yield "changed", *new[:2]
            if new[0] == "photo" and old[2] != new[2]:
                yield "relabelled", *new[:2]
            old, new = next(olds, None), next(news, None)


def difference(before: Iterable[Row], after: Iterable[Row]) -> Difference:
    """What changed between two manifests; in memory is what changed, not what stayed."""
    ids: dict[tuple[str, str], list[str]] = {}
    kept: Counts = Counter()
    for what, role, picture_id in compare(before, after):
        if what == "kept":
            kept[what, role] += 1
        else:
            ids.setdefault((what, role), []).append(picture_id)

    def of(what: str, role: str) -> tuple[str, ...]:
        return tuple(ids.get((what, role), ()))

    return Difference(
        new_products=of("new", "original"),
        lost_products=of("lost", "original"),
        new_photos=of("new", "photo"),
        lost_photos=of("lost", "photo"),
        changed=tuple(f"{role} {one}" for role in ("original", "photo") for one in of("changed", role)),
        relabelled=of("relabelled", "photo"),
        products=kept["kept", "original"] + len(of("new", "original")),
        photos=kept["kept", "photo"] + len(of("new", "photo")),
    )


def summary(counts: Counts) -> str:
    """What a difference comes to, in a line: "+35 photos, −2 products (812 products, 9,117 photos)"."""
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
    return f"{', '.join(part for part in parts if part) or 'the same pictures'} ({_holds(counts)})"


def _holds(counts: Counts) -> str:
    products, photos = (counts["new", role] + counts["kept", role] for role in ("original", "photo"))
    return f"{counted(products, 'product')}, {counted(photos, 'photo')}"


def _signed(sign: str, count: int, what: str) -> str:
    return f"{sign}{counted(count, what)}" if count else ""


def counted(count: int, what: str) -> str:
    """A number of things: "1 photo", "2 photos"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
