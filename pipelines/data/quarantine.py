"""Pictures that validation set aside: which they are, and what a person decides about them.

A picture is let in (`released`) or kept out for good (`deleted`) by its bytes, so one that changes is looked at anew.
Ingest leaves out what was deleted, and exports what was released into data/, so that validation depends on data/ alone.
"""

import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from pipelines.database.engine import snapshot, transaction
from pipelines.database.tables import photos, products, quarantine, quarantine_decisions
from training.dataset import releases
from training.stage.errors import BadInput

QuarantineDecision = Literal["released", "deleted"]


@dataclass(frozen=True)
class SetAside:
    """A picture in quarantine, and what a person decided about it."""

    role: str
    picture_id: str
    reason: str
    decision: QuarantineDecision | None = None
    who: str | None = None

    def __str__(self) -> str:
        meaning = {"released": "released, enters with the next validation", "deleted": "deleted, never enters again"}
        decided = f"  [{meaning[self.decision]} ({self.who})]" if self.decision else ""
        return f"{self.role} {self.picture_id}: {self.reason}{decided}"


def record(engine: Engine, data_version: str, table: Path) -> int:
    """Fill the database's quarantine of a data version with the rows of quarantine.parquet; how many there are.

    What the table had for this version is replaced. A missing file is an empty quarantine.
    """
    columns = ["role", "picture_id", "reason"]
    rows = pq.read_table(table, columns=columns).to_pylist() if table.is_file() else []
    with transaction(engine) as connection:
        connection.execute(sa.delete(quarantine).where(quarantine.c.data_version == data_version))
        if rows:
            connection.execute(sa.insert(quarantine), [row | {"data_version": data_version} for row in rows])
    return len(rows)


def list_set_aside(engine: Engine, data_version: str) -> list[SetAside]:
    """What a data version has in quarantine, originals first, with what was decided about each."""
    with snapshot(engine) as connection:
        return [SetAside(*row) for row in connection.execute(_select_set_aside(data_version))]


def decide(
    engine: Engine,
    data_version: str,
    ids: Sequence[str],
    decision: QuarantineDecision,
    role: str | None = None,
    who: str | None = None,
) -> list[SetAside]:
    """Write down a decision about pictures of a data version's quarantine: all of them, or none.

    A later decision replaces an earlier one. `role` tells an original from a photo with the same id.
    Raises BadInput for an id that is not in quarantine, one that names two pictures, and a release of what does
    not decode.
    """
    who = who or getpass.getuser()
    decided = []
    with transaction(engine) as connection:
        known = [SetAside(*row) for row in connection.execute(_select_set_aside(data_version))]
        for picture_id in dict.fromkeys(ids):
            picture = _find_picture(known, picture_id, role)
            if decision == "released" and not releases.can_release(picture.reason):
                raise BadInput(f"{picture.role} {picture_id} can't be released: {picture.reason}")
            _write_decision(connection, picture, decision, who)
            decided.append(SetAside(picture.role, picture_id, picture.reason, decision, who))
    return decided


def is_deleted(role: str, sha256: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a picture with these bytes was deleted in quarantine, under whatever id."""
    decided = quarantine_decisions.c
    return sa.exists().where(decided.role == role, decided.sha256 == sha256, decided.decision == "deleted")


def write_released(connection: Connection, data: Path) -> None:
    """Export what was released into data/."""
    decided = quarantine_decisions.c
    columns = (decided.role, decided.picture_id, decided.sha256, decided.who, decided.at)
    query = sa.select(*columns).where(decided.decision == "released").order_by(*columns[:3])
    rows = connection.execute(query).mappings()
    releases.write_released(({**row, "at": row["at"].isoformat(timespec="seconds")} for row in rows), data)


def _select_set_aside(data_version: str) -> sa.Select[*tuple[Any, ...]]:
    """Role, id, reason, and the decision about the bytes that the database has now."""
    held, decided = quarantine.c, quarantine_decisions.c
    of_photo = sa.select(photos.c.sha256).where(photos.c.photo_id == held.picture_id)
    of_original = sa.select(products.c.sha256).where(products.c.product_id == held.picture_id)
    present_sha256 = sa.case(
        (held.role == "photo", of_photo.correlate(quarantine).scalar_subquery()),
        else_=of_original.correlate(quarantine).scalar_subquery(),
    )
    same_picture = (decided.role == held.role) & (decided.picture_id == held.picture_id)
    return (
        sa.select(held.role, held.picture_id, held.reason, decided.decision, decided.who)
        .select_from(quarantine.outerjoin(quarantine_decisions, same_picture & (decided.sha256 == present_sha256)))
        .where(held.data_version == data_version)
        .order_by(held.role, held.picture_id)
    )


def _find_picture(known: Sequence[SetAside], picture_id: str, role: str | None) -> SetAside:
    matching = [picture for picture in known if picture.picture_id == picture_id and role in (None, picture.role)]
    if not matching:
        raise BadInput(f"{picture_id} is not in quarantine: `photoproof data quarantine` lists what is")
    if len(matching) > 1:
        raise BadInput(f"{picture_id} is an original and a photo: say which with --role original or --role photo")
    return matching[0]


def _write_decision(connection: Connection, picture: SetAside, decision: QuarantineDecision, who: str) -> None:
    table, key = (photos, photos.c.photo_id) if picture.role == "photo" else (products, products.c.product_id)
    sha256 = connection.scalar(sa.select(table.c.sha256).where(key == picture.picture_id))
    if sha256 is None:
        raise BadInput(f"the product database no longer has the {picture.role} {picture.picture_id}")
    row = {"role": picture.role, "picture_id": picture.picture_id, "sha256": sha256}
    connection.execute(sa.delete(quarantine_decisions).filter_by(**row))
    row |= {"decision": decision, "reason": picture.reason, "who": who}
    connection.execute(sa.insert(quarantine_decisions).values(row))
