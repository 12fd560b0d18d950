"""A real model server with the exported untrained model, and a product database of the drawn products."""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Engine

from pipelines.auditing.claims import Audited, audit_claims
from pipelines.database.engine import transaction
from pipelines.database.tables import audits, photos, products, verdicts
from pipelines.deployment.model_server import running_server
from pipelines.deployment.models_config import Served, write_config
from pipelines.workspace.places import Workspace


@pytest.fixture(scope="session")
def served(evaluated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC address of a server whose label `stable` is the exported untrained model."""
    root = tmp_path_factory.mktemp("served")
    folder = Workspace(root).serving
    shutil.copytree(evaluated.root / "models" / "saved_model", folder / "product-encoder" / "1")
    write_config(folder / "models.config", Served(frozenset({1}), {"stable": 1}), folder / "product-encoder")
    with running_server(Workspace(root)) as server:
        yield server.grpc


def sha256(image_bytes: bytes) -> str:
    return hashlib.sha256(image_bytes).hexdigest()


class Catalogue:
    """The drawn products in a product database, and photos that claim them."""

    def __init__(self, engine: Engine, drawn: Path, server: str):
        self.engine = engine
        self.server = server
        self._drawn = drawn

    def original(self, product: int) -> bytes:
        return (self._drawn / "originals" / f"product-{product:02}.png").read_bytes()

    def photo(self, product: int, shot: int) -> bytes:
        return (self._drawn / "photos" / f"product-{product:02}_{shot:03}.jpg").read_bytes()

    def add_product(self, product_id: str, original: bytes | None, category: str = "") -> None:
        row = {"product_id": product_id, "name": f"Product {product_id}", "category": category}
        row |= {"image_bytes": original, "sha256": sha256(original) if original else None}
        with transaction(self.engine) as connection:
            connection.execute(sa.insert(products).values(row))

    def add_photo(self, photo_id: str, claims: str | None, image_bytes: bytes, **more: object) -> None:
        row = {"photo_id": photo_id, "claimed_product_id": claims, "image_bytes": image_bytes}
        with transaction(self.engine) as connection:
            connection.execute(sa.insert(photos).values(row | {"sha256": sha256(image_bytes)} | more))

    def change_photo(self, photo_id: str, **values: object) -> None:
        """As another import does: `claimed_product_id`, `image_bytes`, …"""
        if isinstance(picture := values.get("image_bytes"), bytes):
            values["sha256"] = sha256(picture)
        with transaction(self.engine) as connection:
            connection.execute(sa.update(photos).where(photos.c.photo_id == photo_id).values(values))

    def audit(self, **options) -> Audited:
        return audit_claims(self.engine, self.server, progress=False, **options)

    def rows(self, table: sa.Table) -> list[dict]:
        """Every row, in the order of the primary key."""
        with self.engine.begin() as connection:
            order = list(table.primary_key)
            return [dict(row) for row in connection.execute(sa.select(table).order_by(*order)).mappings()]

    def outcome_of(self, photo_id: str) -> str:
        """What the audit says of a photo: an outcome, or "refused: REASON"."""
        (audit,) = [row for row in self.rows(audits) if row["photo_id"] == photo_id]
        if audit["state"] == "refused":
            return f"refused: {audit['reason']}"
        (verdict,) = [row for row in self.rows(verdicts) if row["verdict_id"] == audit["verdict_id"]]
        return verdict["outcome"]


@pytest.fixture
def catalogue(engine: Engine, evaluated, served: str) -> Catalogue:
    """Ten products p0 to p9, two a category, and no photos."""
    catalogue = Catalogue(engine, evaluated.root / "data", served)
    for product in range(10):
        catalogue.add_product(f"p{product}", catalogue.original(product), f"Category {product // 2}")
    return catalogue


@pytest.fixture
def claimed(catalogue: Catalogue) -> Catalogue:
    """Of each product two photos with a right claim, and two that claim the next product."""
    for product in range(10):
        for shot in range(4):
            claim = product if shot < 2 else (product + 1) % 10
            catalogue.add_photo(f"photo-{product}-{shot}", f"p{claim}", catalogue.photo(product, shot))
    return catalogue


@pytest.fixture
def copy_of() -> Callable[[bytes], bytes]:
    """The same picture saved again as a JPEG."""

    def saved_again(image_bytes: bytes) -> bytes:
        out = io.BytesIO()
        Image.open(io.BytesIO(image_bytes)).convert("RGB").save(out, "JPEG", quality=90)
        return out.getvalue()

    return saved_again
