"""What ingest reads from the product database: the labelled pictures in the manifest's order, and what is left out.

Only a batch of rows is held in memory, so a catalogue of a million pictures takes no more than one of a
thousand.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipelines.data.quarantine import is_deleted
from pipelines.database.tables import photos, products
from training.stage.errors import BadInput

BATCH_ROWS, BATCH_BYTES = 500, 64_000_000


def read_pictures(connection: Connection) -> Iterator[tuple[str, sa.Table, list[sa.RowMapping]]]:
    """(role, its table, rows) of every picture with a truth, in batches, by role and id as the manifest sorts them."""
    for role, query, table in (("original", _originals(), products), ("photo", _labelled_photos(), photos)):
        (key,) = table.primary_key
        # As bytes of UTF-8, whatever the database sorts text by.
        ordered = sa.collate(key, "C") if connection.dialect.name == "postgresql" else key
        for batch in _batches(connection, query.order_by(ordered)):
            yield role, table, batch


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
    """Whether a product has an original that nobody deleted in quarantine."""
    return products.c.image_bytes.is_not(None) & ~is_deleted("original", products.c.sha256)


def count_pictures(connection: Connection) -> int:
    """The number of pictures. Raises BadInput where there is no original."""
    counts = [
        connection.scalar(sa.select(sa.func.count()).select_from(query.subquery()))
        for query in (_originals(), _labelled_photos())
    ]
    if not counts[0]:
        raise BadInput("the product database holds no original: run `photoproof import DIR` first")
    return sum(count or 0 for count in counts)


def _batches(connection: Connection, query: sa.Select[*tuple[Any, ...]]) -> Iterator[list[sa.RowMapping]]:
    """The query's rows in batches that are short enough, and whose pictures fit into memory."""
    batch: list[sa.RowMapping] = []
    size = 0
    for row in connection.execute(query.execution_options(yield_per=BATCH_ROWS)).mappings():
        if batch and (len(batch) == BATCH_ROWS or size + row["bytes"] > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += row["bytes"]
    if batch:
        yield batch


def read_image_bytes(connection: Connection, table: sa.Table, ids: list[str]) -> dict[str, bytes]:
    """The pictures of these products or photos, by id."""
    if not ids:
        return {}
    (key,) = table.primary_key
    return {row[0]: row[1] for row in connection.execute(sa.select(key, table.c.image_bytes).where(key.in_(ids)))}


def find_left_out(connection: Connection) -> dict[str, Any]:
    """What has no place in data/, and which originals are in more than one product, by IngestReport's names."""
    lacking = ~_has_original()
    named = products.c.name != ""  # what was forgotten has no name, and nobody waits for its original
    unlabelled = sa.select(sa.func.count()).select_from(photos).where(photos.c.product_id.is_(None))
    labelled = photos.join(products, photos.c.product_id == products.c.product_id)
    orphaned = sa.select(sa.func.count()).select_from(labelled).where(lacking)
    deleted = sa.select(sa.func.count()).select_from(labelled)
    deleted = deleted.where(_has_original(), is_deleted("photo", photos.c.sha256))
    return {
        "photos_without_truth": connection.scalar(unlabelled),
        "photos_without_original": connection.scalar(orphaned),
        "photos_deleted": connection.scalar(deleted),
        "products_without_original": tuple(
            sorted(connection.scalars(sa.select(products.c.product_id).where(lacking, named)))
        ),
        "same_original": _same_originals(connection),
    }


def _same_originals(connection: Connection) -> tuple[tuple[str, ...], ...]:
    originals = _originals().subquery().c
    shared = sa.select(originals.sha256).group_by(originals.sha256).having(sa.func.count() > 1)
    groups: dict[str, list[str]] = {}
    for sha256, product_id in connection.execute(
        sa.select(originals.sha256, originals.picture_id).where(originals.sha256.in_(shared))
    ):
        groups.setdefault(sha256, []).append(product_id)
    return tuple(tuple(sorted(groups[sha256])) for sha256 in sorted(groups))
