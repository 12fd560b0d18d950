"""People's decisions become truths; a model's verdict never does."""

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from pipelines.auditing.labels import PhotoDecision, find_waiting, label_photos, read_decisions
from pipelines.data.ingest import ingest
from pipelines.database.engine import transaction
from pipelines.database.tables import audits, decisions, photos, verdicts
from training.dataset.manifest import read_manifest
from training.stage.errors import BadInput


def truths(catalogue) -> dict[str, tuple[str | None, str | None]]:
    return {row["photo_id"]: (row["product_id"], row["label_source"]) for row in catalogue.rows(photos)}


@pytest.fixture
def asked(catalogue):
    """Three claims that nobody has decided."""
    for name in ("a", "b", "c"):
        catalogue.add_photo(name, "p1", catalogue.photo(1, ord(name) - 96))
    return catalogue


def test_a_decision_is_the_truth_that_the_next_ingest_uses_and_the_manifest_says_whose(asked, tmp_path):
    label_photos(asked.engine, [PhotoDecision("a", "p2")], who="ada")
    ingest(asked.engine, tmp_path / "data", progress=False)
    rows = read_manifest(tmp_path / "data" / "manifest.parquet").query("role == 'photo'")
    assert rows[["picture_id", "product_id", "label_source"]].values.tolist() == [["a", "p2", "person"]]
    (kept,) = asked.rows(decisions)
    assert (kept["photo_id"], kept["product_id"], kept["claimed_product_id"], kept["who"]) == ("a", "p2", "p1", "ada")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_models_verdict_never_becomes_a_training_label(claimed, tmp_path, share):
    claimed.add_photo("known", "p1", claimed.photo(1, 8), product_id="p1", label_source="import")
    ingest(claimed.engine, tmp_path / "data", progress=False)
    before = read_manifest(tmp_path / "data" / "manifest.parquet")
    kept = truths(claimed)
    claimed.audit(sample_share=share)
    ingest(claimed.engine, tmp_path / "data", progress=False)
    assert truths(claimed) == kept
    assert read_manifest(tmp_path / "data" / "manifest.parquet").equals(before)
    assert len(before.query("role == 'photo'")) == 1


def test_wrong_gives_no_truth_and_takes_back_one_that_says_the_claim(asked):
    asked.add_photo("imported", "p1", asked.photo(1, 7), product_id="p1", label_source="import")
    asked.add_photo("other", "p1", asked.photo(1, 8), product_id="p3", label_source="import")
    label_photos(asked.engine, [PhotoDecision(name, None) for name in ("a", "imported", "other")])
    after = truths(asked)
    assert after["a"] == after["imported"] == (None, None)
    assert after["other"] == ("p3", "import")


@pytest.mark.parametrize(
    ("decision", "says"),
    [
        (PhotoDecision("nobody", "p1"), "no photo 'nobody'"),
        (PhotoDecision("b", "p77", "x.csv, line 3: "), r"x\.csv, line 3: .*no product 'p77'"),
        (PhotoDecision("unclaimed", None), "claims no product"),
    ],
)
def test_a_decision_that_can_not_be_is_refused_with_all_of_its_company(asked, decision, says):
    asked.add_photo("unclaimed", None, asked.photo(2, 1))
    with pytest.raises(BadInput, match=says):
        label_photos(asked.engine, [PhotoDecision("a", "p1"), decision])
    assert truths(asked)["a"] == (None, None)
    assert asked.rows(decisions) == []


def test_many_decisions_come_from_a_csv_file(asked, tmp_path):
    file = tmp_path / "decided.csv"
    file.write_text("photo_id,product_id,remark\na,p1,\nb,,blurred\n")
    assert [(decision.photo_id, decision.product_id) for decision in read_decisions(file)] == [("a", "p1"), ("b", None)]
    label_photos(asked.engine, read_decisions(file))
    assert truths(asked)["a"] == ("p1", "person")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("photo,product\n", "no column photo_id, product_id"),
        ("photo_id,product_id\na,p1\na,p2\n", "line 3: .*twice"),
        ("photo_id,product_id\na,\nb", r"x\.csv, line 3: photo b has no product_id"),
        ("product_id,photo_id\np1,a\np1", r"x\.csv, line 3: there is no photo_id"),
    ],
)
def test_a_csv_file_without_its_columns_or_values_is_one_line(tmp_path, text, says):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(BadInput, match=says):
        read_decisions(tmp_path / "x.csv")


