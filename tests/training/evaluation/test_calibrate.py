import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve

from training.decision.decision import Decision, platt
from training.decision.log_ratio import Cohort, LogRatio, log_ratios, own_copies, with_pivot
from training.evaluation.calibrate import (
    SLOPE_MIN,
    calibrate,
    fit_platt,
    reliability,
    set_thresholds,
    threshold_intervals,
)
from training.evaluation.metrics import decisions
from training.stage.errors import BadInput


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


FORMULA = LogRatio(temperature=0.05, own_copy_cosine=0.95)
RATES = dict(false_accept_rate=0.01, false_reject_rate=0.01, prior_match=0.95)


def cohort_of(rows, trained=()):
    """A cohort of these embeddings, of which those at `trained` are of products that trained."""
    rows = np.asarray(rows)
    return Cohort(rows, np.isin(np.arange(len(rows)), trained), np.arange(len(rows)).astype(str))


def by_the_formula(photo, original, cohort, formula):
    """The formula of the module's docstring for one pair, word for word."""

    def stretched(cosine, trained):
        return formula.pivot + formula.stretch * (cosine - formula.pivot) if trained else cosine

    rivals = list(zip(cohort.embeddings, cohort.trained, strict=True))
    own_trained = False
    if rivals:
        cosines = [original @ rival for rival, _ in rivals]
        if max(cosines) > formula.own_copy_cosine:
            _, own_trained = rivals.pop(int(np.argmax(cosines)))
    mine = np.exp(stretched(photo @ original, own_trained) / formula.temperature)
    others = [np.exp(stretched(photo @ rival, trained) / formula.temperature) for rival, trained in rivals]
    return np.log(mine / (mine + sum(others)))


@pytest.mark.parametrize("seed", range(5))
def test_log_ratios_are_the_formula(seed):
    generator = np.random.default_rng(seed)
    originals, photos = unit(generator.normal(size=(6, 4))), unit(generator.normal(size=(5, 4)))
    cohort = np.vstack([originals[:4], unit(originals[:1] + 0.05)])  # a near twin of the first; two have no copy
    cohort, formula = cohort_of(cohort, trained=[1, 4]), LogRatio(0.2, 0.95, stretch=1.5, pivot=0.7)
    actual = log_ratios(photos, originals, cohort, formula)
    expected = [[by_the_formula(p, o, cohort, formula) for o in originals] for p in photos]
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_at_most_the_nearest_row_is_left_out_in_a_collapsed_latent():
    same = unit(np.ones((5, 3)) + 1e-6 * np.arange(15).reshape(5, 3))
    np.testing.assert_allclose(log_ratios(same, same, cohort_of(same), FORMULA), np.log(1 / 5), atol=1e-4)


def test_a_far_row_is_no_own_copy():
    assert own_copies(np.eye(2, dtype=np.float32), np.array([[0.0, 1.0]], np.float32), 0.95).tolist() == [-1, 0]


def test_without_a_cohort_the_plain_cosine_decides():
    photos, originals = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.6, 0.8]])
    np.testing.assert_allclose(log_ratios(photos, originals, cohort_of(np.zeros((0, 2))), FORMULA), [[20.0, 12.0]])


def test_a_cohort_of_the_own_copy_alone_leaves_no_rival():
    photo = np.array([[1.0, 0.0]])
    np.testing.assert_allclose(log_ratios(photo, photo, cohort_of(photo), FORMULA), [[0.0]])


def test_a_photo_short_of_what_a_trained_products_photos_reach_is_further_from_it():
    photo, originals = unit(np.array([[1.0, 0.9]])), np.eye(2)
    stretched = dataclasses.replace(FORMULA, stretch=1.4, pivot=0.9)
    alike, told_apart = (
        log_ratios(photo, originals, cohort_of(originals, trained=[0]), formula)[0] for formula in (FORMULA, stretched)
    )
    assert told_apart[0] < alike[0] and told_apart[1] > alike[1]


