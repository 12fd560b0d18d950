"""The tables that the product database begins with."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables in an empty database."""
    op.create_table(
        "deployments",
        sa.Column("deployment_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("from_version", sa.Integer()),
        sa.Column("to_version", sa.Integer()),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("deployment_id"),
    )
    op.create_table(
        "embeddings",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary()),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("thumbnail", sa.LargeBinary()),
        sa.Column("error", sa.Text()),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("(vector IS NULL) = (error IS NOT NULL)", name="a_vector_or_why_not"),
        sa.PrimaryKeyConstraint("sha256", "model_id"),
    )
    op.create_table(
        "forgotten",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "products",
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), server_default="", nullable=False),
        sa.Column("image_bytes", sa.LargeBinary()),
        sa.Column("sha256", sa.Text()),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("(image_bytes IS NULL) = (sha256 IS NULL)", name="sha256_of_the_original"),
        sa.PrimaryKeyConstraint("product_id"),
    )
    op.create_table(
        "quarantine",
        sa.Column("data_version", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("picture_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("role IN ('original', 'photo')", name="role_is_known"),
        sa.PrimaryKeyConstraint("data_version", "role", "picture_id"),
    )
    op.create_table(
        "quarantine_decisions",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("picture_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("decision IN ('released', 'deleted')", name="decision_is_known"),
        sa.CheckConstraint("role IN ('original', 'photo')", name="role_is_known"),
        sa.PrimaryKeyConstraint("role", "picture_id", "sha256"),
    )
    op.create_table(
        "photos",
        sa.Column("photo_id", sa.Text(), nullable=False),
        sa.Column("claimed_product_id", sa.Text()),
        sa.Column("product_id", sa.Text()),
        sa.Column("label_source", sa.Text()),
        sa.Column("image_bytes", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("scene", sa.Text()),
        sa.Column("taken_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("label_source IN ('import', 'person')", name="label_source_is_no_model"),
        sa.CheckConstraint("(product_id IS NULL) = (label_source IS NULL)", name="a_truth_has_a_source"),
        sa.ForeignKeyConstraint(["claimed_product_id"], ["products.product_id"]),
        sa.ForeignKeyConstraint(["product_id"], ["products.product_id"]),
        sa.PrimaryKeyConstraint("photo_id"),
    )
    op.create_index("ix_photos_claimed_product_id", "photos", ["claimed_product_id"])
    op.create_index("ix_photos_product_id", "photos", ["product_id"])
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.Integer(), nullable=False),
        sa.Column("photo_id", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text()),
        sa.Column("claimed_product_id", sa.Text()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("photo_sha256", sa.Text()),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.photo_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_index("ix_decisions_photo_id", "decisions", ["photo_id"])
    op.create_table(
        "verdicts",
        sa.Column("verdict_id", sa.Integer(), nullable=False),
        sa.Column("photo_id", sa.Text(), nullable=False),
        sa.Column("claimed_product_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("similarity", sa.Double()),
        sa.Column("distance", sa.Double()),
        sa.Column("probability", sa.Double()),
        sa.Column("accept_at", sa.Double()),
        sa.Column("reject_at", sa.Double()),
        sa.Column("model_name", sa.Text()),
        sa.Column("model_version", sa.Integer()),
        sa.Column("model_id", sa.Text()),
        sa.Column("original_sha256", sa.Text(), nullable=False),
        sa.Column("photo_sha256", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("outcome IN ('match', 'mismatch', 'review', 'identical')", name="outcome_is_known"),
        sa.ForeignKeyConstraint(["claimed_product_id"], ["products.product_id"]),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.photo_id"]),
        sa.PrimaryKeyConstraint("verdict_id"),
        sa.UniqueConstraint(
            "photo_id", "claimed_product_id", "photo_sha256", "model_id", name="one_verdict_of_a_claim_per_model"
        ),
    )
    op.create_table(
        "audits",
        sa.Column("photo_id", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("claimed_product_id", sa.Text(), nullable=False),
        sa.Column("photo_sha256", sa.Text(), nullable=False),
        sa.Column("original_sha256", sa.Text()),
        sa.Column("verdict_id", sa.Integer()),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("perceptual_hash", sa.Text()),
        sa.Column("nearest", sa.Text()),
        sa.Column("sampled", sa.Boolean(), nullable=False),
        sa.Column("to_person", sa.Text()),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.CheckConstraint("(state = 'refused') = (verdict_id IS NULL)", name="refused_has_no_verdict"),
        sa.CheckConstraint("state IN ('verified', 'identical', 'refused')", name="state_is_known"),
        sa.CheckConstraint("to_person IN ('review', 'identical', 'sample')", name="why_is_known"),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.photo_id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdicts.verdict_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("photo_id", "model_id", "claimed_product_id", "photo_sha256"),
        sa.UniqueConstraint("verdict_id"),
    )
