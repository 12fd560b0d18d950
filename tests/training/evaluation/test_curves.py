import numpy as np
import pandas as pd
import pytest

from training.decision.decision import Decision
from training.decision.log_ratio import LogRatio
from training.evaluation.curves import FALSE_ACCEPT_RATES, write_curves
from training.evaluation.pairs import Pairs

DECISION = Decision(1.0, 0.0, LogRatio(0.05, 0.95), 0.5, 0.9, 0.1, 0.01, 0.01, None)


@pytest.fixture
def pairs():
    """Three photos of two known products: the third looks like the wrong one."""
    photos = pd.DataFrame({"product_id": ["a", "b", "b"], "category": "", "known": True})
    originals = pd.DataFrame({"product_id": ["a", "b"], "category": ""})
    scores = np.array([[4.0, -3.0], [-2.0, 3.0], [1.0, -1.0]])
    return Pairs(photos, originals, scores.astype(np.float32), scores)


def test_each_rate_has_the_best_threshold_that_keeps_it(pairs, tmp_path):
    write_curves(tmp_path, pairs, DECISION)
    roc = pd.read_csv(tmp_path / "roc.csv", index_col="false_accept_rate").known
    assert len(roc) == len(FALSE_ACCEPT_RATES) < 300
    assert roc.loc[0.0] == roc.loc[0.1] == pytest.approx(2 / 3, abs=1e-5)
    assert roc.loc[0.34] == roc.loc[1.0] == 1


def test_det_is_what_roc_leaves(pairs, tmp_path):
    write_curves(tmp_path, pairs, DECISION)
    roc, det = (pd.read_csv(tmp_path / name).known for name in ("roc.csv", "det.csv"))
    assert det.to_numpy() == pytest.approx(1 - roc.to_numpy(), abs=1e-5)


def test_without_new_products_their_column_is_there_and_holds_no_number(pairs, tmp_path):
    write_curves(tmp_path, pairs, DECISION)
    for name in ("roc.csv", "det.csv"):
        lines = (tmp_path / name).read_text().splitlines()
        assert lines[0] == "false_accept_rate,known,new"
        assert all(line.endswith(",nan") for line in lines[1:])


def test_reliability_shares_add_up(pairs, tmp_path):
    write_curves(tmp_path, pairs, DECISION)
    bins = pd.read_csv(tmp_path / "reliability.csv")
    assert bins.share.sum() == pytest.approx(1, abs=1e-5)
    assert bins[["predicted", "observed"]].min().min() >= 0 and bins[["predicted", "observed"]].max().max() <= 1
