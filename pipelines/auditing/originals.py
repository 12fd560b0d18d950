"""Embeddings of originals, kept in the product database by (sha256, model_id), and the products that a photo is like.

The key holds both, so that a label that moves to another model, or an original that changes, never mixes two models'
or two pictures' embeddings: under a new key the original is encoded anew.
"""

import json
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from tqdm import tqdm

from photoproof import Embedding, InvalidImage, StaleEmbedding, Verifier
from photoproof.pictures.prepare import THUMBNAIL_SIDE, PreparedPicture, prepare
from pipelines.database.engine import insert, snapshot, transaction
from pipelines.database.shared_queue import work_on_batch
from pipelines.database.tables import audits, embeddings, products

BATCH = 32
"""Pictures in memory at a time."""

NEAREST = 3
"""Products that a mismatch or a review names."""

PHOTOS_AT_ONCE, ORIGINALS_AT_ONCE = 2048, 2048

WAIT_SECONDS = 0.3
"""Between two looks at whether other workers have encoded the originals that they took."""


@dataclass(frozen=True)
class Original:
    """A product's original as the database keeps it for a model."""

    sha256: str
    embedding: Embedding | None
    picture: PreparedPicture | None
    """Its size and its thumbnail of 32 x 32 pixels; `image_bytes` is empty."""
    error: str | None
    """Why it can't be compared with, where it can't."""


def embed_originals(
    engine: Engine, verifier: Verifier, model_id: str, pool: Executor, *, progress: bool = True
) -> None:
    """Encode every original that has no embedding of this model yet; several workers share them.

    Raises StaleEmbedding where another model serves by now, PhotoproofError where the server does not answer.
    """
    with tqdm(total=_count_lacking(engine, model_id), desc="originals", disable=None if progress else True) as bar:
        while True:
            taken, _ = work_on_batch(
                engine,
                lambda connection: _take(connection, model_id),
                lambda originals: list(pool.map(lambda original: _encode(verifier, model_id, *original), originals)),
                _keep,
            )
            bar.update(len(taken))
            if not taken:
                if not _count_lacking(engine, model_id):
                    return
                time.sleep(WAIT_SECONDS)


def originals_by_sha256(connection: Connection, model_id: str, sha256s: Iterable[str]) -> dict[str, Original]:
    """Those of the originals that this model has encoded, or could not."""
    wanted = embeddings.c.sha256.in_(sorted(set(sha256s)))
    rows = connection.execute(sa.select(embeddings).where(wanted, embeddings.c.model_id == model_id)).mappings()
    return {row["sha256"]: _original(row) for row in rows}


def embedding_row(sha256: str, embedding: Embedding, picture: PreparedPicture) -> dict[str, Any]:
    """A row of the table for a picture that the model has encoded."""
    vector = np.ascontiguousarray(embedding.vector, "<f4").tobytes()
    look = {"width": picture.width, "height": picture.height, "thumbnail": picture.thumbnail.tobytes()}
    return {"sha256": sha256, "model_id": embedding.model_id, "vector": vector, "error": None, **look}


