"""Shadow: the same claims verified by `stable` and by `canary`, and where the two verdicts differ."""

import base64
import io
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photoproof import InvalidImage, ModelNotFound, PhotoproofError, Verdict, Verifier
from photoproof.pictures.prepare import prepare
from pipelines.database import tables
from pipelines.database.engine import opened, snapshot
from pipelines.deployment.addresses import server_to_ask
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.dataset.draws import hash_to_unit
from training.stage.files import write_whole
from training.stage.pages import render_page

LABELS = ("stable", "canary")

THUMBNAIL = 220
"""Pixels of the longer side of a picture in the report."""


class NoCanary(ModelNotFound):
    """There is nothing to compare `stable` with."""


@dataclass(frozen=True)
class ClaimPictures:
    """A claim of the product database, with its two pictures."""

    photo_id: str
    claimed_product_id: str
    original: bytes
    photo: bytes


@dataclass(frozen=True)
class ComparedClaim:
    """A claim and each label's verdict, or the reason why there is none."""

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
    """The claims with both verdicts, and where the report is."""

    claims: tuple[ComparedClaim, ...]
    report: Path

    @property
    def differing(self) -> list[ComparedClaim]:
        """Those with other outcomes, the largest change in probability first."""
        return sorted((claim for claim in self.claims if claim.differs), key=_probability_change, reverse=True)

    def __str__(self) -> str:
        models = ", ".join(f"{label} is {_model(self.claims, label)}" for label in LABELS)
        return f"{len(self.claims)} claims, {len(self.differing)} with other verdicts ({models}) -> {self.report}"


def shadow(workspace: Workspace, settings: Settings, sample: int = 100, hours: float = 24) -> Shadow:
    """Ask both labels about a sample of the last hours' claims, and write reports/shadow/.

    Raises ModelNotFound where no version has a label (NoCanary: only stable is served), ServerUnavailable, BadInput
    (the product database).
    """
    compared = []
    server = server_to_ask(workspace, settings)
    with Verifier(server, label=LABELS[0]) as stable, Verifier(server, label=LABELS[1]) as canary:
        stable.model_id()  # a server or label that is missing is reported at once, not once a claim
        try:
            canary.model_id()
        except ModelNotFound as error:
            raise NoCanary("no version is served as canary: let `challenger` name one") from error
        for claim in draw_claims(workspace, sample, hours):
            verdicts = _verify(stable, claim), _verify(canary, claim)
            pictures = ("", "")
            if _outcome(verdicts[0]) != _outcome(verdicts[1]):
                pictures = _thumbnail(claim.original), _thumbnail(claim.photo)
            compared.append(ComparedClaim(claim.photo_id, claim.claimed_product_id, *verdicts, pictures))
    result = Shadow(tuple(compared), workspace.reports / "shadow" / "index.html")
    write_report(result)
    return result


def draw_claims(workspace: Workspace, sample: int, hours: float) -> list[ClaimPictures]:
    """So many of the claims that came in the last hours, chosen by a hash of the photo's id."""
    photos, products = tables.photos, tables.products
    since = datetime.now(UTC) - timedelta(hours=hours)
    where = (photos.c.updated_at >= since) & products.c.image_bytes.is_not(None)
    joined = photos.join(products, photos.c.claimed_product_id == products.c.product_id)
    columns = (photos.c.photo_id, photos.c.claimed_product_id, products.c.image_bytes, photos.c.image_bytes)
    query = sa.select(*columns).select_from(joined)
    with opened(workspace.database_url) as engine, snapshot(engine) as connection:
        ids = list(connection.execute(sa.select(photos.c.photo_id).select_from(joined).where(where)).scalars())
        drawn = sorted(ids, key=lambda photo_id: hash_to_unit("shadow", photo_id))[:sample]
        return [
            ClaimPictures(*connection.execute(query.where(photos.c.photo_id == photo_id)).one()) for photo_id in drawn
        ]


def _verify(verifier: Verifier, claim: ClaimPictures) -> Verdict | str:
    try:
        return verifier.verify(claim.original, claim.photo)
    except InvalidImage as error:
        return str(error)


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


def write_report(result: Shadow) -> None:
    """Write index.html and shadow.json, each by rename."""
    folder = result.report.parent
    folder.mkdir(parents=True, exist_ok=True)
    counts = Counter(sorted((_outcome(claim.stable), _outcome(claim.canary)) for claim in result.claims))
    rows = [
        {"claim": claim, "stable": _verdict_row(claim.stable), "canary": _verdict_row(claim.canary)}
        for claim in result.differing
    ]
    models = {label: _model(result.claims, label) for label in LABELS}
    now = datetime.now().astimezone()
    page = Path(__file__).with_name("shadow.html.jinja")
    text = render_page(page, rows=rows, counts=counts, total=len(result.claims), models=models, at=now)
    write_whole(folder / "index.html", text)
    write_whole(folder / "shadow.json", as_json(result) + "\n")


def as_json(result: Shadow) -> str:
    """Both verdicts of every claim, for programs."""
    rows: list[dict[str, Any]] = [
        {"photo_id": claim.photo_id, "claimed_product_id": claim.claimed_product_id, "differs": claim.differs}
        | {label: _verdict_row(getattr(claim, label)) for label in LABELS}
        for claim in result.claims
    ]
    return json.dumps({"claims": rows, "differ": len(result.differing), "report": str(result.report)}, indent=1)


def _verdict_row(verdict: Verdict | str) -> dict[str, Any]:
    if isinstance(verdict, str):
        return {"outcome": "no verdict", "reason": verdict, "probability": None, "model_id": None}
    return {name: getattr(verdict, name) for name in ("outcome", "reason", "probability", "model_id")}


def _outcome(verdict: Verdict | str) -> str:
    return "no verdict" if isinstance(verdict, str) else verdict.outcome


def _probability_change(claim: ComparedClaim) -> float:
    """Between 0 and 1; 2 where a label gave no verdict."""
    if isinstance(claim.stable, str) or isinstance(claim.canary, str):
        return 2.0
    return abs((claim.stable.probability or 0) - (claim.canary.probability or 0))


def _model(claims: tuple[ComparedClaim, ...], label: str) -> str:
    verdicts = [getattr(claim, label) for claim in claims]
    model_ids = (verdict.model_id for verdict in verdicts if isinstance(verdict, Verdict) and verdict.model_id)
    return next((f"model {model_id}" for model_id in model_ids), "not asked")