def test_the_pivot_is_what_few_photos_of_trained_products_pass():
    pivot = with_pivot(dataclasses.replace(FORMULA, stretch=1.4), np.linspace(0, 1, 101)).pivot
    assert pivot == pytest.approx(0.95)


def test_a_temperature_or_a_stretch_of_nothing_is_bad_input_that_names_it():
    with pytest.raises(BadInput, match=r"evaluate\.temperature"):
        LogRatio(temperature=0.0, own_copy_cosine=0.95)
    with pytest.raises(BadInput, match=r"evaluate\.trained_stretch"):
        dataclasses.replace(FORMULA, stretch=0.0)


def test_without_photos_of_trained_products_nothing_is_stretched():
    assert with_pivot(dataclasses.replace(FORMULA, stretch=1.4), np.zeros(0)) == FORMULA


@st.composite
def calibration_pairs(draw):
    genuine = np.array(draw(st.lists(st.booleans(), min_size=2, max_size=40)))
    genuine[:2] = [True, False]
    ratio = draw(hnp.arrays(np.float64, len(genuine), elements=st.floats(-30, 0, width=32)))
    return ratio, genuine


@given(calibration_pairs())
def test_the_calibration_always_rises(case):
    slope, intercept = fit_platt(*case)
    assert slope >= SLOPE_MIN
    assert np.isfinite(intercept)
    steps = slope * np.linspace(-30, 0, 50) + intercept
    assert np.all(np.diff(steps) > 0)
    assert np.all(np.diff(platt(np.linspace(-30, 0, 50), slope, intercept, 0.95)) >= 0)


def test_scores_that_tell_the_opposite_get_the_least_slope():
    slope, intercept = fit_platt(np.array([-5.0, -4.0, -1.0, -1.5]), np.array([1, 1, 0, 0], bool))
    assert slope == SLOPE_MIN
    assert platt(np.array([-3.0]), slope, intercept, 0.5) == pytest.approx(0.5, abs=0.01)


def test_platt_scaling_finds_the_log_odds_that_made_the_labels():
    generator = np.random.default_rng(0)
    ratio = generator.uniform(-6, 0, 40_000)
    genuine = generator.random(40_000) < 1 / (1 + np.exp(-(1.5 * ratio + 2)))
    slope, intercept = fit_platt(ratio, genuine)
    balance = np.log((~genuine).sum() / genuine.sum())  # the fit weighs both kinds alike
    assert slope == pytest.approx(1.5, rel=0.05)
    assert intercept == pytest.approx(2 + balance, abs=0.1)


def test_the_probability_is_that_of_the_teams_mix():
    at_even, at_prior = platt(np.array([-1.0]), 2, 1, 0.5), platt(np.array([-1.0]), 2, 1, 0.95)
    odds = at_even / (1 - at_even) * 0.95 / 0.05
    assert at_prior == pytest.approx(odds / (1 + odds), rel=1e-5)


@given(
    st.lists(st.booleans(), min_size=2, max_size=80),
    st.data(),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
)
def test_thresholds_keep_the_asked_rates_on_the_pairs_they_were_set_on(labels, data, accept_rate, reject_rate):
    genuine = np.array(labels)
    genuine[:2] = [True, False]
    scores = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5, 1.0])  # ties are likely
    probability = data.draw(hnp.arrays(np.float32, len(genuine), elements=scores))
    accept_at, reject_at = set_thresholds(probability, genuine, accept_rate, reject_rate)
    figures = decisions(probability, genuine, accept_at, reject_at, 0.5)
    assert figures["false_accept_rate"] <= accept_rate + 1e-9
    assert figures["false_reject_rate"] <= reject_rate + 1e-9
    assert reject_at <= accept_at
    assert np.float32(accept_at) == accept_at and np.float32(reject_at) == reject_at


