"""The rows that the product database loses when a photo or a product is forgotten.

Verdicts stay, with their scores and the sha256 of what they judged. A photo or product that a verdict names stays as an
empty row (no picture, name, truth or claim), which nothing reads; any other row is deleted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipelines.database.tables import (
    audits,
    decisions,
    embeddings,
    forgotten,
    photos,
    products,
    quarantine,
    quarantine_decisions,
    verdicts,
)

CHUNK = 500


@dataclass(frozen=True)
class ForgottenRows:
    """What is to be forgotten, as the database has it."""

    products: frozenset[str]
    photos: frozenset[str]
    sha256s: frozenset[str]
    """Of their pictures."""
    verdicts: int
    """Verdicts about them, which stay."""
    same_bytes: tuple[str, ...]
    """Other pictures with the same bytes ("photo ID"), which stay."""

    def __bool__(self) -> bool:
        return bool(self.products or self.photos)


def find_rows(connection: Connection, wanted_products: Iterable[str], wanted_photos: Iterable[str]) -> ForgottenRows:
    """Those of the products and photos that the database still has a picture, a name or a label of.

    A product's photos go with it: those that are labelled as it, and those that claim it and have no other truth.
    """
    ids: dict[str, set[str]] = {"products": set(), "photos": set()}
    sha256s: set[str] = set()
    shown = sa.func.coalesce(photos.c.product_id, photos.c.claimed_product_id)
    for table, column, wanted in (
        (products, products.c.product_id, set(wanted_products)),
        (photos, shown, set(wanted_products)),
        (photos, photos.c.photo_id, set(wanted_photos)),
    ):
        for chunk in _chunks(wanted):
            (key,) = table.primary_key
            query = sa.select(key, table.c.sha256).where(column.in_(chunk), _is_full(table))
            for row_id, sha256 in connection.execute(query):
                ids[table.name].add(row_id)
                sha256s |= {sha256} - {None}
    verdict_ids = {
        verdict_id
        for column, wanted in ((verdicts.c.photo_id, ids["photos"]), (verdicts.c.claimed_product_id, ids["products"]))
        for chunk in _chunks(wanted)
        for verdict_id in connection.scalars(sa.select(verdicts.c.verdict_id).where(column.in_(chunk)))
    }
    same_bytes = [
        f"{role} {row_id}"
        for role, table in (("original", products), ("photo", photos))
        for chunk in _chunks(sha256s)
        for row_id in connection.scalars(sa.select(*table.primary_key).where(table.c.sha256.in_(chunk)))
        if row_id not in ids[table.name]
    ]
    return ForgottenRows(
        products=frozenset(ids["products"]),
        photos=frozenset(ids["photos"]),
        sha256s=frozenset(sha256s),
        verdicts=len(verdict_ids),
        same_bytes=tuple(sorted(same_bytes)),
    )


def find_relabelled(connection: Connection, photo_ids: Iterable[str], product_id: str) -> set[str]:
    """Those of the photos that the database has under another product now."""
    return {
        photo_id
        for chunk in _chunks(photo_ids)
        for photo_id in connection.scalars(
            sa.select(photos.c.photo_id).where(photos.c.photo_id.in_(chunk), photos.c.product_id != product_id)
        )
    }


def has_row(connection: Connection, table: sa.Table, row_id: str) -> bool:
    """Whether the table of products or of photos has the id, and not only as an empty row."""
    (key,) = table.primary_key
    return connection.scalar(sa.select(key).where(key == row_id, _is_full(table))) is not None


def remove_rows(connection: Connection, rows: ForgottenRows, sha256s: Iterable[str]) -> None:
    """Remove them. `sha256s`: of every picture that they ever had, which `photoproof import` refuses from now on."""
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # zeros in place of what is deleted
    for chunk in _chunks(rows.photos):
        in_chunk = photos.c.photo_id.in_(chunk)
        for table in (audits, decisions):
            connection.execute(sa.delete(table).where(table.c.photo_id.in_(chunk)))
        _delete_from_quarantine(connection, "photo", chunk)
        judged = sa.exists().where(verdicts.c.photo_id == photos.c.photo_id)
        connection.execute(sa.delete(photos).where(in_chunk, ~judged))
        blank = dict.fromkeys(("claimed_product_id", "product_id", "label_source", "scene", "taken_at"))
        connection.execute(sa.update(photos).where(in_chunk).values(image_bytes=b"", sha256="", **blank))
    for chunk in _chunks(rows.products):
        in_chunk = products.c.product_id.in_(chunk)
        _delete_from_quarantine(connection, "original", chunk)
        claims = sa.update(photos).where(photos.c.claimed_product_id.in_(chunk)).values(claimed_product_id=None)
        connection.execute(claims)
        judged = sa.exists().where(verdicts.c.claimed_product_id == products.c.product_id)
        connection.execute(sa.delete(products).where(in_chunk, ~judged))
        connection.execute(
            sa.update(products).where(in_chunk).values(image_bytes=None, sha256=None, name="", category="")
        )
    for chunk in _chunks(sha256s):
        gone = set(chunk)
        for table in (products, photos):
            gone -= set(connection.scalars(sa.select(table.c.sha256).where(table.c.sha256.in_(chunk))))
        known = set(connection.scalars(sa.select(forgotten.c.sha256).where(forgotten.c.sha256.in_(chunk))))
        connection.execute(sa.delete(embeddings).where(embeddings.c.sha256.in_(gone)))
        for sha256 in sorted(gone - known):
            connection.execute(sa.insert(forgotten).values(sha256=sha256))


def wipe_log(engine: Engine) -> None:
    """Clear deleted bytes from SQLite's log; PostgreSQL clears them when it next vacuums."""
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            raw.close()


def _delete_from_quarantine(connection: Connection, role: str, ids: list[str]) -> None:
    for table in (quarantine, quarantine_decisions):
        connection.execute(sa.delete(table).where(table.c.role == role, table.c.picture_id.in_(ids)))


def _is_full(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether the row is more than the empty one that a verdict names."""
    return (products.c.name != "") | products.c.sha256.is_not(None) if table is products else photos.c.sha256 != ""


def _chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    ordered = sorted(set(ids))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))
