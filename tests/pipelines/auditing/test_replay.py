"""Replaying verdicts: the same bytes under the same version, from the product database or from files."""

import hashlib
import json

import numpy as np
import pytest
import sqlalchemy as sa

from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import prepare
from photoproof.verdict import decide
from pipelines.auditing.replay import read_verdict, read_verdict_row, replay_verdict
from pipelines.commands.replay import replay as command
from pipelines.database import tables
from pipelines.database.engine import opened, transaction
from pipelines.registry import versions
from pipelines.workspace.places import Workspace
from training.saved_model import loading
from training.stage.errors import BadInput


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace


def sha256(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()


@pytest.fixture
def pictures(picture):
    return picture(1), picture(2)


@pytest.fixture
def verdict(register, workspace, pictures) -> dict:
    """What version 1 says of the two pictures, as the client would."""
    register("m-one")
    original, photo = pictures
    assert copy_reason(prepare(original), prepare(photo)) is None
    with loading.load(workspace.models / "saved_model") as model:
        outputs = model.run(
            "verify", {"original_bytes": np.array([original], object), "photo_bytes": np.array([photo], object)}
        )
    scores = {
        name: float(outputs[name][0]) for name in ("similarity", "distance", "probability", "accept_at", "reject_at")
    }
    outcome, reason = decide(scores["probability"], scores["accept_at"], scores["reject_at"])
    return scores | {
        "outcome": outcome,
        "reason": reason,
        "model_name": versions.MODEL,
        "model_version": 1,
        "model_id": "m-one",
        "original_sha256": sha256(original),
        "photo_sha256": sha256(photo),
    }


@pytest.fixture
def kept(workspace, pictures):
    """The product database keeps both pictures, as a product's original and as a photo that claims it."""
    original, photo = pictures
    with opened(workspace.database_url) as engine:
        with transaction(engine) as connection:
            product = {"product_id": "p", "name": "P", "image_bytes": original, "sha256": sha256(original)}
            connection.execute(sa.insert(tables.products).values(product))
            row = {"photo_id": "p-1", "claimed_product_id": "p", "image_bytes": photo, "sha256": sha256(photo)}
            connection.execute(sa.insert(tables.photos).values(row))
        yield engine


def test_the_same_bytes_under_the_same_version_give_the_same_score(workspace, verdict, kept):
    replayed = replay_verdict(workspace, verdict)
    assert (replayed.same, replayed.version, replayed.notes) == (True, 1, ())
    assert replayed.provenance["data_version"] == "d1"
    assert "same score: similarity" in str(replayed)


def test_what_differs_is_named_with_both_numbers(workspace, verdict, kept):
    replayed = replay_verdict(workspace, verdict | {"probability": verdict["probability"] - 0.01})
    assert replayed.same is False
    assert [note.split()[0] for note in replayed.notes] == ["probability"]


def test_where_the_bytes_are_not_kept_it_says_so(workspace, verdict):
    replayed = replay_verdict(workspace, verdict)
    assert replayed.same is None
    assert "is not in the product database" in replayed.notes[0]


def test_files_stand_in_for_what_the_database_does_not_keep(workspace, verdict, pictures, tmp_path):
    files = tmp_path / "original.jpg", tmp_path / "photo.jpg"
    for file, picture in zip(files, pictures, strict=True):
        file.write_bytes(picture)
    assert replay_verdict(workspace, verdict, *files).same
    with pytest.raises(BadInput, match="is not the picture of the verdict"):
        replay_verdict(workspace, verdict, files[1], files[0])


def test_a_model_that_the_registry_does_not_know_is_not_found(workspace, verdict, kept):
    with pytest.raises(versions.VersionNotFound, match=r"no version of product-encoder is model gone; .* 1 \(m-one\)"):
        replay_verdict(workspace, verdict | {"model_id": "gone"})


def test_an_identical_verdict_needs_no_model(workspace, verdict, kept, pictures):
    same = {"outcome": "identical", "model_id": None, "photo_sha256": sha256(pictures[0])}
    replayed = replay_verdict(workspace, {**dict.fromkeys(verdict), "original_sha256": sha256(pictures[0]), **same})
    assert (replayed.same, replayed.version) == (True, None)


def test_a_row_of_the_verdicts_table_can_be_replayed(workspace, verdict, kept):
    row = verdict | {"photo_id": "p-1", "claimed_product_id": "p"}
    with transaction(kept) as connection:
        connection.execute(sa.insert(tables.verdicts).values(**row))
    assert replay_verdict(workspace, read_verdict_row(workspace, 1)).same


def test_a_file_that_is_not_a_verdict_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"outcome": "match"}))
    with pytest.raises(BadInput, match="is not a verdict: it has no model_id, original_sha256, photo_sha256"):
        read_verdict(tmp_path / "x.json")


def test_the_command_ends_with_0_for_the_same_score(workspace, verdict, kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))
    (tmp_path / "verdict.json").write_text(json.dumps(verdict))
    assert command(tmp_path / "verdict.json", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["same"] is True
