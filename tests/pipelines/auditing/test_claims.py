"""The audit of claims on a real model server: one outcome each, whatever the pictures, the model or the database."""

import dataclasses
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from photoproof import StaleEmbedding, Verifier
from photoproof.pictures.prepare import prepare
from pipelines.auditing.claim_outcome import Claim, verify_claim_or_error
from pipelines.auditing.originals import Original
from pipelines.auditing.replay import NEEDED
from pipelines.auditing.report import gather_findings
from pipelines.database.engine import transaction
from pipelines.database.tables import audits, embeddings, photos, products, verdicts
from pipelines.workspace.lock import WorkspaceBusy, exclusive
from pipelines.workspace.params import Audit
from training.stage.params import Evaluate


def saved(picture: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, form)
    return out.getvalue()


def test_every_claim_has_one_verdict_with_all_that_a_replay_needs(claimed):
    audited = claimed.audit()
    assert sum(audited.outcomes.values()) == 40
    rows = claimed.rows(verdicts)
    assert len({row["photo_id"] for row in rows}) == len(rows) == 40
    assert all(row[name] for row in rows for name in (*NEEDED, "model_name", "model_version", "reason"))


def test_a_verdict_is_what_the_client_says_of_the_two_pictures(claimed):
    claimed.audit()
    row = next(row for row in claimed.rows(verdicts) if row["photo_id"] == "photo-3-2")
    with Verifier(claimed.server) as verifier:
        verdict = verifier.verify(claimed.original(4), claimed.photo(3, 2))
    assert (row["outcome"], row["model_id"]) == (verdict.outcome, verdict.model_id)
    assert (row["original_sha256"], row["photo_sha256"]) == (verdict.original_sha256, verdict.photo_sha256)
    assert row["probability"] == pytest.approx(verdict.probability, abs=1e-4)


def test_an_audit_with_nothing_new_asks_nothing(claimed):
    claimed.audit()
    before = claimed.rows(verdicts)
    assert claimed.audit().outcomes == {}
    assert claimed.rows(verdicts) == before


def test_photos_without_a_claim_are_not_audited(catalogue):
    catalogue.add_photo("known", None, catalogue.photo(1, 1), product_id="p1", label_source="import")
    assert catalogue.audit().outcomes == {}
    assert catalogue.rows(audits) == []


def test_a_copy_of_the_original_goes_to_a_person_once_for_all_models(catalogue, copy_of):
    catalogue.add_photo("same", "p1", catalogue.original(1))
    catalogue.add_photo("resaved", "p2", copy_of(catalogue.original(2)))
    assert catalogue.audit().outcomes == {"identical": 2}
    with transaction(catalogue.engine) as connection:  # as under another model: no verdict of this one is there
        assert connection.execute(sa.delete(verdicts).where(verdicts.c.model_id.is_not(None))).rowcount == 0
    assert catalogue.audit().outcomes == {}
    assert [(row["outcome"], row["model_id"]) for row in catalogue.rows(verdicts)] == [("identical", None)] * 2
    assert {row["to_person"] for row in catalogue.rows(audits)} == {"identical"}


