"""`photoproof import`: a folder with catalogue.csv, perhaps photos.csv, and their pictures, into the product database.

One transaction a batch, so an import that was killed can be repeated; nothing is doubled by that. Every row
ends as new, changed, same or refused.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError
from tqdm import tqdm

from pipelines.database.engine import transaction
from pipelines.database.import_rows import CATALOGUE, PHOTOS, ImportRow, RefusedRow, check_file, read_rows
from pipelines.database.tables import forgotten, photos, products
from training.stage.errors import BadInput

BATCH_ROWS = 200
BATCH_BYTES = 64_000_000
_TRIES = 3


@dataclass
class FileReport:
    """What became of the rows of one file: rows = new + changed + same + refused."""

    file: str
    rows: int = 0
    new: int = 0
    changed: int = 0
    same: int = 0
    refused: list[RefusedRow] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.rows:,} rows: {self.new:,} new, {self.changed:,} changed, {self.same:,} same, "
            f"{len(self.refused):,} refused"
        )


@dataclass(frozen=True)
class ImportReport:
    """What became of a folder."""

    products: FileReport
    photos: FileReport

    @property
    def refused(self) -> list[RefusedRow]:
        """Every refused row of both files."""
        return self.products.refused + self.photos.refused

    def __str__(self) -> str:
        return f"{self.products}; {self.photos}"


def import_folder(engine: Engine, folder: Path, *, progress: bool = True) -> ImportReport:
    """Import catalogue.csv, then photos.csv where there is one.

    A field that photos.csv leaves empty changes nothing: what the database has stays. Only where the picture itself
    is different, its old truth is dropped. `progress` shows a bar on a terminal's stderr.

    Raises BadInput for a folder or a file that can't be imported as a whole, before anything is written.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is {'a file, not a folder' if folder.exists() else 'not found'}: name a folder")
    if not (folder / CATALOGUE.file).is_file():
        problem = "has no catalogue.csv" if any(folder.iterdir()) else "is empty"
        raise BadInput(f"{folder} {problem}: an import folder holds catalogue.csv ({', '.join(CATALOGUE.required)})")
    forms = [CATALOGUE] + ([PHOTOS] if (folder / PHOTOS.file).exists() else [])
    counts = {form: check_file(folder / form.file, form) for form in forms}
    reports = ImportReport(FileReport(CATALOGUE.file), FileReport(PHOTOS.file))
    for form, report, store in (
        (CATALOGUE, reports.products, _store_products),
        (PHOTOS, reports.photos, _store_photos),
    ):
        if form in counts:
            bar = tqdm(total=counts[form], desc=form.file, unit="row", disable=None if progress else True)
            with bar:
                for batch in _batches(read_rows(folder / form.file, form)):
                    _import_batch(engine, batch, report, store)
                    bar.update(len(batch))
    return reports


@dataclass
class _Outcome:
    new: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    same: int = 0
    refused: list[tuple[ImportRow, str]] = field(default_factory=list)


def _batches(rows: Iterator[ImportRow | RefusedRow]) -> Iterator[list[ImportRow | RefusedRow]]:
    batch: list[ImportRow | RefusedRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.image_bytes) if isinstance(row, ImportRow) else 0
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _import_batch(
    engine: Engine,
    batch: list[ImportRow | RefusedRow],
    report: FileReport,
    store: Callable[[Connection, list[ImportRow]], _Outcome],
) -> None:
    """Store a batch in one transaction and count it."""
    outcome = _store_rows(engine, [row for row in batch if isinstance(row, ImportRow)], store)
    report.rows += len(batch)
    report.new += len(outcome.new)
    report.changed += len(outcome.changed)
    report.same += outcome.same
    refused = [row for row in batch if isinstance(row, RefusedRow)]
    refused += [RefusedRow(report.file, row.number, row.id, reason) for row, reason in outcome.refused]
    report.refused += sorted(refused, key=lambda row: row.row)


