"""The product database: SQLite by default, PostgreSQL by URL.

A photo has a claim (`claimed_product_id`, what its uploader says) and perhaps a truth (`product_id`, what
somebody trusted says: `label_source` is "import" or "person"). A model's verdict never becomes a truth.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime in UTC. SQLite has no time zones and stores it naive; PostgreSQL as timestamptz."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """To UTC; a naive datetime is a mistake of the caller's."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """From UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _now() -> datetime:
    return datetime.now(UTC)


def _written(name: str) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime, nullable=False, default=_now, server_default=sa.func.now())


def _updated() -> sa.Column[datetime]:
    return sa.Column(
        "updated_at", UtcDateTime, nullable=False, default=_now, onupdate=_now, server_default=sa.func.now()
    )


metadata = sa.MetaData()

products = sa.Table(
    "products",
    metadata,
    sa.Column("product_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False, server_default=""),
    sa.Column("image_bytes", sa.LargeBinary),  # the original; a product that has none yet can be known
    sa.Column("sha256", sa.Text),
    _updated(),
    sa.CheckConstraint("(image_bytes IS NULL) = (sha256 IS NULL)", name="sha256_of_the_original"),
)

photos = sa.Table(
    "photos",
    metadata,
    sa.Column("photo_id", sa.Text, primary_key=True),
    sa.Column("claimed_product_id", sa.Text, sa.ForeignKey("products.product_id"), index=True),
    sa.Column("product_id", sa.Text, sa.ForeignKey("products.product_id"), index=True),
    sa.Column("label_source", sa.Text),
    sa.Column("image_bytes", sa.LargeBinary, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("scene", sa.Text),
    sa.Column("taken_at", UtcDateTime),
    _updated(),
    sa.CheckConstraint("label_source IN ('import', 'person')", name="label_source_is_no_model"),
    sa.CheckConstraint("(product_id IS NULL) = (label_source IS NULL)", name="a_truth_has_a_source"),
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("verdict_id", sa.Integer, primary_key=True),
    sa.Column("photo_id", sa.Text, sa.ForeignKey("photos.photo_id"), nullable=False),
    sa.Column("claimed_product_id", sa.Text, sa.ForeignKey("products.product_id"), nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("similarity", sa.Double),
    sa.Column("distance", sa.Double),
    sa.Column("probability", sa.Double),
    sa.Column("accept_at", sa.Double),
    sa.Column("reject_at", sa.Double),
    sa.Column("model_name", sa.Text),  # an "identical" asks no model
    sa.Column("model_version", sa.Integer),
    sa.Column("model_id", sa.Text),
    sa.Column("original_sha256", sa.Text, nullable=False),
    sa.Column("photo_sha256", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    _written("at"),
    sa.CheckConstraint("outcome IN ('match', 'mismatch', 'review', 'identical')", name="outcome_is_known"),
    sa.UniqueConstraint(
        "photo_id", "claimed_product_id", "photo_sha256", "model_id", name="one_verdict_of_a_claim_per_model"
    ),
)

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("deployment_id", sa.Integer, primary_key=True),
    _written("at"),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("alias", sa.Text, nullable=False),
    sa.Column("from_version", sa.Integer),
    sa.Column("to_version", sa.Integer),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("data_version", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("picture_id", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    _written("at"),
    sa.CheckConstraint("role IN ('original', 'photo')", name="role_is_known"),
)

quarantine_decisions = sa.Table(
    "quarantine_decisions",
    metadata,
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("picture_id", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, primary_key=True),  # a picture whose bytes change is looked at anew
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),  # why it was set aside
    sa.Column("who", sa.Text, nullable=False),
    _written("at"),
    sa.CheckConstraint("role IN ('original', 'photo')", name="role_is_known"),
    sa.CheckConstraint("decision IN ('released', 'deleted')", name="decision_is_known"),
)

embeddings = sa.Table(
    "embeddings",
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),  # of a picture: an original, or a photo that looks like another
    sa.Column("model_id", sa.Text, primary_key=True),
    sa.Column("vector", sa.LargeBinary),  # float32 [D], little-endian
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("thumbnail", sa.LargeBinary),  # uint8 [32, 32, 3]: finds a photo that is a copy of it
    sa.Column("error", sa.Text),  # why there is no vector
    _written("at"),
    sa.CheckConstraint("(vector IS NULL) = (error IS NOT NULL)", name="a_vector_or_why_not"),
)

audits = sa.Table(
    "audits",
    metadata,
    sa.Column("photo_id", sa.Text, sa.ForeignKey("photos.photo_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("model_id", sa.Text, primary_key=True),  # "" for an identical, which is one for all models
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("claimed_product_id", sa.Text, primary_key=True),
    sa.Column("photo_sha256", sa.Text, primary_key=True),  # what has changed since is audited anew
    sa.Column("original_sha256", sa.Text),  # a product may have no original yet
    sa.Column("verdict_id", sa.Integer, sa.ForeignKey("verdicts.verdict_id", ondelete="CASCADE"), unique=True),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("perceptual_hash", sa.Text),  # 16 hex digits
    sa.Column("nearest", sa.Text),  # JSON: [[product_id, cosine], ...], the nearest first
    sa.Column("sampled", sa.Boolean, nullable=False),  # drawn by hash, whatever its outcome: for the live rates
    sa.Column("to_person", sa.Text),  # why a person is to look at it
    _written("at"),
    sa.CheckConstraint("state IN ('verified', 'identical', 'refused')", name="state_is_known"),
    sa.CheckConstraint("(state = 'refused') = (verdict_id IS NULL)", name="refused_has_no_verdict"),
    sa.CheckConstraint("to_person IN ('review', 'identical', 'sample')", name="why_is_known"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("decision_id", sa.Integer, primary_key=True),  # a photo's last one counts
    sa.Column("photo_id", sa.Text, sa.ForeignKey("photos.photo_id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("product_id", sa.Text),  # NULL: not what was claimed; which it is, nobody said
    sa.Column("claimed_product_id", sa.Text),
    sa.Column("who", sa.Text, nullable=False),
    _written("at"),
    sa.Column("photo_sha256", sa.Text),  # what the photo was then
)

forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),  # of a picture that was removed for good: no import brings it back
    _written("at"),
)


def about_present(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether a row of `verdicts`, `audits` or `decisions` is about the claim and the bytes that its photo has now."""
    return (
        (table.c.photo_id == photos.c.photo_id)
        & (table.c.claimed_product_id == photos.c.claimed_product_id)
        & (table.c.photo_sha256 == photos.c.sha256)
    )
