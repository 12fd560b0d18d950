import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import det_curve, roc_auc_score

from training.evaluation.metrics import (
    decisions,
    first_of_all,
    genuine_pairs,
    identification,
    intervals,
    roc,
    separation,
)

LABELS = st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda labels: any(labels) and not all(labels))


@st.composite
def scored(draw):
    """Scores with many ties, and labels of both kinds."""
    genuine = np.array(draw(LABELS))
    return draw(hnp.arrays(np.float64, len(genuine), elements=st.integers(-4, 4).map(float))), genuine


@given(LABELS)
def test_all_scores_equal_is_chance_whatever_the_order_of_the_rows(labels):
    curve = roc(np.zeros(len(labels)), np.array(labels))
    assert curve.auc == pytest.approx(0.5)
    assert curve.eer == pytest.approx(0.5)
    assert curve.true_accept_at(0.01) == curve.true_accept_at(0.001) == 0


@given(st.integers(1, 8), st.integers(2, 8), st.randoms(use_true_random=False))
def test_all_scores_equal_identify_no_photo(photos, originals, random):
    truth = np.array([random.randrange(originals) for _ in range(photos)])
    figures = identification(np.full((photos, originals), 0.7), truth)
    assert figures == pytest.approx(
        {"auc": 0.5, "eer": 0.5, "tar_at_far_1pct": 0, "tar_at_far_0_1pct": 0, "top1": 0}, abs=1e-12
    )


@given(scored())
def test_auc_is_scikit_learns(case):
    scores, genuine = case
    assert roc(scores, genuine).auc == pytest.approx(roc_auc_score(genuine, scores))


@given(scored())
def test_both_error_rates_are_scikit_learns(case):
    scores, genuine = case
    curve = roc(scores, genuine)
    ours = {(round(far, 9), round(1 - tar, 9)) for far, tar in zip(curve.false_accept, curve.true_accept, strict=True)}
    theirs = det_curve(genuine, scores)[:2]
    assert {(round(far, 9), round(frr, 9)) for far, frr in zip(*theirs, strict=True)} <= ours


@given(scored())
def test_the_equal_error_rate_lies_between_the_errors_of_neighbouring_thresholds(case):
    scores, genuine = case
    curve = roc(scores, genuine)
    errors = np.stack([curve.false_accept, 1 - curve.true_accept])
    assert errors.min(axis=0).max() - 1e-12 <= curve.eer <= errors.max(axis=0).min() + 1e-12


@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(case, random):
    scores, genuine = case
    order = list(range(len(scores)))
    random.shuffle(order)
    assert separation(scores, genuine) == pytest.approx(separation(scores[order], genuine[order]))


@given(scored(), st.floats(0, 3))
def test_a_better_separated_score_never_lowers_auc_nor_raises_eer(case, shift):
    scores, genuine = case
    better = scores + shift * genuine
    assert roc(better, genuine).auc >= roc(scores, genuine).auc - 1e-12
    assert roc(better, genuine).eer <= roc(scores, genuine).eer + 1e-12


@given(scored(), st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_true_accept_rate_is_that_of_a_threshold_that_keeps_the_false_accept_rate(case, rate):
    scores, genuine = case
    thresholds = [np.inf, *np.unique(scores)]
    kept = [t for t in thresholds if np.mean(scores[~genuine] >= t) <= rate]
    assert roc(scores, genuine).true_accept_at(rate) == pytest.approx(max(np.mean(scores[genuine] >= t) for t in kept))


@given(scored(), st.integers(1, 3))
def test_a_weight_counts_like_as_many_copies(case, times):
    scores, genuine = case
    weights = np.where(np.arange(len(scores)) % 2, 1, times)
    copied = separation(np.repeat(scores, weights), np.repeat(genuine, weights))
    assert separation(scores, genuine, weights.astype(float)) == pytest.approx(copied)


def test_a_case_worked_by_hand():
    # impostors 1 2 3 4, genuine 3.5 and 5: of 8 comparisons the genuine win 7; at 4 a quarter of impostors pass
    scores, genuine = np.array([1, 2, 3, 4, 3.5, 5.0]), np.array([0, 0, 0, 0, 1, 1], bool)
    curve = roc(scores, genuine)
    assert curve.auc == pytest.approx(7 / 8)
    assert curve.true_accept_at(0.01) == 0.5
    assert curve.true_accept_at(0.25) == 1.0
    assert curve.eer == pytest.approx(0.25)


def test_perfect_scores_are_perfect():
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert identification(scores, np.array([0, 1])) == pytest.approx(
        {"auc": 1, "eer": 0, "tar_at_far_1pct": 1, "tar_at_far_0_1pct": 1, "top1": 1}
    )


def test_a_tie_for_the_first_place_is_no_first_place():
    scores = np.array([[0.9, 0.9, 0.1], [0.1, 0.8, 0.9], [0.3, 0.2, 0.9]])
    assert first_of_all(scores, np.array([0, 1, 2])).tolist() == [False, False, True]


def test_pairs_of_one_kind_alone_are_refused():
    with pytest.raises(ValueError, match="genuine and impostor"):
        roc(np.arange(3.0), np.ones(3, bool))


def test_scores_of_shuffled_labels_are_at_chance():
    generator = np.random.default_rng(3)
    scores, truth = generator.normal(size=(600, 20)), generator.integers(0, 20, 600)
    scores[np.arange(600), truth] += 3
    figures = identification(scores, generator.permutation(truth))
    assert figures["auc"] == pytest.approx(0.5, abs=0.03)
    assert figures["eer"] == pytest.approx(0.5, abs=0.03)
    assert figures["top1"] < 0.1


def test_the_share_decided_is_weighed_by_the_share_of_genuine_claims():
    probability = np.array([0.95, 0.5, 0.5, 0.5, 0.05, 0.5], np.float32)
    genuine = np.array([1, 1, 1, 1, 0, 0], bool)
    figures = decisions(probability, genuine, accept_at=0.9, reject_at=0.1, prior_match=0.9)
    assert figures["share_decided"] == pytest.approx(0.9 * 0.25 + 0.1 * 0.5)


def test_a_pair_at_accept_at_matches_and_one_at_reject_at_is_not_rejected():
    genuine = np.array([0, 1], bool)
    figures = decisions(np.array([0.5, 0.5]), genuine, accept_at=0.5, reject_at=0.5, prior_match=0.5)
    assert figures == {"false_accept_rate": 1.0, "false_reject_rate": 0.0, "share_decided": 1.0}


def test_intervals_hold_the_figure_and_widen_with_fewer_products():
    generator = np.random.default_rng(0)
    right = (generator.random(400) < 0.8).astype(float)

    def share(weights):
        return {"share": float(np.average(right, weights=weights))}

    many = intervals(share, np.repeat(np.arange(100), 4), draws=200)["share"]
    few = intervals(share, np.repeat(np.arange(5), 80), draws=200)["share"]
    assert many["low"] <= right.mean() <= many["high"]
    assert few["high"] - few["low"] > 0
    # errors that come by product make the interval wide, though the pairs are as many
    by_product = np.repeat(np.arange(100) < 80, 4).astype(float)
    wide = intervals(
        lambda weights: {"share": float(np.average(by_product, weights=weights))}, np.repeat(np.arange(100), 4), 200
    )["share"]
    assert wide["high"] - wide["low"] > 1.5 * (many["high"] - many["low"])


def test_genuine_pairs_are_the_photos_own_products():
    assert genuine_pairs(np.array([1, 0]), 3).tolist() == [[False, True, False], [True, False, False]]
