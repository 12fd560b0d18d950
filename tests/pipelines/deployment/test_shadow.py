"""Shadow: which claims are asked, and the report on where stable and canary differ."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import pytest

from photoproof import Verdict
from photoproof.verdict import Outcome
from pipelines.deployment.addresses import known_servers, server_to_ask
from pipelines.deployment.shadow import ComparedClaim, Shadow, draw_claims, shadow, write_report
from pipelines.registry import versions
from pipelines.workspace.settings import Settings


def verdict(outcome: Outcome, probability: float, model_id: str) -> Verdict:
    scores = {"similarity": 0.5, "distance": 1.0, "probability": probability, "accept_at": 0.9, "reject_at": 0.5}
    names = {"model_name": "product-encoder", "model_version": 1, "original_sha256": "", "photo_sha256": ""}
    return Verdict(outcome=outcome, **scores, **names, model_id=model_id, reason=f"probability {probability}")


@pytest.fixture
def result(tmp_path) -> Shadow:
    same = ComparedClaim("a", "p", verdict("match", 0.95, "m-one"), verdict("match", 0.96, "m-two"), ("", ""))
    near = ComparedClaim("b", "p", verdict("match", 0.91, "m-one"), verdict("review", 0.89, "m-two"), ("", ""))
    far = ComparedClaim("c", "p", verdict("match", 0.99, "m-one"), verdict("mismatch", 0.01, "m-two"), ("", ""))
    return Shadow((same, near, far), tmp_path / "shadow" / "index.html")


def test_a_sample_of_the_days_claims_is_asked_and_always_the_same(workspace, put_claims):
    put_claims(workspace, 6)
    chosen = [claim.photo_id for claim in draw_claims(workspace, 3, hours=24)]
    assert len(set(chosen)) == 3
    assert chosen == [claim.photo_id for claim in draw_claims(workspace, 3, hours=24)]


def test_older_claims_are_not_asked(workspace, put_claims):
    put_claims(workspace, 2, datetime.now(UTC) - timedelta(hours=30))
    assert draw_claims(workspace, 10, hours=24) == []


def test_the_report_shows_those_that_differ_the_largest_change_first(result):
    write_report(result)
    page = result.report.read_text()
    assert "3 claims, 2 with other verdicts. stable is model m-one, canary is model m-two." in page
    assert page.index("photo c") < page.index("photo b")
    assert "photo a" not in page


def test_every_claim_is_in_the_json(result):
    write_report(result)
    kept = json.loads((result.report.parent / "shadow.json").read_text())
    assert [claim["differs"] for claim in kept["claims"]] == [False, True, True]
    assert kept["claims"][1]["canary"]["outcome"] == "review"


def test_a_picture_without_a_verdict_differs_from_one_with(result):
    claim = dataclasses.replace(result.claims[0], canary="photo: the model can't decode it")
    assert claim.differs


def test_of_listed_servers_the_first_is_asked_unless_one_is_named(workspace, monkeypatch, ask_served):
    monkeypatch.setenv("PHOTOPROOF_SERVERS", "grpc://a.example:8500, grpc://b.example:8500")
    assert server_to_ask(workspace, Settings()) == "grpc://a.example:8500"
    monkeypatch.setenv("PHOTOPROOF_SERVER", "grpc://balancer.example:8500")
    assert server_to_ask(workspace, Settings()) == "grpc://balancer.example:8500"
    assert known_servers(workspace, Settings()) == ["grpc://a.example:8500", "grpc://b.example:8500"]


@pytest.mark.slow
def test_both_labels_of_a_real_server_are_asked(fleet, quietly, put_claims, monkeypatch, ask_served):
    workspace, server, _ = fleet
    versions.promote(workspace, 2, "challenger")
    quietly(workspace)
    put_claims(workspace, 3)
    monkeypatch.setenv("PHOTOPROOF_SERVER", server.grpc)
    result = shadow(workspace, Settings(), sample=2)
    assert len(result.claims) == 2 and not result.differing
    assert str(result).startswith("2 claims, 0 with other verdicts (stable is model m-one, canary is model m-two)")
