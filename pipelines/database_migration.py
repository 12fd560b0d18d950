"""Bring the tables of an older product database up to date; their rows stay.

Older ones have one verdict and one audit of a photo and a model, whatever the photo claimed when it was judged.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Inspector

_OLD_KEY = "one_verdict_per_photo_and_model"
_CLAIM = "photo_id, claimed_product_id, photo_sha256, model_id"


def is_due(inspector: Inspector) -> bool:
    """Whether the database, which has its tables, is an older one."""
    return any(one["name"] == _OLD_KEY for one in inspector.get_unique_constraints("verdicts"))


def migrate(connection: Connection, metadata: sa.MetaData) -> None:
    """Change what is older than the metadata. SQLite's foreign keys must be off."""
    if not is_due(sa.inspect(connection)):  # new, or another program was faster
        return
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
