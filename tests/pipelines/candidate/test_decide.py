"""Decisions about versions in a real MLflow registry: reports, tags and aliases."""

import json

import mlflow
import pandas as pd

from pipelines.candidate.decide import decide_on_version, find_kept_decision, report_on_version
from pipelines.registry import versions


def test_a_good_first_version_becomes_the_challenger(register, workspace):
    assert decide_on_version(workspace, register("m-one")).standing == "first"
    assert versions.versions_by_alias(workspace) == {"challenger": 1}
    assert versions.tags_of(workspace, 1)["candidate"] == "first"


def test_a_poor_version_gets_no_alias_and_a_report_with_the_reason(register, workspace):
    assert not decide_on_version(workspace, register("m-one", auc=0.6)).accepted
    assert versions.versions_by_alias(workspace) == {}
    assert "AUC of known products 0.600" in versions.tags_of(workspace, 1)["candidate_reason"]
    assert "**no**" in (workspace.reports / "candidate" / "decision.md").read_text()


def test_a_version_that_decides_less_than_the_champion_does_not_challenge_it(measured, workspace):
    measured("m-one", 0.8)
    versions.promote(workspace, 1)
    decision = decide_on_version(workspace, measured("m-two", 0.6))
    assert [rule.name.split(":")[-1] for rule in decision.rules if not rule.passed] == [
        " lower bound of the difference"
    ]
    assert versions.versions_by_alias(workspace) == {"champion": 1}


def test_a_version_that_decides_more_is_better_and_becomes_the_challenger(measured, workspace):
    measured("m-one", 0.5)
    versions.promote(workspace, 1)
    decision = decide_on_version(workspace, measured("m-two", 0.9))
    assert (decision.standing, decision.champion) == ("better", 1)
    assert versions.versions_by_alias(workspace) == {"champion": 1, "challenger": 2}


def test_an_equal_version_is_as_good_and_newer_and_its_page_shows_both(measured, workspace):
    measured("m-one", 0.8)
    versions.promote(workspace, 1)
    assert decide_on_version(workspace, measured("m-two", 0.8)).standing == "as good and newer"
    page = mlflow.MlflowClient().get_model_version(versions.MODEL, "2").description or ""
    assert "product-encoder version 2: as good and newer" in page and "against champion 1" in page
    assert "| 1 | champion |" in page


def test_what_a_person_wrote_on_a_versions_page_stays(register, workspace):
    registered = register("m-one")
    mlflow.MlflowClient().update_model_version(versions.MODEL, "1", "Do not use before June.")
    decide_on_version(workspace, registered)
    assert mlflow.MlflowClient().get_model_version(versions.MODEL, "1").description == "Do not use before June."


def test_a_version_without_held_out_pairs_is_refused_against_a_champion(register, workspace):
    register("m-one")
    versions.promote(workspace, 1)
    decision = decide_on_version(workspace, register("m-two"))
    assert "held-out pairs not measured (version 1 keeps none to compare)" in str(decision)


def test_a_version_that_does_not_reproduce_its_golden_scores_is_refused(register, workspace):
    def change_score(folder):
        path = folder / "assets.extra" / "golden.json"
        golden = json.loads(path.read_text())
        golden["pairs"][0]["probability"] += 0.01
        path.write_text(json.dumps(golden))

    assert "difference of the golden pairs 0.010 (at most 0.0001)" in str(
        decide_on_version(workspace, register("m-one", change_score))
    )


def test_a_version_that_trained_on_its_held_out_photos_is_refused(measured, workspace):
    measured("m-one", 0.8)
    versions.promote(workspace, 1)
    registered = measured("m-two", 0.9)
    # the one pictures.parquet of the two versions that lists a test photo as trained
    (kept,) = [path for path in workspace.state.rglob("pictures.parquet") if _model_of(path) == registered.model_id]
    pictures = pd.read_parquet(kept)
    held_out = pictures.index[(pictures.role == "photo") & (pictures.split == "test")][0]
    pictures.loc[held_out, "split"] = "train"
    pictures.to_parquet(kept)
    assert "held-out photos that either trained on" in str(decide_on_version(workspace, registered))


def test_the_champion_does_not_challenge_itself(register, workspace):
    registered = register("m-one")
    versions.promote(workspace, 1)
    assert decide_on_version(workspace, registered).accepted
    assert versions.versions_by_alias(workspace) == {"champion": 1}


def _model_of(kept):
    return json.loads((kept.parents[1] / "saved_model/assets.extra/model.json").read_text())["model_id"]


def test_a_decision_holds_until_the_champion_or_the_limits_are_others(register, workspace):
    registered = register("m-one")
    assert find_kept_decision(workspace, registered) is None
    decision = decide_on_version(workspace, registered)
    assert find_kept_decision(workspace, registered) == decision
    versions.promote(workspace, 1)
    assert find_kept_decision(workspace, registered) is None
    decide_on_version(workspace, registered)
    (workspace.root / "params.yaml").write_text("candidate: {min_auc: 0.99}\n")
    assert find_kept_decision(workspace, registered) is None


def test_a_report_changes_nothing_in_mlflow_and_is_not_a_decision(register, workspace):
    registered = register("m-one")
    tags = versions.tags_of(workspace, 1)
    assert report_on_version(workspace, registered).accepted
    assert "product-encoder version 1: first" in (workspace.reports / "candidate" / "decision.md").read_text()
    assert (versions.versions_by_alias(workspace), versions.tags_of(workspace, 1)) == ({}, tags)
    assert find_kept_decision(workspace, registered) is None


def test_a_challenger_that_is_refused_anew_keeps_its_alias_and_the_report_says_so(register, workspace):
    registered = register("m-one")
    decide_on_version(workspace, registered)
    (workspace.root / "params.yaml").write_text("candidate: {min_auc: 0.99}\n")
    assert not decide_on_version(workspace, registered).accepted
    assert versions.versions_by_alias(workspace) == {"challenger": 1}
    assert "keeps the alias `challenger`" in (workspace.reports / "candidate" / "decision.md").read_text()
