"""Bring the tables of an older product database up to date; their rows stay.

Older ones have one verdict and one audit of a photo and a model, whatever the photo claimed when it was judged, and do
not say of which bytes a person decided.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Inspector

_OLD_KEY = "one_verdict_per_photo_and_model"
_CLAIM = "photo_id, claimed_product_id, photo_sha256, model_id"


def is_due(inspector: Inspector) -> bool:
    """Whether the database, which has its tables, is an older one."""
    return _has_old_keys(inspector) or _lacks_bytes(inspector)


def _has_old_keys(inspector: Inspector) -> bool:
    return any(one["name"] == _OLD_KEY for one in inspector.get_unique_constraints("verdicts"))


def _lacks_bytes(inspector: Inspector) -> bool:
    return all(one["name"] != "photo_sha256" for one in inspector.get_columns("decisions"))


def migrate(connection: Connection, metadata: sa.MetaData) -> None:
    """Change what is older than the metadata. SQLite's foreign keys must be off."""
    inspector = sa.inspect(connection)  # a new database, or another program's work, is no older one
    if _has_old_keys(inspector):
        _change_keys(connection, metadata)
    if _lacks_bytes(inspector):
        connection.execute(sa.text("ALTER TABLE decisions ADD COLUMN photo_sha256 TEXT"))
        _say_bytes(connection, metadata)


def _change_keys(connection: Connection, metadata: sa.MetaData) -> None:
    if connection.dialect.name == "sqlite":
        for name in ("verdicts", "audits"):
            _rebuild(connection, metadata.tables[name])
        return
    key = f"ADD CONSTRAINT one_verdict_of_a_claim_per_model UNIQUE ({_CLAIM})"
    connection.execute(sa.text(f"ALTER TABLE verdicts DROP CONSTRAINT {_OLD_KEY}, {key}"))
    key = "ADD PRIMARY KEY (photo_id, model_id, claimed_product_id, photo_sha256)"
    connection.execute(sa.text(f"ALTER TABLE audits DROP CONSTRAINT audits_pkey, {key}"))


def _rebuild(connection: Connection, table: sa.Table) -> None:
    """SQLite can't change a table's key: make it anew under another name, copy, rename (sqlite.org/lang_altertable)."""
    others = sa.MetaData()
    for other in table.metadata.tables.values():
        other.to_metadata(others)
    new = table.to_metadata(others, name=f"new_{table.name}")
    new.create(connection)
    names = [column.name for column in table.columns]
    connection.execute(sa.insert(new).from_select(names, sa.select(table)))
    table.drop(connection)
    connection.execute(sa.text(f"ALTER TABLE {new.name} RENAME TO {table.name}"))


def _say_bytes(connection: Connection, metadata: sa.MetaData) -> None:
    """An older decision is of the bytes that were audited last before it; where none were, of the present ones."""
    audits, decisions, photos = (metadata.tables[name] for name in ("audits", "decisions", "photos"))
    audited = (
        sa.select(audits.c.photo_sha256)
        .where(audits.c.photo_id == decisions.c.photo_id, audits.c.at <= decisions.c.at)
        .order_by(audits.c.at.desc())
        .limit(1)
    )
    present = sa.select(photos.c.sha256).where(photos.c.photo_id == decisions.c.photo_id)
    found = sa.func.coalesce(audited.scalar_subquery(), present.scalar_subquery())
    connection.execute(sa.update(decisions).values(photo_sha256=found))
