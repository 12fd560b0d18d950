"""Live error rates: from drawn verdicts that people decided, with exact intervals, and nothing else."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from scipy.stats import binom
from sqlalchemy.engine import Engine

from pipelines.auditing.labels import PhotoDecision, label_photos
from pipelines.auditing.rates import LiveRates, clopper_pearson, measure_live_rates
from pipelines.database.engine import transaction
from pipelines.database.tables import audits, photos, products, verdicts

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def add_verdict(engine: Engine, photo_id: str, outcome: str, sampled: bool = True, truth: str | None = None) -> None:
    """A photo that claims p and has a verdict of model m, since yesterday."""
    photo = {"photo_id": photo_id, "claimed_product_id": "p", "image_bytes": b"x", "sha256": "x"}
    if truth:
        photo |= {"product_id": truth, "label_source": "import"}
    photo["updated_at"] = LONG_AGO - timedelta(hours=1)
    with transaction(engine) as connection:
        connection.execute(sa.insert(photos).values(photo))
    add_verdict_of(engine, photo_id, "p", "x", outcome, LONG_AGO, sampled)


def add_verdict_of(
    engine: Engine, photo_id: str, claim: str, sha256: str, outcome: str, at: datetime, sampled: bool = True
) -> None:
    """A verdict of model m."""
    both = {"photo_id": photo_id, "claimed_product_id": claim, "model_id": "m", "photo_sha256": sha256}
    both |= {"original_sha256": "o", "at": at}
    with transaction(engine) as connection:
        adding = sa.insert(verdicts).values(both | {"outcome": outcome, "model_version": 3})
        verdict_id = connection.scalar(adding.returning(verdicts.c.verdict_id))
        more = {"state": "verified", "sampled": sampled, "verdict_id": verdict_id}
        connection.execute(sa.insert(audits).values(both | more))


@pytest.fixture
def catalogued(engine: Engine) -> Engine:
    with transaction(engine) as connection:
        rows = [{"product_id": name, "name": name, "image_bytes": b"o", "sha256": "o"} for name in ("p", "q")]
        connection.execute(sa.insert(products), rows)
    return engine


def rates(engine: Engine, **stated) -> LiveRates:
    (rates_of_model,) = measure_live_rates(engine, **{"false_accept_rate": 0.01, "false_reject_rate": 0.01} | stated)
    return rates_of_model


def test_errors_are_counted_among_all_wrong_and_all_right_claims(catalogued):
    decided = []
    for outcome, right, wrong in (("match", 6, 1), ("mismatch", 2, 3), ("review", 1, 4)):
        for number in range(right + wrong):
            add_verdict(catalogued, f"{outcome}-{number}", outcome)
            truth = "p" if number < right else "q" if number % 2 else None
            decided.append(PhotoDecision(f"{outcome}-{number}", truth))
    label_photos(catalogued, decided)
    measured = rates(catalogued)
    assert (measured.drawn, measured.decided, measured.model_version) == (17, 17, 3)
    assert (measured.false_accept.errors, measured.false_accept.claims) == (1, 8)
    assert (measured.false_reject.errors, measured.false_reject.claims) == (2, 9)


def test_decisions_on_verdicts_that_were_not_drawn_change_nothing(catalogued):
    add_verdict(catalogued, "drawn", "match")
    label_photos(catalogued, [PhotoDecision("drawn", "p")])
    before = rates(catalogued)
    for number in range(20):
        add_verdict(catalogued, f"review-{number}", "review", sampled=False)
        add_verdict(catalogued, f"match-{number}", "match", sampled=False)
    label_photos(
        catalogued,
        [PhotoDecision(f"{outcome}-{number}", None) for outcome in ("review", "match") for number in range(20)],
    )
    assert rates(catalogued) == before


def test_a_truth_from_before_the_verdict_may_have_trained_and_is_left_out(catalogued):
    add_verdict(catalogued, "imported", "mismatch", truth="p")
    measured = rates(catalogued)
    assert (measured.decided, measured.known_before, measured.false_reject.claims) == (0, 1, 0)


def test_a_truth_that_another_application_writes_counts(catalogued):
    add_verdict(catalogued, "a", "match")
    with transaction(catalogued) as connection:
        connection.execute(sa.update(photos).values(product_id="q", label_source="person"))
    assert rates(catalogued).false_accept.errors == 1


def test_a_second_decision_replaces_the_first(catalogued):
    add_verdict(catalogued, "a", "match")
    label_photos(catalogued, [PhotoDecision("a", None)])
    label_photos(catalogued, [PhotoDecision("a", "p")])
    measured = rates(catalogued)
    assert (measured.false_accept.claims, measured.false_reject.claims) == (0, 1)


@pytest.mark.parametrize(("claim", "sha256"), [("q", "x"), ("q", "y"), ("p", "y")])
def test_a_decision_is_about_the_claim_and_the_bytes_that_it_was_made_for(catalogued, claim, sha256):
    add_verdict(catalogued, "a", "match")
    label_photos(catalogued, [PhotoDecision("a", None)])
    before = rates(catalogued)
    assert (before.false_accept.errors, before.false_accept.claims) == (1, 1)
    with transaction(catalogued) as connection:
        now = {"claimed_product_id": claim, "sha256": sha256}
        connection.execute(sa.update(photos).values(now))
    add_verdict_of(catalogued, "a", claim, sha256, "match", datetime.now(UTC))
    measured = rates(catalogued)
    assert (measured.drawn, measured.decided, measured.false_accept) == (2, 1, before.false_accept)
    label_photos(catalogued, [PhotoDecision("a", None)])
    measured = rates(catalogued)
    assert (measured.drawn, measured.decided, measured.false_accept.errors, measured.false_accept.claims) == (
        2,
        2,
        2,
        2,
    )


def test_a_truth_of_new_bytes_says_nothing_of_a_verdict_about_the_old_ones(catalogued):
    add_verdict(catalogued, "a", "match")
    label_photos(catalogued, [PhotoDecision("a", "p")])
    before = rates(catalogued)
    with transaction(catalogued) as connection:
        now = {"claimed_product_id": "q", "sha256": "y", "product_id": None, "label_source": None}
        connection.execute(sa.update(photos).values(now))
    add_verdict_of(catalogued, "a", "q", "y", "match", datetime.now(UTC))
    label_photos(catalogued, [PhotoDecision("a", "q")])
    measured = rates(catalogued)
    assert (measured.decided, measured.false_accept.claims, measured.false_reject.claims) == (2, 0, 2)
    assert before.false_reject.claims == 1


def test_a_drawn_verdict_on_what_a_photo_no_longer_is_can_not_be_decided_and_is_not_counted(catalogued):
    add_verdict(catalogued, "a", "match")
    with transaction(catalogued) as connection:
        connection.execute(sa.update(photos).values(sha256="y", product_id="q", label_source="person"))
    measured = rates(catalogued)
    assert (measured.drawn, measured.decided, measured.known_before) == (0, 0, 0)


def test_a_stated_rate_outside_the_interval_is_a_warning(catalogued):
    for number in range(10):
        add_verdict(catalogued, f"a-{number}", "match")
    label_photos(catalogued, [PhotoDecision(f"a-{number}", "q") for number in range(10)])
    assert [line.split(":")[1] for line in rates(catalogued).warnings] == [
        " the live false accept rate is 69.15% to 100.00%, above the stated 1.00%"
    ]
    assert rates(catalogued, false_accept_rate=0.99).warnings == []


def test_without_decisions_nothing_is_stated_and_nothing_warned_of(catalogued):
    add_verdict(catalogued, "a", "match")
    measured = rates(catalogued)
    assert (measured.false_accept.rate, measured.false_accept.low, measured.false_accept.high) == (None, 0.0, 1.0)
    assert measured.warnings == []


@pytest.mark.parametrize("share", [0.005, 0.1, 0.5])
def test_the_interval_holds_the_true_rate_at_least_as_often_as_it_says(share):
    claims = 60
    errors = np.arange(claims + 1)
    within = [low <= share <= high for low, high in (clopper_pearson(count, claims, 0.95) for count in errors.tolist())]
    assert binom.pmf(errors, claims, share)[within].sum() >= 0.95