def test_where_both_rates_hold_both_thresholds_are_the_middle_in_log_odds():
    probability = np.array([0.1, 0.2, 0.8, 0.9], np.float32)
    genuine = np.array([0, 0, 1, 1], bool)
    assert set_thresholds(probability, genuine, 0, 0) == pytest.approx((0.5, 0.5))


def test_where_the_rates_leave_a_gap_it_goes_to_a_person():
    probability = np.array([0.1, 0.7, 0.4, 0.9], np.float32)
    genuine = np.array([0, 0, 1, 1], bool)
    accept_at, reject_at = set_thresholds(probability, genuine, 0, 0)
    assert 0.7 < accept_at < 0.9
    assert 0.1 < reject_at < 0.4


def test_the_intervals_of_thresholds_hold_them_and_are_wide_where_products_err_together():
    generator = np.random.default_rng(0)
    genuine = np.eye(40, dtype=bool)[np.repeat(np.arange(40), 10)]
    together = np.repeat(generator.normal(0, 1, 40), 10)[:, None]
    odds = np.where(genuine, 3.0, -3.0) + together + generator.normal(0, 0.1, genuine.shape)
    probability = (1 / (1 + np.exp(-odds))).astype(np.float32)

    def interval(names):
        return threshold_intervals(probability, genuine, names, 0.1, 0.1, 100)

    by_product, by_photo = interval(np.repeat(np.arange(40), 10)), interval(np.arange(400))
    thresholds = set_thresholds(probability.ravel(), genuine.ravel(), 0.1, 0.1)
    for name, threshold in zip(("accept_at", "reject_at"), thresholds, strict=True):
        low, high = by_product[name]["low"], by_product[name]["high"]
        assert low <= threshold <= high
        assert high - low > 1.5 * (by_photo[name]["high"] - by_photo[name]["low"])


@pytest.mark.parametrize(
    ("probability", "outcome"), [(0.9, "match"), (0.8, "match"), (0.79, "review"), (0.3, "review"), (0.29, "mismatch")]
)
def test_the_outcome_is_that_of_the_thresholds(probability, outcome):
    assert Decision(1.0, 0.0, FORMULA, 0.5, 0.8, 0.3, 0.01, 0.01, None).outcome(probability) == outcome


def test_a_decision_is_the_same_after_writing_and_reading(tmp_path):
    decision = calibrate(
        np.array([-5.0, -4.0, -0.1, -0.2]), np.array([0, 0, 1, 1], bool), data_version="abc", formula=FORMULA, **RATES
    )
    decision.write(tmp_path / "decision.json")
    assert Decision.read(tmp_path / "decision.json") == decision
    assert dataclasses.asdict(decision)["data_version"] == "abc"


@pytest.mark.parametrize(
    ("key", "value"),
    [("prior_match", 1.0), ("false_accept_rate", 1.5), ("false_reject_rate", -1)],
)
def test_a_setting_out_of_its_range_is_bad_input_that_names_it(key, value):
    with pytest.raises(BadInput, match=key):
        calibrate(
            np.array([-1.0, 0.0]), np.array([0, 1], bool), data_version=None, formula=FORMULA, **RATES | {key: value}
        )


def test_a_reliability_plot_is_scikit_learns():
    generator = np.random.default_rng(0)
    probability, genuine = generator.random(500), generator.random(500) < 0.5
    observed, predicted = calibration_curve(genuine, probability, n_bins=10)
    bins, _ = reliability(probability, genuine, np.ones(500))
    assert [point["observed"] for point in bins] == pytest.approx(observed)
    assert [point["predicted"] for point in bins] == pytest.approx(predicted)


def test_calibration_error_is_zero_where_predictions_come_true():
    probability = np.repeat([0.25, 0.75], 4)
    bins, error = reliability(probability, np.array([1, 0, 0, 0, 1, 1, 1, 0], bool), np.ones(8))
    assert error == pytest.approx(0)
    assert [point["observed"] for point in bins] == [0.25, 0.75]
