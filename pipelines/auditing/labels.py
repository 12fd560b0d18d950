"""People's decisions about photos: they become truths, which the next ingest uses. A model's verdict never does."""

import csv
import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipelines.auditing.originals import read_nearest
from pipelines.database.engine import snapshot, transaction
from pipelines.database.tables import about_present, audits, decisions, photos, products
from training.stage.errors import BadInput

CSV_COLUMNS = ("photo_id", "product_id")


@dataclass(frozen=True)
class PhotoDecision:
    """A person's decision: which product a photo shows; None: not the one that it claims, and nobody knows which."""

    photo_id: str
    product_id: str | None
    source: str = ""
    """File and line that it comes from, as messages begin with it."""


@dataclass(frozen=True)
class WaitingPhoto:
    """A photo that waits for a person."""

    photo_id: str
    claimed_product_id: str
    why: str
    """ "review", "identical", or "sample": a draw, whose verdict is not shown, so that nobody is led by it."""
    looks_like: tuple[tuple[str, float], ...]
    """Product ids and cosines, the nearest first; empty for a draw."""
    since: datetime

    def __str__(self) -> str:
        products = ", ".join(product_id for product_id, _ in self.looks_like)
        looks_like = f", looks like {products}" if products else ""
        return f"{self.photo_id}  {self.why}: claims {self.claimed_product_id}{looks_like}"


def label_photos(engine: Engine, photo_decisions: list[PhotoDecision], who: str | None = None) -> None:
    """Make decisions the photos' truths, all of them or none.

    A truth that says what a `wrong` decision denies is taken back. Raises BadInput for a photo or product that is not
    in the database.
    """
    with transaction(engine) as connection:
        for decision in photo_decisions:
            _label_photo(connection, decision, who or getpass.getuser())


def read_decisions(path: Path) -> list[PhotoDecision]:
    """Decisions from a CSV file: photo_id and product_id, which is empty where the claim is wrong. Raises BadInput."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [name for name in CSV_COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise BadInput(f"{path}: no column {', '.join(missing)} (columns: photo_id, product_id)")
            photo_decisions = [_decision(row, f"{path}, line {rows.line_num}: ") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} can't be read: {error}") from None
    seen: set[str] = set()
    for decision in photo_decisions:
        if decision.photo_id in seen:
            raise BadInput(f"{decision.source}photo {decision.photo_id} is decided twice")
        seen.add(decision.photo_id)
    return photo_decisions


def _decision(row: dict[str, str | None], source: str) -> PhotoDecision:
    photo_id, product_id = row["photo_id"], row["product_id"]
    if photo_id is None or product_id is None:
        lacks = f"photo {photo_id} has no product_id" if photo_id else "there is no photo_id"
        raise BadInput(f"{source}{lacks}: the line ends too early (an empty product_id has its comma)")
    return PhotoDecision(photo_id, product_id or None, source)


def find_waiting(engine: Engine) -> Iterator[WaitingPhoto]:
    """Photos that wait for a person, each once, in the order of their ids: those drawn, reviews and copies.

    A decision holds for the claim and the bytes that it was about. What any model's draw took is asked as a draw,
    whatever another model said of it.
    """
    decided = sa.exists().where(about_present(decisions))
    by_person = photos.c.label_source.is_not_distinct_from("person")
    for_people = (
        sa.select(audits)
        .join(photos, about_present(audits))
        .where(audits.c.to_person.is_not(None), ~decided, ~by_person)
        .order_by(audits.c.photo_id, audits.c.sampled.desc(), audits.c.at.desc())
        .execution_options(yield_per=500)
    )
    last = None
    with snapshot(engine) as connection:
        for row in connection.execute(for_people).mappings():
            if row["photo_id"] == last:
                continue
            last = row["photo_id"]
            looks_like = () if row["sampled"] else read_nearest(row["nearest"])
            yield WaitingPhoto(last, row["claimed_product_id"], row["to_person"], looks_like, row["at"])


def _label_photo(connection: Connection, decision: PhotoDecision, who: str) -> None:
    this_photo = photos.c.photo_id == decision.photo_id
    columns = (photos.c.claimed_product_id, photos.c.product_id, photos.c.sha256)
    photo = connection.execute(sa.select(*columns).where(this_photo).with_for_update()).first()
    if photo is None:
        raise BadInput(f"{decision.source}the product database has no photo {decision.photo_id!r}")
    if decision.product_id is None:
        if photo.claimed_product_id is None:
            raise BadInput(f"{decision.source}photo {decision.photo_id} claims no product, so its claim can't be wrong")
        denied = photo.product_id == photo.claimed_product_id
        truth = {"product_id": None, "label_source": None} if denied else None
    else:
        product = sa.select(products.c.product_id).where(products.c.product_id == decision.product_id)
        if connection.scalar(product) is None:
            raise BadInput(f"{decision.source}the product database has no product {decision.product_id!r}")
        truth = {"product_id": decision.product_id, "label_source": "person"}
    if truth is not None:
        connection.execute(sa.update(photos).where(this_photo).values(truth))
    row = {
        "photo_id": decision.photo_id,
        "product_id": decision.product_id,
        "claimed_product_id": photo.claimed_product_id,
    }
    connection.execute(sa.insert(decisions).values(row | {"photo_sha256": photo.sha256, "who": who}))
