import json
import math
import shutil

import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from training.dataset.splits import assign_splits
from training.decision.decision import Decision
from training.evaluate import chosen_pictures, cohort_rows, evaluate, flatten
from training.evaluation.metrics import decisions
from training.stage.errors import BadInput

FIGURES = {"auc", "eer", "tar_at_far_1pct", "tar_at_far_0_1pct", "top1"}


@pytest.fixture
def metrics(evaluated):
    return json.loads((evaluated.root / "reports/evaluation/metrics.json").read_text())


@pytest.fixture
def pairs(evaluated):
    return pq.read_table(evaluated.root / "reports/evaluation/pairs.parquet").to_pandas()


@pytest.fixture
def copied(evaluated, tmp_path):
    """A workspace of its own, to evaluate differently; the models are there, what was evaluated is not."""
    for name in ("data", "models/autoencoder", "reports/validation"):
        shutil.copytree(evaluated.root / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def splits(evaluated, accepted):
    return assign_splits(accepted, evaluated.params.split)


def test_known_new_and_baselines_are_measured_apart(metrics):
    assert {"known", "new", "baselines", "slices", "validation", "calibration", "counts"} == set(metrics)
    assert metrics["known"].keys() >= FIGURES | {"false_accept_rate", "false_reject_rate", "share_decided", "hard"}
    assert metrics["new"].keys() == metrics["known"].keys()
    for baseline in ("array_equal", "perceptual_hash", "raw_pixels", "colour_histogram", "plain_autoencoder"):
        assert metrics["baselines"][baseline]["known"].keys() >= FIGURES
        assert metrics["baselines"][baseline]["new"].keys() >= FIGURES


def test_every_figure_is_a_number(metrics):
    assert all(math.isfinite(value) for value in flatten(metrics).values())


def test_array_equal_knows_no_camera_photo(metrics):
    assert metrics["baselines"]["array_equal"]["known"] | {"hard": None} == {
        "auc": 0.5,
        "eer": 0.5,
        "tar_at_far_1pct": 0.0,
        "tar_at_far_0_1pct": 0.0,
        "top1": 0.0,
        "hard": None,
    }


def test_each_photo_meets_every_original_once(pairs, accepted):
    originals = set(accepted.query("role == 'original'").product_id)
    assert all(set(claims) == originals for _, claims in pairs.groupby("photo_id").claimed_product_id)
    assert not pairs.duplicated(["photo_id", "claimed_product_id"]).any()
    assert (pairs.genuine == (pairs.claimed_product_id == pairs.product_id)).all()


def test_no_pair_is_of_a_photo_that_trained(pairs, evaluated, accepted):
    splits = assign_splits(accepted, evaluated.params.split).query("role == 'photo'").set_index("picture_id")
    assert set(pairs.split) == {"validation", "test"}
    assert (splits.loc[pairs.photo_id, "split"].to_numpy() == pairs.split.to_numpy()).all()
    assert (splits.loc[pairs.photo_id, "known"].to_numpy() == pairs.known.to_numpy()).all()


def test_thresholds_keep_the_teams_rates_on_the_validation_pairs(pairs, evaluated):
    decision = Decision.read(evaluated.root / "models/decision/decision.json")
    validated = pairs.query("split == 'validation'")
    figures = decisions(
        validated.probability.to_numpy(), validated.genuine.to_numpy(), decision.accept_at, decision.reject_at, 0.5
    )
    assert figures["false_accept_rate"] <= decision.false_accept_rate
    assert figures["false_reject_rate"] <= decision.false_reject_rate
    assert decision.reject_at <= decision.accept_at


def test_probability_never_falls_where_the_log_ratio_rises(pairs):
    ordered = pairs.sort_values("log_ratio").probability.to_numpy()
    assert np.all(np.diff(ordered) >= -1e-6)


def test_golden_pairs_are_test_pairs_of_both_kinds_with_their_scores(evaluated, pairs):
    golden = json.loads((evaluated.root / "models/decision/golden.json").read_text())["pairs"]
    assert len(golden) == evaluated.params.evaluate.golden_pairs
    assert {pair["genuine"] for pair in golden} == {True, False}
    measured = pairs.query("split == 'test'").set_index(["photo_id", "claimed_product_id"])
    for pair in golden:
        row = measured.loc[(pair["photo_id"], pair["product_id"])]
        assert pair["probability"] == pytest.approx(row.probability)
        assert pair["distance"] == pytest.approx(math.sqrt(max(0, 2 - 2 * pair["similarity"])), abs=1e-3)


def test_the_figures_and_pictures_are_in_the_mlflow_run(evaluated, metrics):
    client = mlflow.MlflowClient(f"sqlite:///{evaluated.root.resolve() / '.photoproof/mlflow/mlflow.db'}")
    experiment = client.get_experiment_by_name("photoproof")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["known/auc"] == pytest.approx(metrics["known"]["auc"])
    assert {"evaluation/roc.png", "evaluation/report.html"} <= {
        file.path for file in client.list_artifacts(run.info.run_id, "evaluation")
    }


def test_what_export_gets_is_the_same_bytes_when_evaluated_again(evaluated, copied):
    evaluate(copied, evaluated.params)
    for name in ("decision.json", "golden.json", "headline.json"):
        repeated = (copied / "models/decision" / name).read_bytes()
        assert repeated == (evaluated.root / "models/decision" / name).read_bytes()


def test_a_photo_whose_original_was_set_aside_is_left_out(splits):
    kept = splits[(splits.role == "photo") | (splits.product_id != "product-03")]
    originals, validation, test = chosen_pictures(kept, 1_000_000)
    assert "product-03" in set(splits.query("role == 'photo'").product_id)
    assert "product-03" not in set(originals.product_id) | set(validation.product_id) | set(test.product_id)


def test_too_many_pairs_cost_whole_photos(splits):
    originals, validation, test = chosen_pictures(splits, 200)
    assert len(originals) == 10
    assert len(test) == 20 and len(validation) <= 20
    assert set(test.picture_id) <= set(chosen_pictures(splits, 1_000_000)[2].picture_id)


def test_data_without_originals_to_choose_from_is_bad_input(splits):
    with pytest.raises(BadInput, match="originals"):
        chosen_pictures(splits[splits.product_id == "product-03"], 1_000_000)


def test_a_missing_model_is_bad_input_that_says_what_to_run(evaluated, copied):
    shutil.rmtree(copied / "models/autoencoder")
    with pytest.raises(BadInput, match="train"):
        evaluate(copied, evaluated.params)


def test_a_cohort_too_large_is_cut_by_hash_and_keeps_its_order():
    originals = pd.DataFrame({"product_id": [f"p{i}" for i in range(50)]})
    rows = cohort_rows(originals, 10)
    assert len(rows) == 10 and np.all(np.diff(rows) > 0)
    turned = originals.iloc[::-1]
    assert set(originals.product_id.iloc[rows]) == set(turned.product_id.iloc[cohort_rows(turned, 10)])
