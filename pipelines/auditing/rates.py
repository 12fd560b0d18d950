"""Live error rates of each model, from the verdicts that were drawn by hash and decided by people.

As the rates that a team states, a false accept rate is the share of all wrong claims that passed, a false reject rate
the share of all right ones that were turned down. So a review that the same draw took counts among the claims;
reviews that people decided because they were reviews are a biased sample and count nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from scipy.stats import beta
from sqlalchemy.engine import Connection, Engine

from pipelines.database.engine import snapshot
from pipelines.database.tables import about_present, audits, decisions, photos, verdicts


@dataclass(frozen=True)
class Rate:
    """A share with its Clopper-Pearson interval; without claims it is None, from 0 to 1."""

    errors: int
    claims: int
    rate: float | None
    low: float
    high: float
    stated: float
    """What the team asks for."""

    @property
    def outside(self) -> bool:
        """Whether the interval excludes what the team asks for."""
        return not self.low <= self.stated <= self.high


@dataclass(frozen=True)
class LiveRates:
    """How a model's drawn verdicts stand against what people decided."""

    model_id: str
    model_version: int | None
    drawn: int
    decided: int
    known_before: int
    """Drawn photos whose truth was known before the verdict: they may have trained the model, and are left out."""
    false_accept: Rate
    false_reject: Rate

    @property
    def name(self) -> str:
        """The version, where the server said it, and the model."""
        return f"version {self.model_version} ({self.model_id})" if self.model_version else f"model {self.model_id}"

    @property
    def warnings(self) -> list[str]:
        """One line for each rate that is not what the team asks for."""
        lines = []
        for rate, what, worse, better in (
            (
                self.false_accept,
                "false accept",
                "more wrong products pass than you can bear",
                "accept_at could be lower",
            ),
            (self.false_reject, "false reject", "more right products are turned down", "reject_at could be higher"),
        ):
            if rate.outside:
                interval = f"{rate.low:.2%} to {rate.high:.2%}, {'above' if rate.low > rate.stated else 'below'}"
                meaning = worse if rate.low > rate.stated else f"stricter than asked, {better}"
                lines.append(f"{self.name}: the live {what} rate is {interval} the stated {rate.stated:.2%}: {meaning}")
        return lines


def clopper_pearson(errors: int, claims: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a binomial share (Clopper and Pearson, 1934); 0 to 1 where there are no claims."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, errors, claims - errors + 1)) if errors else 0.0
    high = float(beta.ppf(1 - tail, errors + 1, claims - errors)) if errors < claims else 1.0
    return low, high


def measure_live_rates(
    engine: Engine, false_accept_rate: float, false_reject_rate: float, confidence: float = 0.95
) -> list[LiveRates]:
    """The rates of every model that has drawn verdicts, the model of the latest verdict first."""
    with snapshot(engine) as connection:
        return [
            _rates(model_id, rows, false_accept_rate, false_reject_rate, confidence)
            for model_id, rows in _drawn(connection).items()
        ]


def _rates(
    model_id: str, rows: Sequence[Mapping[str, Any]], false_accept: float, false_reject: float, confidence: float
) -> LiveRates:
    counts = {(genuine, outcome): 0 for genuine in (True, False) for outcome in ("match", "mismatch", "review")}
    drawn = decided = known_before = 0
    for row in rows:
        genuine = _genuine(row)
        if genuine is not None:
            decided += 1
            counts[genuine, row["outcome"]] += 1
        elif not row["present"]:
            continue  # nobody can decide any more what the photo was then
        elif row["label_source"] is not None or row["decided_at"] is not None:
            known_before += 1
        drawn += 1

    def rate(genuine: bool, outcome: str, stated: float) -> Rate:
        claims = sum(count for (is_genuine, _), count in counts.items() if is_genuine == genuine)
        errors = counts[genuine, outcome]
        low, high = clopper_pearson(errors, claims, confidence)
        return Rate(errors, claims, errors / claims if claims else None, low, high, stated)

    version = next((row["model_version"] for row in rows if row["model_version"]), None)
    accepts, rejects = rate(False, "match", false_accept), rate(True, "mismatch", false_reject)
    return LiveRates(model_id, version, drawn, decided, known_before, accepts, rejects)


def _genuine(row: Mapping[str, Any]) -> bool | None:
    """Whether a person said, after the verdict, that the claim is right; None where nobody did."""
    claim = row["claimed_product_id"]
    if row["decided_at"] is not None and row["decided_at"] >= row["at"]:
        return row["decided"] == claim
    # Another application may have written the truth itself.
    if row["decided_at"] is None and row["label_source"] == "person" and row["updated_at"] > row["at"]:
        return row["truth"] == claim
    return None


def _drawn(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Model -> its drawn verdicts, each with the last decision that says something of its claim and its bytes."""
    made = decisions.alias()
    last = (
        sa.select(sa.func.max(made.c.decision_id))
        .where(made.c.photo_id == verdicts.c.photo_id, made.c.photo_sha256 == verdicts.c.photo_sha256)
        .where(made.c.product_id.is_not(None) | (made.c.claimed_product_id == verdicts.c.claimed_product_id))
        .correlate(verdicts)
        .scalar_subquery()
    )
    same_bytes = (photos.c.photo_id == verdicts.c.photo_id) & (photos.c.sha256 == verdicts.c.photo_sha256)
    drawn = (
        sa.select(
            verdicts.c.model_id,
            verdicts.c.model_version,
            verdicts.c.claimed_product_id,
            verdicts.c.outcome,
            verdicts.c.at,
            photos.c.product_id.label("truth"),
            photos.c.label_source,
            photos.c.updated_at,
            sa.func.coalesce(about_present(verdicts), sa.false()).label("present"),
            decisions.c.product_id.label("decided"),
            decisions.c.at.label("decided_at"),
        )
        .join(audits, audits.c.verdict_id == verdicts.c.verdict_id)
        .outerjoin(photos, same_bytes)
        .outerjoin(decisions, decisions.c.decision_id == last)
        .where(audits.c.sampled)
        .order_by(verdicts.c.verdict_id.desc())
    )
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(drawn).mappings():
        by_model.setdefault(row["model_id"], []).append(dict(row))
    return by_model
