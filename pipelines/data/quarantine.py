"""Pictures that validation set aside: what a person may look up and decide about them.

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

Decision = Literal["released", "deleted"]


@dataclass(frozen=True)
class SetAside:
    """A picture in quarantine, and what a person decided about it."""

    role: str
    picture_id: str
    reason: str
    decision: Decision | None = None
    who: str | None = None

    def __str__(self) -> str:
        decided = {"released": "released, enters with the next validation", "deleted": "deleted, never enters again"}
        told = f"  [{decided[self.decision]} ({self.who})]" if self.decision else ""
        return f"{self.role} {self.picture_id}: {self.reason}{told}"


def record(engine: Engine, data_version: str, table: Path) -> int:
    """Fill the database's quarantine of a data version with the rows of quarantine.parquet; how many they are.

    What the table had for this version is replaced. A missing file is an empty quarantine.
    """
    columns = ["role", "picture_id", "reason"]
    rows = pq.read_table(table, columns=columns).to_pylist() if table.is_file() else []
    with transaction(engine) as connection:
        connection.execute(sa.delete(quarantine).where(quarantine.c.data_version == data_version))
        if rows:
            connection.execute(sa.insert(quarantine), [row | {"data_version": data_version} for row in rows])
    return len(rows)


def set_aside(engine: Engine, data_version: str) -> list[SetAside]:
    """What a data version has in quarantine, originals first, with what was decided about each."""
    with snapshot(engine) as connection:
        return [SetAside(*row) for row in connection.execute(_listed(data_version))]


def decide(
    engine: Engine,
    data_version: str,
    ids: Sequence[str],
    decision: Decision,
    role: str | None = None,
    who: str | None = None,
) -> list[SetAside]:
    """Write down a decision about pictures of a data version's quarantine: all of them, or none.

    A later decision takes the place of an earlier one. `role` tells an original from a photo of the same id.
    Raises BadInput for an id that is not in quarantine, one that names two pictures, and a release of what does
    not decode.
    """
    who = who or getpass.getuser()
    out = []
    with transaction(engine) as connection:
        known = [SetAside(*row) for row in connection.execute(_listed(data_version))]
        for one in dict.fromkeys(ids):
            found = _the_one(known, one, role)
            if decision == "released" and not releases.can_release(found.reason):
                raise BadInput(f"{found.role} {one} can't be released: {found.reason}")
            _write(connection, found, decision, who)
            out.append(SetAside(found.role, one, found.reason, decision, who))
    return out


def is_deleted(role: str, sha256: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether a picture with these bytes was deleted in quarantine, under whatever id."""
    of = quarantine_decisions.c
    return sa.exists().where(of.role == role, of.sha256 == sha256, of.decision == "deleted")


def write_released(connection: Connection, data: Path) -> None:
    """Export what was released into data/."""
    of = quarantine_decisions.c
    asked = sa.select(of.role, of.picture_id, of.sha256, of.who, of.at).where(of.decision == "released")
    rows = connection.execute(asked.order_by(of.role, of.picture_id, of.sha256)).mappings()
    releases.write_released(({**row, "at": row["at"].isoformat(timespec="seconds")} for row in rows), data)


def _listed(data_version: str) -> sa.Select[*tuple[Any, ...]]:
    """Role, id, reason, and the decision about the bytes that the database has now."""
    of, decided = quarantine.c, quarantine_decisions.c
    of_photo = sa.select(photos.c.sha256).where(photos.c.photo_id == of.picture_id)
    of_original = sa.select(products.c.sha256).where(products.c.product_id == of.picture_id)
    now = sa.case(
        (of.role == "photo", of_photo.correlate(quarantine).scalar_subquery()),
        else_=of_original.correlate(quarantine).scalar_subquery(),
    )
    same = (decided.role == of.role) & (decided.picture_id == of.picture_id) & (decided.sha256 == now)
    return (
        sa.select(of.role, of.picture_id, of.reason, decided.decision, decided.who)
        .select_from(quarantine.outerjoin(quarantine_decisions, same))
        .where(of.data_version == data_version)
        .order_by(of.role, of.picture_id)
    )


def _the_one(known: Sequence[SetAside], picture_id: str, role: str | None) -> SetAside:
    found = [one for one in known if one.picture_id == picture_id and role in (None, one.role)]
    if not found:
        raise BadInput(f"{picture_id} is not in quarantine: `photoproof data quarantine` lists what is")
    if len(found) > 1:
        raise BadInput(f"{picture_id} is an original and a photo: say which with --role original or --role photo")
    return found[0]


def _write(connection: Connection, one: SetAside, decision: Decision, who: str) -> None:
    table, key = (photos, photos.c.photo_id) if one.role == "photo" else (products, products.c.product_id)
    sha256 = connection.scalar(sa.select(table.c.sha256).where(key == one.picture_id))
    if sha256 is None:
        raise BadInput(f"the product database has no {one.role} {one.picture_id} any more")
    of = quarantine_decisions.c
    here = (of.role == one.role) & (of.picture_id == one.picture_id) & (of.sha256 == sha256)
    connection.execute(sa.delete(quarantine_decisions).where(here))
    row = {"role": one.role, "picture_id": one.picture_id, "sha256": sha256}
    row |= {"decision": decision, "reason": one.reason, "who": who}
    connection.execute(sa.insert(quarantine_decisions).values(row))