def whys(engine: Engine) -> dict[str, str]:
    return {photo.photo_id: photo.why for photo in find_waiting(engine)}


def test_reviews_copies_and_drawn_verdicts_wait_until_a_person_decides(claimed):
    claimed.add_photo("copy", "p1", claimed.original(1))
    claimed.audit(sample_share=1.0)
    before = whys(claimed.engine)
    assert len(before) == 41 and before["copy"] == "identical"
    assert set(before.values()) == {"identical", "sample"}
    label_photos(claimed.engine, [PhotoDecision("copy", None), PhotoDecision("photo-1-1", "p1")])
    assert set(before) - set(whys(claimed.engine)) == {"copy", "photo-1-1"}


@pytest.mark.parametrize(
    "change", [{"claimed_product_id": "p6"}, {"image_bytes": "another"}], ids=["another claim", "other bytes"]
)
def test_a_decided_photo_waits_again_when_its_claim_or_its_bytes_change(catalogue, change):
    catalogue.add_photo("photo-18", "p1", catalogue.photo(1, 1))
    catalogue.audit(sample_share=1.0)
    label_photos(catalogue.engine, [PhotoDecision("photo-18", None)])
    assert whys(catalogue.engine) == {}
    before = catalogue.rows(photos)[0]
    now = change | ({"image_bytes": catalogue.photo(1, 2)} if "image_bytes" in change else {})
    catalogue.change_photo("photo-18", **now)
    assert whys(catalogue.engine) == {}, "nothing of it is audited yet"
    catalogue.audit(sample_share=1.0)
    (waits,) = find_waiting(catalogue.engine)
    assert waits.claimed_product_id == catalogue.rows(photos)[0]["claimed_product_id"]
    label_photos(catalogue.engine, [PhotoDecision("photo-18", None)])
    assert whys(catalogue.engine) == {}
    catalogue.change_photo("photo-18", **{name: before[name] for name in change})
    assert whys(catalogue.engine) == {}, "what it is again has been decided"


def test_a_decided_photo_does_not_wait_again_for_the_next_model(catalogue):
    catalogue.add_photo("photo-18", "p1", catalogue.photo(1, 1))
    catalogue.audit(sample_share=1.0)
    label_photos(catalogue.engine, [PhotoDecision("photo-18", None)])
    with transaction(catalogue.engine) as connection:  # the first verdict is as another model's
        for table in (audits, verdicts):
            connection.execute(sa.update(table).values(model_id="other"))
    catalogue.audit(sample_share=1.0)
    assert len(catalogue.rows(audits)) == 2
    assert whys(catalogue.engine) == {}


def test_without_a_draw_no_match_and_no_mismatch_waits(claimed):
    claimed.audit(sample_share=0.0)
    assert not any(row["sampled"] for row in claimed.rows(audits))
    assert set(whys(claimed.engine).values()) <= {"review"}


def test_a_drawn_photo_does_not_show_what_the_model_said_a_review_neither(claimed):
    claimed.audit(sample_share=1.0)
    assert any(row["outcome"] == "review" for row in claimed.rows(verdicts))
    assert any(row["nearest"] for row in claimed.rows(audits))
    shown = {(photo.why, photo.looks_like) for photo in find_waiting(claimed.engine)}
    assert shown == {("sample", ())}
    assert {row["to_person"] for row in claimed.rows(audits)} == {"sample"}


def test_a_review_that_another_models_draw_took_is_asked_as_a_draw(claimed):
    claimed.audit(sample_share=1.0)
    with transaction(claimed.engine) as connection:
        for table in (audits, verdicts):
            connection.execute(sa.update(table).values(model_id="other"))
    claimed.audit(sample_share=0.0)
    assert any(row["to_person"] == "review" for row in claimed.rows(audits))
    assert {(photo.why, photo.looks_like) for photo in find_waiting(claimed.engine)} == {("sample", ())}
