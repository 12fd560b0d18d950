"""Shadow: which claims are asked, and the report on where stable and canary differ."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from photoproof import Verdict
from photoproof.verdict import Outcome
from pipelines import database, registry
from pipelines.shadow import Asked, Shadow, claims, shadow, write_report
from pipelines.workspace import Settings


def put_claims(workspace, picture, count: int, at: datetime | None = None) -> None:
    engine = database.connect(workspace.database_url)
    with database.transaction(engine) as connection:
        product = {"product_id": "p", "name": "P", "image_bytes": picture(1), "sha256": "s"}
        connection.execute(sa.insert(database.products).values(product))
        for number in range(count):
            photo = picture(number + 2)
            row = {"photo_id": f"p-{number}", "claimed_product_id": "p", "image_bytes": photo}
            row |= {"sha256": hashlib.sha256(photo).hexdigest(), "updated_at": at or datetime.now(UTC)}
            connection.execute(sa.insert(database.photos).values(row))
    engine.dispose()


def verdict(outcome: Outcome, probability: float, model_id: str) -> Verdict:
    scores = {"similarity": 0.5, "distance": 1.0, "probability": probability, "accept_at": 0.9, "reject_at": 0.5}
    names = {"model_name": "product-encoder", "model_version": 1, "original_sha256": "", "photo_sha256": ""}
    return Verdict(outcome=outcome, **scores, **names, model_id=model_id, reason=f"probability {probability}")


@pytest.fixture
def found(tmp_path) -> Shadow:
    same = Asked("a", "p", verdict("match", 0.95, "m-one"), verdict("match", 0.96, "m-two"), ("", ""))
    near = Asked("b", "p", verdict("match", 0.91, "m-one"), verdict("review", 0.89, "m-two"), ("", ""))
    far = Asked("c", "p", verdict("match", 0.99, "m-one"), verdict("mismatch", 0.01, "m-two"), ("", ""))
    return Shadow((same, near, far), tmp_path / "shadow" / "index.html")


def test_a_sample_of_the_days_claims_is_asked_and_always_the_same(workspace, picture):
    put_claims(workspace, picture, 6)
    chosen = [one.photo_id for one in claims(workspace, 3, hours=24)]
    assert len(set(chosen)) == 3
    assert chosen == [one.photo_id for one in claims(workspace, 3, hours=24)]


def test_older_claims_are_not_asked(workspace, picture):
    put_claims(workspace, picture, 2, datetime.now(UTC) - timedelta(hours=30))
    assert claims(workspace, 10, hours=24) == []


def test_the_report_shows_those_that_differ_the_largest_change_first(found):
    write_report(found)
    page = found.report.read_text()
    assert "3 claims, 2 with other verdicts. stable is model m-one, canary is model m-two." in page
    assert page.index("photo c") < page.index("photo b")
    assert "photo a" not in page


def test_every_claim_is_in_the_json(found):
    write_report(found)
    kept = json.loads((found.report.parent / "shadow.json").read_text())
    assert [one["differs"] for one in kept["claims"]] == [False, True, True]
    assert kept["claims"][1]["canary"]["outcome"] == "review"


def test_a_picture_without_a_verdict_differs_from_one_with(found):
    asked = dataclasses.replace(found.asked[0], canary="photo: the model can't decode it")
    assert asked.differs


@pytest.mark.slow
def test_both_labels_of_a_real_server_are_asked(fleet, quietly, picture, monkeypatch, ask_served):
    workspace, server, _ = fleet
    registry.promote(workspace, 2, "challenger")
    quietly(workspace)
    put_claims(workspace, picture, 3)
    monkeypatch.setenv("PHOTOPROOF_SERVER", server.grpc)
    assert Settings().server == server.grpc
    found = shadow(workspace, sample=2)
    assert len(found.asked) == 2 and not found.differing
    assert str(found).startswith("2 claims, 0 with other verdicts (stable is model m-one, canary is model m-two)")
