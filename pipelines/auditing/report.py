"""The findings of an audit, for auditors: one HTML page that holds its pictures, and JSON, in reports/audit/."""

import base64
import dataclasses
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Connection, Engine

from photoproof import InvalidImage
from photoproof.pictures.prepare import prepare
from pipelines.auditing.claims import still_holds
from pipelines.auditing.duplicates import Duplicates, find_duplicates
from pipelines.auditing.labels import find_waiting
from pipelines.auditing.originals import read_nearest
from pipelines.auditing.rates import LiveRates, measure_live_rates
from pipelines.database.engine import opened, snapshot
from pipelines.database.tables import about_present, audits, photos, products, verdicts
from pipelines.workspace.params import Audit, read_application_params
from pipelines.workspace.places import Workspace
from training.report import figures
from training.stage.errors import BadInput
from training.stage.files import write_whole, writing_whole
from training.stage.pages import render_page
from training.stage.params import Evaluate, read_params

OUTCOMES = ("match", "mismatch", "review", "identical", "refused", "not audited")

THUMBNAIL = 160
"""Pixels a side of a picture on a contact sheet."""


@dataclass(frozen=True)
class ListedClaim:
    """A claim that the report lists."""

    photo_id: str
    claimed_product_id: str
    outcome: str
    probability: float | None
    reason: str
    nearest: tuple[tuple[str, float], ...]

    @property
    def looks_like(self) -> str:
        """The nearest product in words, where one is known."""
        if not self.nearest:
            return ""
        first = self.nearest[0][0]
        return "nearest to it" if first == self.claimed_product_id else f"looks like {first}"


@dataclass(frozen=True)
class Findings:
    """What stands in the database about the claims, under the model that audited last."""

    at: str
    model_id: str
    counts: dict[str, int]
    """Claims by outcome; their sum is the number of claims."""
    categories: dict[str, dict[str, int]]
    """The same by the claimed product's category."""
    mismatches: list[ListedClaim]
    """The least probable first."""
    reviews: list[ListedClaim]
    refused: list[ListedClaim]
    duplicates: list[Duplicates]
    duplicate_distance: int
    rates: list[LiveRates]
    waiting: int
    """Photos that wait for a person."""

    @property
    def warnings(self) -> list[str]:
        """What a person should know first."""
        lines = [line for rates in self.rates for line in rates.warnings]
        if self.counts["not audited"]:
            lines.append(f"{self.counts['not audited']:,} claims are not audited yet: run `photoproof audit`")
        return lines

    def __str__(self) -> str:
        total = sum(self.counts.values())
        counts = ", ".join(f"{count:,} {outcome}" for outcome, count in self.counts.items() if count)
        lines = [f"{total:,} claims under model {self.model_id}: {counts}; {self.waiting:,} wait for a person"]
        for rates in self.rates:
            for name, rate in (("false accept", rates.false_accept), ("false reject", rates.false_reject)):
                share = "no claim yet" if rate.rate is None else f"{rate.rate:.2%} ({rate.low:.2%} to {rate.high:.2%})"
                of = f"{rate.errors} of {rate.claims}; {rate.stated:.2%} stated"
                lines.append(f"{rates.name}: live {name} rate {share}, {of}")
        return "\n".join([*lines, *(f"WARNING: {line}" for line in self.warnings)])


def make_report(workspace: Workspace) -> tuple[Findings, Path]:
    """Gather what the database says of the claims and write reports/audit/. Raises BadInput where there is nothing."""
    audit, folder = read_application_params(workspace.params).audit, workspace.reports / "audit"
    with opened(workspace.database_url) as engine:
        findings = gather_findings(engine, audit, read_params(workspace.params).evaluate)
        page = write_report(engine, findings, folder, shown=audit.shown, confidence=audit.confidence)
    return findings, page


def gather_findings(engine: Engine, audit: Audit, evaluate: Evaluate) -> Findings:
    """Gather the findings. Raises BadInput where nothing has been audited."""
    with snapshot(engine) as connection:
        newest = sa.select(audits.c.model_id).order_by(audits.c.model_id == "", audits.c.at.desc()).limit(1)
        model_id = connection.scalar(newest)
        if model_id is None:
            raise BadInput("nothing has been audited yet: run `photoproof audit`")
        outcome, source = _outcomes(model_id)
        grouped = sa.select(products.c.category, outcome, sa.func.count()).select_from(source)
        categories: dict[str, dict[str, int]] = {}
        for category, name, count in connection.execute(grouped.group_by(products.c.category, outcome)):
            categories.setdefault(category or "(none)", dict.fromkeys(OUTCOMES, 0))[name] += count
        duplicates = find_duplicates(connection, audit.duplicate_distance)
        listed = {name: _list_claims(connection, model_id, name) for name in ("mismatch", "review", "refused")}
    return Findings(
        at=datetime.now().astimezone().isoformat(timespec="seconds"),
        model_id=model_id or "none",
        counts={name: sum(counts[name] for counts in categories.values()) for name in OUTCOMES},
        categories=dict(sorted(categories.items())),
        mismatches=listed["mismatch"],
        reviews=listed["review"],
        refused=listed["refused"],
        duplicates=duplicates,
        duplicate_distance=audit.duplicate_distance,
        rates=measure_live_rates(engine, evaluate.false_accept_rate, evaluate.false_reject_rate, audit.confidence),
        waiting=sum(1 for _ in find_waiting(engine)),
    )