def keep_embeddings(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Add rows; a row that exists already is the same."""
    if rows:
        connection.execute(insert(embeddings, connection).on_conflict_do_nothing(), rows)


def read_nearest(text: str | None) -> tuple[tuple[str, float], ...]:
    """(product_id, cosine) as `name_nearest` keeps them, the nearest first."""
    return tuple((product_id, cosine) for product_id, cosine in json.loads(text or "[]"))


def name_nearest(engine: Engine, model_id: str) -> int:
    """Give every audited photo that this model has encoded its nearest products, by cosine; how many photos.

    The catalogue is streamed once for each 2,048 photos, so memory does not grow with either.
    """
    named = 0
    lacking = (
        sa.select(audits.c.photo_id, audits.c.claimed_product_id, audits.c.photo_sha256, embeddings.c.vector)
        .join(
            embeddings,
            (embeddings.c.sha256 == audits.c.photo_sha256) & (embeddings.c.model_id == audits.c.model_id),
        )
        .where(audits.c.model_id == model_id, audits.c.state == "verified", audits.c.nearest.is_(None))
        .where(embeddings.c.vector.is_not(None))
        .order_by(audits.c.photo_id)
        .limit(PHOTOS_AT_ONCE)
    )
    while True:
        with snapshot(engine) as connection:
            rows = connection.execute(lacking).all()
            if not rows:
                return named
            nearest = _nearest(connection, model_id, _matrix(row.vector for row in rows))
        values = [
            {
                "photo": row.photo_id,
                "claim": row.claimed_product_id,
                "bytes": row.photo_sha256,
                "products": json.dumps([[product_id, round(float(cosine), 6)] for product_id, cosine in products_near]),
            }
            for row, products_near in zip(rows, nearest, strict=True)
        ]
        with transaction(engine) as connection:
            same_audit = (audits.c.photo_id == sa.bindparam("photo")) & (audits.c.model_id == model_id)
            same_audit &= audits.c.claimed_product_id == sa.bindparam("claim")
            same_audit &= audits.c.photo_sha256 == sa.bindparam("bytes")
            connection.execute(sa.update(audits).where(same_audit).values(nearest=sa.bindparam("products")), values)
        named += len(rows)


def _nearest(connection: Connection, model_id: str, photos: np.ndarray) -> list[list[tuple[str, float]]]:
    """For each of float32 [N, D] photos, (product_id, cosine) of the nearest originals."""
    catalogue = (
        sa.select(products.c.product_id, embeddings.c.vector)
        .join(embeddings, embeddings.c.sha256 == products.c.sha256)
        .where(embeddings.c.model_id == model_id, embeddings.c.vector.is_not(None))
        .order_by(products.c.product_id)
        .execution_options(yield_per=ORIGINALS_AT_ONCE)
    )
    best: list[list[tuple[str, float]]] = [[] for _ in photos]
    for part in connection.execute(catalogue).partitions():
        ids = [product_id for product_id, _ in part]
        cosines = photos @ _matrix(vector for _, vector in part).T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
        for photo, columns in enumerate(nearest):
            candidates = best[photo] + [(ids[column], float(cosines[photo, column])) for column in columns]
            best[photo] = sorted(candidates, key=lambda product: (-product[1], product[0]))[:NEAREST]
    return best


def _lacking(model_id: str) -> sa.ColumnElement[bool]:
    encoded = sa.exists().where(embeddings.c.sha256 == products.c.sha256, embeddings.c.model_id == model_id)
    return products.c.image_bytes.is_not(None) & ~encoded


def _count_lacking(engine: Engine, model_id: str) -> int:
    with snapshot(engine) as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(products).where(_lacking(model_id))) or 0


def _take(connection: Connection, model_id: str) -> list[tuple[str, str, bytes]]:
    """(product_id, sha256, bytes) of some originals to encode; PostgreSQL leaves out what another worker has."""
    lacking = sa.select(products.c.product_id).where(_lacking(model_id)).order_by(products.c.product_id).limit(BATCH)
    ids = list(connection.scalars(lacking.with_for_update(skip_locked=True, key_share=True)))
    columns = (products.c.product_id, products.c.sha256, products.c.image_bytes)
    # Asked again: another worker may have finished one between the look and the lock.
    still_lacking = sa.select(*columns).where(products.c.product_id.in_(ids), _lacking(model_id))
    return [tuple(row) for row in connection.execute(still_lacking)]


def _encode(verifier: Verifier, model_id: str, product_id: str, sha256: str, image_bytes: bytes) -> dict[str, Any]:
    name = f"the original of {product_id}"
    blank = {"sha256": sha256, "model_id": model_id} | dict.fromkeys(("vector", "width", "height", "thumbnail"))
    try:
        picture = prepare(image_bytes, name)
        if picture.sha256 != sha256:
            return blank | {"error": f"{name}: its sha256 in the database is not that of its bytes"}
        embedding = verifier.encode(picture.image_bytes)
    except InvalidImage as error:
        return blank | {"error": f"{name}: {error.reason}"}
    if embedding.model_id != model_id:
        raise StaleEmbedding(f"model {embedding.model_id} serves by now, not {model_id}")
    return embedding_row(sha256, embedding, picture)


def _keep(connection: Connection, rows: list[dict[str, Any]]) -> None:
    keep_embeddings(connection, list({row["sha256"]: row for row in rows}.values()))


def _original(row: sa.RowMapping) -> Original:
    sha256 = row["sha256"]
    if row["vector"] is None:
        return Original(sha256, None, None, row["error"])
    thumbnail = np.frombuffer(row["thumbnail"], np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3)
    picture = PreparedPicture(b"", sha256, row["width"], row["height"], thumbnail)
    embedding = Embedding(np.frombuffer(row["vector"], "<f4"), row["model_id"], sha256)
    return Original(sha256, embedding, picture, None)


def _matrix(vectors: Iterable[bytes]) -> np.ndarray:
    return np.stack([np.frombuffer(vector, "<f4") for vector in vectors])
