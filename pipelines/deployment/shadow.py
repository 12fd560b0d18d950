"""Shadow: the same audit photos asked under `stable` and under `canary`, and where the two verdicts differ."""

import base64
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photoproof import InvalidImage, ModelNotFound, PhotoproofError, Verdict, Verifier
from photoproof.pictures.prepare import prepare
from pipelines.database import tables
from pipelines.database.engine import connect, snapshot
from pipelines.deployment.addresses import server_to_ask
from pipelines.workspace.places import Workspace
from training.dataset.draws import hash_to_unit
from training.stage.pages import render_page

LABELS = ("stable", "canary")

THUMBNAIL = 220
"""Pixels of the longer side of a picture in the report."""


class NoCanary(ModelNotFound):
    """There is nothing to hold beside `stable`."""


@dataclass(frozen=True)
class Pair:
    """A claim of the product database."""

    photo_id: str
    claimed_product_id: str
    original: bytes
    photo: bytes


@dataclass(frozen=True)
class Asked:
    """A claim and what each label said: a verdict, or the reason why there is none."""

    photo_id: str
    claimed_product_id: str
    stable: Verdict | str
    canary: Verdict | str
    pictures: tuple[str, str]
    """Original and photo as data URLs; empty where both labels agree."""

    @property
    def differs(self) -> bool:
        """Whether the outcomes differ."""
        return _outcome(self.stable) != _outcome(self.canary)


@dataclass(frozen=True)
class Shadow:
    """What came of the claims, and where the report is."""

    asked: tuple[Asked, ...]
    report: Path

    @property
    def differing(self) -> list[Asked]:
        """Those with other outcomes, the largest change in probability first."""
        return sorted((one for one in self.asked if one.differs), key=_change, reverse=True)

    def __str__(self) -> str:
        models = {label: _model(self.asked, label) for label in LABELS}
        told = ", ".join(f"{label} is {model}" for label, model in models.items())
        return f"{len(self.asked)} claims, {len(self.differing)} with other verdicts ({told}) -> {self.report}"


def shadow(workspace: Workspace, sample: int = 100, hours: float = 24) -> Shadow:
    """Ask both labels about a sample of the last hours' claims, and write reports/shadow/.

    Raises ModelNotFound where no version has a label (NoCanary: only stable is served), ServerUnavailable, BadInput
    (the product database).
    """
    asked = []
    server = server_to_ask(workspace)
    with Verifier(server, label=LABELS[0]) as stable, Verifier(server, label=LABELS[1]) as canary:
        stable.encode(_probe())  # what is not there is said at once, not once a pair
        try:
            canary.encode(_probe())
        except ModelNotFound as error:
            raise NoCanary("no version is served as canary: let `challenger` name one") from error
        for pair in claims(workspace, sample, hours):
            said = _ask(stable, pair), _ask(canary, pair)
            pictures = ("", "")
            if _outcome(said[0]) != _outcome(said[1]):
                pictures = _thumbnail(pair.original), _thumbnail(pair.photo)
            asked.append(Asked(pair.photo_id, pair.claimed_product_id, *said, pictures))
    found = Shadow(tuple(asked), workspace.reports / "shadow" / "index.html")
    write_report(found)
    return found


def claims(workspace: Workspace, sample: int, hours: float) -> list[Pair]:
    """So many of the claims that came in the last hours, chosen by a hash of the photo's id."""
    photos, products = tables.photos, tables.products
    since = datetime.now(UTC) - timedelta(hours=hours)
    where = (photos.c.updated_at >= since) & products.c.image_bytes.is_not(None)
    joined = photos.join(products, photos.c.claimed_product_id == products.c.product_id)
    engine = connect(workspace.database_url)
    try:
        with snapshot(engine) as connection:
            ids = list(connection.execute(sa.select(photos.c.photo_id).select_from(joined).where(where)).scalars())
            chosen = sorted(ids, key=lambda one: hash_to_unit("shadow", one))[:sample]
            columns = (photos.c.photo_id, photos.c.claimed_product_id, products.c.image_bytes, photos.c.image_bytes)
            asked = sa.select(*columns).select_from(joined)
            return [Pair(*connection.execute(asked.where(photos.c.photo_id == one)).one()) for one in chosen]
    finally:
        engine.dispose()


def _ask(verifier: Verifier, pair: Pair) -> Verdict | str:
    try:
        return verifier.verify(pair.original, pair.photo)
    except InvalidImage as error:
        return str(error)


def _probe() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(out, "PNG")
    return out.getvalue()


def _thumbnail(picture: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(prepare(picture).image_bytes)) as image:
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=85)
    except PhotoproofError:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def write_report(found: Shadow) -> None:
    """Write index.html and shadow.json, each by rename."""
    folder = found.report.parent
    folder.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(sorted((_outcome(one.stable), _outcome(one.canary)) for one in found.asked), 0)
    for one in found.asked:
        counts[_outcome(one.stable), _outcome(one.canary)] += 1
    rows = [{"asked": one, "stable": _told(one.stable), "canary": _told(one.canary)} for one in found.differing]
    models = {label: _model(found.asked, label) for label in LABELS}
    text = render_page(
        Path(__file__).with_name("shadow.html.jinja"),
        rows=rows,
        counts=counts,
        total=len(found.asked),
        models=models,
        at=datetime.now().astimezone(),
    )
    for name, content in (("index.html", text), ("shadow.json", as_json(found) + "\n")):
        part = folder / f"{name}.part"
        part.write_text(content)
        part.replace(folder / name)


def as_json(found: Shadow) -> str:
    """What came of every claim, for programs."""
    rows: list[dict[str, Any]] = [
        {"photo_id": one.photo_id, "claimed_product_id": one.claimed_product_id, "differs": one.differs}
        | {label: _told(getattr(one, label)) for label in LABELS}
        for one in found.asked
    ]
    return json.dumps({"claims": rows, "differ": len(found.differing), "report": str(found.report)}, indent=1)


def _told(said: Verdict | str) -> dict[str, Any]:
    if isinstance(said, str):
        return {"outcome": "no verdict", "reason": said, "probability": None, "model_id": None}
    return {name: getattr(said, name) for name in ("outcome", "reason", "probability", "model_id")}


def _outcome(said: Verdict | str) -> str:
    return "no verdict" if isinstance(said, str) else said.outcome


def _change(one: Asked) -> float:
    told = [said.probability if isinstance(said, Verdict) else None for said in (one.stable, one.canary)]
    return 2.0 if None in told else abs(float(told[0] or 0) - float(told[1] or 0))


def _model(asked: tuple[Asked, ...], label: str) -> str:
    said = [getattr(one, label) for one in asked]
    return next((f"model {one.model_id}" for one in said if isinstance(one, Verdict) and one.model_id), "not asked")
