"""What the product database loses when a photo or a product is forgotten.

Verdicts stay, with their scores and the sha256 of what they judged. A photo or product that a verdict names stays as an
empty row (no picture, no name, no truth, no claim), which nothing reads; any other row goes.
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

AT_ONCE = 500


@dataclass(frozen=True)
class Rows:
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


def find_rows(connection: Connection, wanted_products: Iterable[str], wanted_photos: Iterable[str]) -> Rows:
    """Those of the products and photos that the database still has a picture, a name or a label of.

    A product's photos go with it: those that are labelled as it, and those that claim it and have no other truth.
    """
    found: dict[str, set[str]] = {"products": set(), "photos": set()}
    sha256s: set[str] = set()
    shown = sa.func.coalesce(photos.c.product_id, photos.c.claimed_product_id)
    for table, column, ids in (
        (products, products.c.product_id, set(wanted_products)),
        (photos, shown, set(wanted_products)),
        (photos, photos.c.photo_id, set(wanted_photos)),
    ):
        for few in _few(ids):
            (key,) = table.primary_key
            here = sa.select(key, table.c.sha256).where(column.in_(few), _full(table))
            for one, sha256 in connection.execute(here):
                found[table.name].add(one)
                sha256s |= {sha256} - {None}
    about = {
        one
        for column, ids in ((verdicts.c.photo_id, found["photos"]), (verdicts.c.claimed_product_id, found["products"]))
        for few in _few(ids)
        for one in connection.scalars(sa.select(verdicts.c.verdict_id).where(column.in_(few)))
    }
    same = [
        f"{role} {one}"
        for role, table in (("original", products), ("photo", photos))
        for few in _few(sha256s)
        for one in connection.scalars(sa.select(*table.primary_key).where(table.c.sha256.in_(few)))
        if one not in found[table.name]
    ]
    kinds = (frozenset(found["products"]), frozenset(found["photos"]), frozenset(sha256s))
    return Rows(*kinds, len(about), tuple(sorted(same)))


def shows_something_else(connection: Connection, photo_ids: Iterable[str], product_id: str) -> set[str]:
    """Those of the photos that the database has under another product now."""
    return {
        one
        for few in _few(photo_ids)
        for one in connection.scalars(
            sa.select(photos.c.photo_id).where(photos.c.photo_id.in_(few), photos.c.product_id != product_id)
        )
    }


def has(connection: Connection, table: sa.Table, wanted: str) -> bool:
    """Whether the table of products or of photos has the id, and not only as an empty row."""
    (key,) = table.primary_key
    return connection.scalar(sa.select(key).where(key == wanted, _full(table))) is not None


def remove_rows(connection: Connection, rows: Rows, sha256s: Iterable[str]) -> None:
    """Remove them. `sha256s`: of every picture that they ever had, which `photoproof import` refuses from now on."""
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # zeros in place of what is deleted
    for few in _few(rows.photos):
        here = photos.c.photo_id.in_(few)
        for table in (audits, decisions):
            connection.execute(sa.delete(table).where(table.c.photo_id.in_(few)))
        _leave_quarantine(connection, "photo", few)
        judged = sa.exists().where(verdicts.c.photo_id == photos.c.photo_id)
        connection.execute(sa.delete(photos).where(here, ~judged))
        blank = dict.fromkeys(("claimed_product_id", "product_id", "label_source", "scene", "taken_at"))
        connection.execute(sa.update(photos).where(here).values(image_bytes=b"", sha256="", **blank))
    for few in _few(rows.products):
        here = products.c.product_id.in_(few)
        _leave_quarantine(connection, "original", few)
        claims = sa.update(photos).where(photos.c.claimed_product_id.in_(few)).values(claimed_product_id=None)
        connection.execute(claims)
        judged = sa.exists().where(verdicts.c.claimed_product_id == products.c.product_id)
        connection.execute(sa.delete(products).where(here, ~judged))
        connection.execute(sa.update(products).where(here).values(image_bytes=None, sha256=None, name="", category=""))
    for few in _few(sha256s):
        for table in (products, photos):
            few = sorted(set(few) - set(connection.scalars(sa.select(table.c.sha256).where(table.c.sha256.in_(few)))))
        known = set(connection.scalars(sa.select(forgotten.c.sha256).where(forgotten.c.sha256.in_(few))))
        connection.execute(sa.delete(embeddings).where(embeddings.c.sha256.in_(few)))
        for one in set(few) - known:
            connection.execute(sa.insert(forgotten).values(sha256=one))


def wipe(engine: Engine) -> None:
    """Let no deleted bytes linger in SQLite's log; PostgreSQL clears them when it next vacuums."""
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            raw.close()


def _leave_quarantine(connection: Connection, role: str, ids: list[str]) -> None:
    for table in (quarantine, quarantine_decisions):
        connection.execute(sa.delete(table).where(table.c.role == role, table.c.picture_id.in_(ids)))


def _full(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether the row is more than the empty one that a verdict names."""
    return (products.c.name != "") | products.c.sha256.is_not(None) if table is products else photos.c.sha256 != ""


def _few(ids: Iterable[str]) -> Iterable[list[str]]:
    every = sorted(set(ids))
    return (every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE))