def _store_rows(
    engine: Engine, rows: list[ImportRow], store: Callable[[Connection, list[ImportRow]], _Outcome]
) -> _Outcome:
    """Store all or nothing; try again where another program wrote the same rows at the same moment."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(IntegrityError), transaction(engine) as connection:
            outcome = store(connection, rows)
            connection.commit()
            return outcome
    with transaction(engine) as connection:
        return store(connection, rows)


def _store_products(connection: Connection, rows: list[ImportRow]) -> _Outcome:
    present = _read_present(connection, products, rows)
    outcome, rows = _separate_forgotten(connection, rows)
    for row in rows:
        values = {
            "product_id": row.id,
            "name": row.fields["name"],
            "category": row.fields["category"] or "",
            "sha256": hashlib.sha256(row.image_bytes).hexdigest(),
        }
        _classify(outcome, row, values, present.get(row.id))
    _write(connection, products, outcome)
    return outcome


def _store_photos(connection: Connection, rows: list[ImportRow]) -> _Outcome:
    present = _read_present(connection, photos, rows)
    known = _known_products(connection, rows)
    outcome, rows = _separate_forgotten(connection, rows)
    for row in rows:
        named = [(column, row.fields.get(column)) for column in PHOTOS.one_of]
        unknown = [f"{column} {name!r} is not in the catalogue" for column, name in named if name and name not in known]
        before = present.get(row.id)
        truth = row.fields.get("product_id")
        sha256 = hashlib.sha256(row.image_bytes).hexdigest()
        if unknown:
            outcome.refused.append((row, unknown[0]))
            continue
        same_picture = before is not None and before["sha256"] == sha256
        if before and same_picture and before["label_source"] == "person" and truth not in (None, before["product_id"]):
            reason = f"a person has decided that it shows {before['product_id']!r}, not {truth!r}"
            outcome.refused.append((row, reason))
            continue
        kept = before if before and same_picture else {}
        values = {
            "photo_id": row.id,
            "claimed_product_id": row.fields.get("claimed_product_id") or (before or {}).get("claimed_product_id"),
            "product_id": truth or kept.get("product_id"),
            "label_source": kept.get("label_source") or ("import" if truth else None),
            "sha256": sha256,
            "scene": row.fields.get("scene") or (before or {}).get("scene"),
            "taken_at": row.taken_at or (before or {}).get("taken_at"),
        }
        _classify(outcome, row, values, before)
    _write(connection, photos, outcome)
    return outcome


def _separate_forgotten(connection: Connection, rows: list[ImportRow]) -> tuple[_Outcome, list[ImportRow]]:
    """An outcome that refuses the rows whose pictures were removed for good, and the other rows."""
    digests = [hashlib.sha256(row.image_bytes).hexdigest() for row in rows]
    query = sa.select(forgotten.c.sha256, forgotten.c.at).where(forgotten.c.sha256.in_(digests))
    forgotten_at = {row.sha256: row.at for row in connection.execute(query)}
    outcome, kept = _Outcome(), []
    for row, digest in zip(rows, digests, strict=True):
        if digest in forgotten_at:
            reason = f"its picture was forgotten on {forgotten_at[digest]:%Y-%m-%d} (`photoproof data forget`)"
            outcome.refused.append((row, reason))
        else:
            kept.append(row)
    return outcome, kept


def _read_present(connection: Connection, table: sa.Table, rows: list[ImportRow]) -> dict[str, dict[str, Any]]:
    """What the database has under the ids of these rows, by id, without the pictures."""
    (key,) = table.primary_key
    columns = [column for column in table.columns if column.name not in ("image_bytes", "updated_at")]
    present = connection.execute(sa.select(*columns).where(key.in_([row.id for row in rows]))).mappings()
    return {row[key.name]: dict(row) for row in present}


def _known_products(connection: Connection, rows: list[ImportRow]) -> set[str]:
    named = {row.fields.get(column) for row in rows for column in PHOTOS.one_of} - {None}
    query = sa.select(products.c.product_id).where(products.c.product_id.in_(sorted(map(str, named))))
    return set(connection.scalars(query))


def _classify(outcome: _Outcome, row: ImportRow, values: dict[str, Any], before: dict[str, Any] | None) -> None:
    if before == values:
        outcome.same += 1
    elif before is None:
        outcome.new.append({**values, "image_bytes": row.image_bytes})
    elif before["sha256"] == values["sha256"]:
        outcome.changed.append(values)
    else:
        outcome.changed.append({**values, "image_bytes": row.image_bytes})


def _write(connection: Connection, table: sa.Table, outcome: _Outcome) -> None:
    (key,) = table.primary_key
    if outcome.new:
        connection.execute(sa.insert(table), outcome.new)
    for values in outcome.changed:
        connection.execute(sa.update(table).where(key == values[key.name]).values(values))