def write_report(engine: Engine, findings: Findings, folder: Path, shown: int, confidence: float) -> Path:
    """Write index.html, audit.json and the contact sheets, each by rename; the page's path.

    `shown` pairs at most are on each sheet; 0: all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limit = shown or None
    with snapshot(engine) as connection:
        sheets = [
            _sheet(folder, name, title, cards, total)
            for name, title, cards, total in (
                ("mismatches", "Mismatches", _pairs(connection, findings.mismatches[:limit]), len(findings.mismatches)),
                ("reviews", "Reviews", _pairs(connection, findings.reviews[:limit]), len(findings.reviews)),
                ("duplicates", "One picture, several claims", *_copies(connection, findings.duplicates, limit)),
            )
            if total
        ]
    text = render_page(
        Path(__file__).with_name("audit.html.jinja"),
        findings=findings,
        outcomes=OUTCOMES,
        sheets=sheets,
        limit=limit,
        confidence=confidence,
        pct=_percent,
    )
    write_whole(folder / "audit.json", findings_as_json(findings) + "\n")
    write_whole(folder / "index.html", text)
    return folder / "index.html"


def findings_as_json(findings: Findings) -> str:
    """The findings, every row of them, for programs."""
    return json.dumps(dataclasses.asdict(findings) | {"warnings": findings.warnings}, indent=1, ensure_ascii=False)


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _outcomes(model_id: str) -> tuple[sa.ColumnElement[str], sa.FromClause]:
    """Each claim's outcome under a model, and the join of photos, products, verdicts and audits that it is of."""
    of_model = about_present(verdicts) & (verdicts.c.model_id == model_id)
    has_none = verdicts.c.verdict_id.is_(None)
    of_photo = about_present(audits) & (
        (audits.c.verdict_id == verdicts.c.verdict_id) | (has_none & still_holds(model_id))
    )
    source = (
        photos.join(products, photos.c.claimed_product_id == products.c.product_id)
        .outerjoin(verdicts, of_model)
        .outerjoin(audits, of_photo)
    )
    return sa.func.coalesce(verdicts.c.outcome, audits.c.state, "not audited"), source


def _list_claims(connection: Connection, model_id: str, name: str) -> list[ListedClaim]:
    outcome, source = _outcomes(model_id)
    reason = sa.func.coalesce(audits.c.reason, verdicts.c.reason)
    columns = (photos.c.photo_id, photos.c.claimed_product_id, verdicts.c.probability, reason, audits.c.nearest)
    claims = sa.select(*columns).select_from(source).where(outcome == name)
    rows = connection.execute(claims.order_by(verdicts.c.probability, photos.c.photo_id))
    return [
        ListedClaim(photo_id, product_id, name, probability, why, read_nearest(nearest))
        for photo_id, product_id, probability, why, nearest in rows
    ]


def _pairs(connection: Connection, rows: Iterable[ListedClaim]) -> list[figures.Card]:
    cards = []
    for row in rows:
        original = _picture(connection, products, row.claimed_product_id)
        photo = _picture(connection, photos, row.photo_id)
        note = f"{row.photo_id} · probability {row.probability:.3g}"
        cards.append(figures.Card(original, photo, f"claimed {row.claimed_product_id}", row.looks_like, note, False))
    return cards


def _copies(connection: Connection, duplicates: list[Duplicates], limit: int | None) -> tuple[list[figures.Card], int]:
    """Of each group that claims several products its first photo and the first with another claim."""
    several = [group for group in duplicates if group.products > 1]
    cards = []
    for group in several[:limit]:
        other = next(place for place, claim in enumerate(group.claims) if claim != group.claims[0])
        left, right = (_picture(connection, photos, group.photo_ids[place]) for place in (0, other))
        size = f"{len(group.photo_ids)} photos, {group.products} products"
        note = f"{group.photo_ids[0]} and {group.photo_ids[other]} · {size}"
        cards.append(figures.Card(left, right, group.claims[0], group.claims[other], note, False))
    return cards, len(several)


def _sheet(folder: Path, name: str, title: str, cards: list[figures.Card], total: int) -> dict[str, Any]:
    path = folder / f"{name}.png"
    with writing_whole(path) as part:
        figures.save(figures.contact_sheet(cards), part)
    return {
        "name": name,
        "title": title,
        "shown": len(cards),
        "total": total,
        "base64": base64.b64encode(path.read_bytes()).decode(),
    }


def _picture(connection: Connection, table: sa.Table, key: str) -> np.ndarray:
    """A picture as float32 [THUMBNAIL, THUMBNAIL, 3] in [0, 1], on white; grey where it can't be shown."""
    (column,) = table.primary_key
    image_bytes = connection.scalar(sa.select(table.c.image_bytes).where(column == key))
    canvas = Image.new("RGB", (THUMBNAIL, THUMBNAIL), "white")
    try:
        with Image.open(io.BytesIO(prepare(image_bytes or b"").image_bytes)) as image:
            small = image.convert("RGB")
    except InvalidImage:
        return np.full((THUMBNAIL, THUMBNAIL, 3), 0.8, np.float32)
    scale = THUMBNAIL / max(small.size)
    small = small.resize([max(1, round(side * scale)) for side in small.size], Image.Resampling.BICUBIC)
    canvas.paste(small, ((THUMBNAIL - small.width) // 2, (THUMBNAIL - small.height) // 2))
    return np.asarray(canvas, np.float32) / 255
