"""How well scores tell genuine pairs from impostor pairs.

A score matrix is float [P, J]: P photos against J originals, higher is more alike. `truth` is int [P], the
column of each photo's own product. Ties never flatter: where all scores are equal the AUC is 0.5, the EER
0.5, every true accept rate 0 and no photo's own product comes first, whatever the order of the rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, roc_curve

from training.decision.log_ratio import Bools, Floats


@dataclass(frozen=True)
class Roc:
    """A ROC curve: float [K] each, thresholds falling, from (0, 0) to (1, 1)."""

    false_accept: Floats
    true_accept: Floats
    threshold: Floats

    @property
    def auc(self) -> float:
        """The area under the curve: the chance that a genuine pair outscores an impostor pair, ties half."""
        return float(auc(self.false_accept, self.true_accept))

    @property
    def eer(self) -> float:
        """The equal error rate: where the straight line between neighbouring points has both errors alike."""
        excess = self.false_accept - (1 - self.true_accept)
        after = int(np.argmax(excess >= 0))
        share = -excess[after - 1] / (excess[after] - excess[after - 1])
        return float(self.false_accept[after - 1] + share * (self.false_accept[after] - self.false_accept[after - 1]))

    def true_accept_at(self, false_accept_rate: float) -> float:
        """The best true accept rate of any threshold whose false accept rate is at most the given one."""
        return float(self.true_accept[self.false_accept <= false_accept_rate].max())


def roc(scores: Floats, genuine: Bools, weights: Floats | None = None) -> Roc:
    """The ROC curve of scores [n]. Raises ValueError without both a genuine and an impostor pair."""
    weighed = genuine if weights is None else genuine[weights > 0]
    if not weighed.any() or weighed.all():
        raise ValueError("a ROC curve needs genuine and impostor pairs")
    false_accept, true_accept, threshold = roc_curve(genuine, scores, sample_weight=weights, drop_intermediate=False)
    return Roc(false_accept, true_accept, threshold)


def genuine_pairs(truth: NDArray[np.integer], originals: int) -> Bools:
    """Bool [P, J]: true where the original is the photo's own product."""
    return np.asarray(truth)[:, None] == np.arange(originals)[None, :]


def first_of_all(scores: Floats, truth: NDArray[np.integer]) -> Bools:
    """Bool [P]: does the photo's own product outscore every other one? A tie for the first place does not."""
    genuine = genuine_pairs(truth, scores.shape[1])
    rivals = np.where(genuine, -np.inf, scores).max(axis=1, initial=-np.inf)
    return scores[genuine] > rivals


def separation(scores: Floats, genuine: Bools, weights: Floats | None = None) -> dict[str, float]:
    """AUC, EER and true accept rates (TAR) at 1 % and 0.1 % false accepts (FAR) of pairs [n]."""
    curve = roc(scores, genuine, weights)
    return {
        "auc": curve.auc,
        "eer": curve.eer,
        "tar_at_far_1pct": curve.true_accept_at(0.01),
        "tar_at_far_0_1pct": curve.true_accept_at(0.001),
    }


def identification(scores: Floats, truth: NDArray[np.integer], photo_weights: Floats | None = None) -> dict[str, float]:
    """`separation` of all pairs of a score matrix, and the share of photos whose own product comes first."""
    weights = None if photo_weights is None else np.repeat(photo_weights, scores.shape[1])
    return separation(scores.ravel(), genuine_pairs(truth, scores.shape[1]).ravel(), weights) | {
        "top1": float(np.average(first_of_all(scores, truth), weights=photo_weights)),
    }


def decisions(
    probability: Floats,
    genuine: Bools,
    accept_at: float,
    reject_at: float,
    prior_match: float,
    weights: Floats | None = None,
) -> dict[str, float]:
    """Rates at the model's own thresholds, of pairs of any shape.

    A pair matches where probability ≥ accept_at, mismatches where probability < reject_at; what lies between
    goes to a person. `share_decided` is the share that doesn't, in a mix with `prior_match` of genuine claims.
    """
    accepted, rejected = probability >= accept_at, probability < reject_at

    def share(which: Bools, among: Bools) -> float:
        return float(np.average(which[among], weights=None if weights is None else weights[among]))

    decided = accepted | rejected
    return {
        "false_accept_rate": share(accepted, ~genuine),
        "false_reject_rate": share(rejected, genuine),
        "share_decided": prior_match * share(decided, genuine) + (1 - prior_match) * share(decided, ~genuine),
    }


def intervals(
    measure: Callable[[Floats], dict[str, float]], products: NDArray, draws: int, level: float = 0.95, seed: int = 1
) -> dict[str, dict[str, float]]:
    """Confidence intervals by a percentile bootstrap over products, since photos of one product err together.

    `products` [P] names each photo's product; `measure` takes photo weights float [P] (how often the photo's
    product was drawn) and returns figures. Gives {figure: {"low", "high"}}; nothing for fewer than two draws.
    """
    names, of_photo = np.unique(products, return_inverse=True)
    generator = np.random.default_rng(seed)
    figures = [
        measure(generator.multinomial(len(names), np.full(len(names), 1 / len(names)))[of_photo].astype(float))
        for _ in range(draws)
    ]
    if len(figures) < 2:
        return {}
    tails = [(1 - level) / 2, (1 + level) / 2]
    return {
        key: dict(zip(("low", "high"), map(float, np.quantile([drawn[key] for drawn in figures], tails)), strict=True))
        for key in figures[0]
    }