def test_broken_pictures_are_all_accounted_for(claimed):
    good = claimed.photo(1, 5)
    huge = saved(Image.new("RGB", (60, 60)))
    broken = {
        "empty": b"",
        "text": b"not a picture at all",
        "truncated": good[: len(good) // 2],
        "header only": good[:20],
        "tiny": saved(Image.new("RGB", (8, 8))),
        "huge": huge[:16] + (60_000).to_bytes(4, "big") * 2 + huge[24:],
        "floats": saved(Image.fromarray(np.zeros((64, 64), np.float32)), "TIFF"),
    }
    for name, image_bytes in broken.items():
        claimed.add_photo(f"broken {name}", "p1", image_bytes)
    claimed.add_photo("another sha256", "p1", good, sha256="0" * 64)
    claimed.add_product("no original", None)
    claimed.add_photo("of no original", "no original", good)
    claimed.add_product("broken original", b"\xff\xd8\xff broken")
    claimed.add_photo("of broken original", "broken original", good)
    audited = claimed.audit()
    assert audited.outcomes["refused"] == len(broken) + 3
    assert sum(audited.outcomes.values()) == len(claimed.rows(photos)) == len(claimed.rows(audits))
    assert len(claimed.rows(verdicts)) + audited.outcomes["refused"] == len(claimed.rows(photos))
    assert claimed.outcome_of("broken text").startswith("refused: photo: ")
    assert "has no original" in claimed.outcome_of("of no original")
    assert claimed.outcome_of("of broken original").startswith("refused: the original of broken original: ")
    assert "is not that of its bytes" in claimed.outcome_of("another sha256")
    assert claimed.audit().outcomes == {}


def test_a_refused_claim_is_audited_again_when_its_cause_is_gone(catalogue):
    catalogue.add_product("new", None)
    catalogue.add_photo("early", "new", catalogue.photo(1, 1))
    assert catalogue.audit().outcomes == {"refused": 1}
    with transaction(catalogue.engine) as connection:
        row = {"image_bytes": catalogue.original(1), "sha256": hashlib.sha256(catalogue.original(1)).hexdigest()}
        connection.execute(sa.update(products).where(products.c.product_id == "new").values(row))
    assert "refused" not in catalogue.audit().outcomes
    assert [row["state"] for row in catalogue.rows(audits)] == ["verified"]


@pytest.mark.parametrize("change", ["claim", "bytes"])
def test_what_changes_after_its_verdict_is_audited_again_and_reported_by_what_it_is_now(catalogue, change):
    first = {"claimed_product_id": "p1", "image_bytes": catalogue.photo(1, 1)}
    second = first | ({"claimed_product_id": "p6"} if change == "claim" else {"image_bytes": catalogue.photo(6, 1)})
    catalogue.add_photo("photo-17", "p1", catalogue.photo(1, 1))
    catalogue.audit()
    before = gather_findings(catalogue.engine, Audit(), Evaluate()).counts
    catalogue.change_photo("photo-17", **second)
    assert gather_findings(catalogue.engine, Audit(), Evaluate()).counts == dict.fromkeys(before, 0) | {
        "not audited": 1
    }
    assert sum(catalogue.audit().outcomes.values()) == 1
    old, new = catalogue.rows(verdicts)
    names = ("claimed_product_id", "photo_sha256")
    assert [new[name] for name in names] == [catalogue.rows(photos)[0][name] for name in (names[0], "sha256")]
    assert [old[name] for name in names] != [new[name] for name in names]
    assert gather_findings(catalogue.engine, Audit(), Evaluate()).counts == dict.fromkeys(before, 0) | {
        new["outcome"]: 1
    }
    assert {row["verdict_id"] for row in catalogue.rows(audits)} == {old["verdict_id"], new["verdict_id"]}
    catalogue.change_photo("photo-17", **first)
    assert catalogue.audit().outcomes == {}
    assert gather_findings(catalogue.engine, Audit(), Evaluate()).counts == before


def test_a_refusal_and_a_copy_of_before_a_change_are_not_outcomes_of_what_the_photo_is_now(catalogue):
    catalogue.add_photo("broken", "p1", b"not a picture")
    catalogue.add_photo("copy", "p2", catalogue.original(2))
    catalogue.audit()
    for photo_id in ("broken", "copy"):
        catalogue.change_photo(photo_id, claimed_product_id="p3", image_bytes=catalogue.photo(3, 1))
    assert gather_findings(catalogue.engine, Audit(), Evaluate()).counts["not audited"] == 2
    outcomes = catalogue.audit().outcomes
    counts = gather_findings(catalogue.engine, Audit(), Evaluate()).counts
    assert {name: count for name, count in counts.items() if count} == outcomes and sum(outcomes.values()) == 2
    catalogue.change_photo("copy", claimed_product_id="p2", image_bytes=catalogue.original(2))
    assert catalogue.audit().outcomes == {}
    assert gather_findings(catalogue.engine, Audit(), Evaluate()).counts["identical"] == 1
    assert [row["outcome"] for row in catalogue.rows(verdicts)].count("identical") == 1


def test_a_claim_that_was_a_copy_of_an_earlier_original_is_counted_once(catalogue):
    catalogue.add_photo("a", "p1", catalogue.photo(1, 1))

    def original(image_bytes: bytes) -> None:
        row = {"image_bytes": image_bytes, "sha256": hashlib.sha256(image_bytes).hexdigest()}
        with transaction(catalogue.engine) as connection:
            connection.execute(sa.update(products).where(products.c.product_id == "p1").values(row))

    catalogue.audit()
    with transaction(catalogue.engine) as connection:  # as under another model, whose original is the photo
        connection.execute(sa.update(verdicts).values(model_id="other"))
        connection.execute(sa.update(audits).values(model_id="other"))
    original(catalogue.photo(1, 1))
    assert catalogue.audit().outcomes == {"identical": 1}
    with transaction(catalogue.engine) as connection:
        others = audits.c.model_id == "other"
        connection.execute(sa.update(audits).where(others).values(at=datetime.now(UTC) + timedelta(days=1)))
    assert sum(gather_findings(catalogue.engine, Audit(), Evaluate()).counts.values()) == 1


def test_an_embedding_of_another_model_is_never_compared_with(claimed):
    with Verifier(claimed.server) as verifier:
        other = verifier.encode(claimed.original(1)).vector
        right = verifier.verify(claimed.original(5), claimed.photo(5, 0))
        with transaction(claimed.engine) as connection:
            row = {"vector": other.tobytes(), "width": 96, "height": 80, "thumbnail": bytes(3072), "model_id": "other"}
            originals = [{"sha256": product["sha256"]} | row for product in claimed.rows(products)]
            connection.execute(sa.insert(embeddings), originals)
        claimed.audit()
        stale = dataclasses.replace(verifier.encode(claimed.original(5)), model_id="other")
        picture = prepare(claimed.original(5))
        original = Original(picture.sha256, stale, picture, None)
        claim = Claim("photo-5-0", "p5", right.photo_sha256, picture.sha256, claimed.photo(5, 0), original)
        assert isinstance(verify_claim_or_error(verifier, "other", claim, 0.0), StaleEmbedding)
    verdict = next(row for row in claimed.rows(verdicts) if row["photo_id"] == "photo-5-0")
    assert verdict["probability"] == pytest.approx(right.probability, abs=1e-4)
    assert {row["model_id"] for row in claimed.rows(verdicts)} == {right.model_id}


def test_originals_are_encoded_once_and_a_changed_one_anew(catalogue):
    catalogue.audit()
    assert len(catalogue.rows(embeddings)) == 10
    changed = catalogue.photo(1, 3)
    with transaction(catalogue.engine) as connection:
        row = {"image_bytes": changed, "sha256": hashlib.sha256(changed).hexdigest()}
        connection.execute(sa.update(products).where(products.c.product_id == "p1").values(row))
    catalogue.add_photo("late", "p1", catalogue.photo(1, 4))
    catalogue.audit()
    verdict = catalogue.rows(verdicts)[0]
    assert len([row for row in catalogue.rows(embeddings) if row["sha256"] != verdict["photo_sha256"]]) == 11
    assert verdict["original_sha256"] == hashlib.sha256(changed).hexdigest()


def test_a_mismatch_names_the_products_that_it_looks_like(claimed):
    claimed.audit()
    outcomes = {row["photo_id"]: row["outcome"] for row in claimed.rows(verdicts)}
    named = {row["photo_id"]: json.loads(row["nearest"]) for row in claimed.rows(audits) if row["nearest"]}
    assert set(named) == {photo for photo, outcome in outcomes.items() if outcome in ("mismatch", "review")}
    with Verifier(claimed.server) as verifier:
        vectors = np.stack([verifier.encode(claimed.original(product)).vector for product in range(10)])
        photo_id, near = next(iter(named.items()))
        product, shot = map(int, photo_id.split("-")[1:])
        cosines = vectors @ verifier.encode(claimed.photo(product, shot)).vector
    assert [product_id for product_id, _ in near] == [f"p{at}" for at in np.argsort(-cosines)[:3]]
    assert [cosine for _, cosine in near] == pytest.approx(sorted(cosines, reverse=True)[:3], abs=1e-5)


def test_the_same_share_of_verdicts_is_drawn_for_people_each_time(claimed):
    claimed.audit(sample_share=0.5)
    drawn = {row["photo_id"] for row in claimed.rows(audits) if row["sampled"]}
    assert 5 < len(drawn) < 35
    with transaction(claimed.engine) as connection:
        connection.execute(sa.delete(audits))
        connection.execute(sa.delete(verdicts))
    claimed.audit(sample_share=0.5)
    assert {row["photo_id"] for row in claimed.rows(audits) if row["sampled"]} == drawn


def test_an_audit_changes_nothing_in_photos_and_so_no_truth(claimed):
    before = claimed.rows(photos)
    claimed.audit(sample_share=1.0)
    assert claimed.rows(photos) == before


def test_sqlite_takes_one_audit_at_a_time(claimed):
    if claimed.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's workers share the queue")
    lock = Path(f"{claimed.engine.url.database}.audit.lock")
    with exclusive(lock), pytest.raises(WorkspaceBusy, match="another audit"):
        claimed.audit()
