"""From a log-ratio (training/decision/log_ratio.py) to a probability and a decision.

The probability is sigmoid(slope · log_ratio + intercept + logit(prior_match)); two thresholds on it decide.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from training.decision.decision import Decision, platt
from training.decision.log_ratio import Bools, Floats, LogRatio
from training.evaluation.metrics import intervals
from training.stage.errors import BadInput

SLOPE_MIN = 1e-3
"""The least slope: an encoder whose scores tell nothing still gets a strictly increasing calibration."""


def fit_platt(log_ratio: Floats, genuine: Bools) -> tuple[float, float]:
    """Slope and intercept of Platt scaling on pairs [n], genuine and impostor pairs weighing the same in all.

    Labels are softened as in Platt (1999), so that pairs which a threshold separates still give a finite slope.
    A slope below SLOPE_MIN (scores that tell nothing, or the opposite) becomes SLOPE_MIN, with the even odds in
    the middle of the two classes' means. Raises ValueError without both a genuine and an impostor pair.
    """
    n_genuine, n_impostor = int(genuine.sum()), int((~genuine).sum())
    if not n_genuine or not n_impostor:
        raise ValueError("calibration needs genuine and impostor pairs")
    ratio = np.asarray(log_ratio, np.float64)
    middle = (ratio[genuine].mean() + ratio[~genuine].mean()) / 2
    spread = ratio.std()
    if not spread > 1e-9:
        return SLOPE_MIN, float(-SLOPE_MIN * middle)
    soft = np.where(genuine, (n_genuine + 1) / (n_genuine + 2), 1 / (n_impostor + 2))
    weight = np.where(genuine, 0.5 / n_genuine, 0.5 / n_impostor) * len(ratio)
    fitted = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(
        np.tile((ratio - middle) / spread, 2)[:, None],
        np.repeat([1, 0], len(ratio)),
        sample_weight=np.concatenate([soft, 1 - soft]) * np.tile(weight, 2),
    )
    slope = float(fitted.coef_[0, 0]) / spread
    if slope < SLOPE_MIN:
        return SLOPE_MIN, float(-SLOPE_MIN * middle)
    return slope, float(fitted.intercept_[0] - slope * middle)


def set_thresholds(
    probability: NDArray[np.float32], genuine: Bools, false_accept_rate: float, false_reject_rate: float
) -> tuple[float, float]:
    """accept_at and reject_at on pairs [n], reject_at ≤ accept_at.

    accept_at is the lowest threshold at which at most `false_accept_rate` of the impostor pairs reach it,
    reject_at the highest below which at most `false_reject_rate` of the genuine pairs fall. Each lies halfway, in
    log-odds, between the last pair that it must respect and the next pair's score, so that noise in the last
    digit decides nothing. Where one threshold keeps both rates there is an interval of them: both are then its
    middle in log-odds, and nothing goes to a person. Raises ValueError without both kinds of pairs.
    """
    impostors, genuines = np.sort(probability[~genuine])[::-1], np.sort(probability[genuine])
    if not len(impostors) or not len(genuines):
        raise ValueError("thresholds need genuine and impostor pairs")
    above = _first_that_counts(impostors, false_accept_rate, beyond=np.float32(0))  # accept_at must be above this
    upto = _first_that_counts(genuines, false_reject_rate, beyond=np.float32(1))  # reject_at must be at most this
    if above < upto:
        middle = _between(above, upto)
        return middle, middle
    scores = np.unique(probability)
    higher, lower = scores[scores > above], scores[scores < upto]
    accept_at = _between(above, higher[0] if len(higher) else np.float32(1))
    reject_at = _between(lower[-1], upto) if len(lower) else float(upto)
    return accept_at, reject_at


def threshold_intervals(
    probability: NDArray[np.float32],
    genuine: Bools,
    products: NDArray,
    false_accept_rate: float,
    false_reject_rate: float,
    draws: int,
) -> dict[str, dict[str, float]]:
    """How far accept_at and reject_at would move with other products: {"accept_at": {"low", "high"}, …}.

    95 % intervals by a bootstrap over the products [P] of the photos of pairs [P, J]; the calibration stays.
    """

    def thresholds(times: Floats) -> dict[str, float]:
        rows = np.repeat(np.arange(len(times)), times.astype(int))
        rates = (false_accept_rate, false_reject_rate)
        accept_at, reject_at = set_thresholds(probability[rows].ravel(), genuine[rows].ravel(), *rates)
        return {"accept_at": accept_at, "reject_at": reject_at}

    return intervals(thresholds, products, draws)


def _first_that_counts(scores: NDArray[np.float32], rate: float, beyond: np.float32) -> np.float32:
    """The first of the scores, worst error first, that must not err, when `rate` of them may."""
    may_err = math.floor(rate * len(scores) + 1e-9)
    return scores[may_err] if may_err < len(scores) else beyond


def _between(low: np.float32, high: np.float32) -> float:
    """The float32 halfway between two probabilities in log-odds, above `low` and at most `high` (if high > low)."""
    tiny = 1e-7
    middle = np.float32(expit(np.mean(logit(np.clip(np.array([low, high], np.float64), tiny, 1 - tiny)))))
    return float(middle if low < middle <= high else np.nextafter(low, np.float32(2)))


def calibrate(
    log_ratio: Floats,
    genuine: Bools,
    *,
    formula: LogRatio,
    prior_match: float,
    false_accept_rate: float,
    false_reject_rate: float,
    data_version: str | None,
) -> Decision:
    """Fit the calibration and set the thresholds on the validation pairs [n], known and new products together.

    Each photo weighs the same, whether its product trains or not. Raises BadInput for a prior or a rate that
    is not a share.
    """
    if not 0 < prior_match < 1:
        raise BadInput(f"params.yaml: evaluate.prior_match must lie between 0 and 1, not {prior_match}")
    for name, rate in [("false_accept_rate", false_accept_rate), ("false_reject_rate", false_reject_rate)]:
        if not 0 <= rate < 1:
            raise BadInput(f"params.yaml: evaluate.{name} must be a share from 0 up to 1, not {rate}")
    slope, intercept = fit_platt(log_ratio, genuine)
    probability = platt(log_ratio, slope, intercept, prior_match)
    accept_at, reject_at = set_thresholds(probability, genuine, false_accept_rate, false_reject_rate)
    return Decision(
        slope=slope,
        intercept=intercept,
        formula=formula,
        prior_match=prior_match,
        accept_at=accept_at,
        reject_at=reject_at,
        false_accept_rate=false_accept_rate,
        false_reject_rate=false_reject_rate,
        data_version=data_version,
    )


def reliability(probability: Floats, genuine: Bools, weights: Floats, bins: int = 10) -> tuple[list[dict], float]:
    """Bins of a reliability plot and the expected calibration error (ECE).

    Pairs [n] with weights [n] (so that genuine pairs make up prior_match). Each bin: {"predicted", "observed",
    "share"}; the ECE is the mean distance of predicted and observed, weighed by share.
    """
    which = np.minimum((probability * bins).astype(int), bins - 1)
    total, points, error = float(weights.sum()), [], 0.0
    for index in range(bins):
        inside = which == index
        weight = float(weights[inside].sum())
        if not weight:
            continue
        predicted = float(np.average(probability[inside], weights=weights[inside]))
        observed = float(np.average(genuine[inside], weights=weights[inside]))
        points.append({"predicted": predicted, "observed": observed, "share": weight / total})
        error += weight / total * abs(predicted - observed)
    return points, error
