"""A model beside the champion, on held-out pairs that both have measured: figures with their bounds."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.registry.evidence import Evidence, common, tally, trained_on
from pipelines.workspace.params import Candidate

Floats = NDArray[np.floating]

Figure = Callable[[Floats, float], Floats]
"""(sums [n, 6] as evidence.tally has them, prior_match) -> [n]."""

ROUNDS = 15
"""Turns in which both models encode the same pictures."""


@dataclass(frozen=True)
class Difference:
    """A figure of the model, the champion's, and the lower bound of model minus champion."""

    mine: float
    theirs: float
    low: float


@dataclass(frozen=True)
class Rate:
    """An observed error rate, the lower end of its interval, and the rate that the team stated."""

    observed: float
    low: float
    stated: float


@dataclass(frozen=True)
class Comparison:
    """What can be said of both models on their common pairs."""

    photos: int
    """How many held-out photos both have measured."""
    trained_on: tuple[str, ...]
    """Those of them that one of the two trained on."""
    share_decided: Difference | None = None
    """None where there is no common pair."""
    categories: tuple[tuple[str, int, Difference], ...] = ()
    """(category, photos, share decided rightly), the worst difference first, of categories with photos enough."""


def compare(mine: Evidence, theirs: Evidence, limits: Candidate) -> Comparison:
    """Hold a model against the champion, on common pairs, each at its own thresholds, in the model's mix of claims."""
    mine, theirs = common(mine, theirs)
    photos = mine.pairs.drop_duplicates("photo_id")
    overlap = tuple(trained_on(mine, theirs))
    if overlap or not len(photos):
        return Comparison(len(photos), overlap)
    share = _difference(mine, theirs, limits, _share_decided)
    found = []
    for category, count in photos.category.value_counts().items():
        if category and count >= limits.min_category_photos:
            here = (mine.pairs.category == category).to_numpy()
            worse = _difference(_of(mine, here), _of(theirs, here), limits, _share_right)
            found.append((str(category), int(count), worse))
    found.sort(key=lambda one: one[2].mine - one[2].theirs)
    return Comparison(len(photos), overlap, share, tuple(found))


def error_rates(evidence: Evidence, limits: Candidate) -> tuple[Rate, Rate]:
    """False accepts and false rejects on a model's own held-out pairs, at its own thresholds.

    The lower end is a percentile of a bootstrap over products, since the photos of one product err together.
    """
    counts = tally(evidence, _products(evidence))
    drawn = _drawn(len(counts), limits) @ counts
    tail = (1 - limits.confidence) / 2
    rates = []
    for errors, of, stated in ((5, 3, evidence.false_accept_rate), (2, 0, evidence.false_reject_rate)):
        whole = counts.sum(axis=0)
        low = float(np.nanquantile(_ratio(drawn[:, errors], drawn[:, of]), tail))
        rates.append(Rate(float(whole[errors] / max(1, whole[of])), low, stated))
    return rates[0], rates[1]


def slowdown(mine: Path, theirs: Path, pictures: list[bytes]) -> float:
    """How many times as long as `theirs` the SavedModel `mine` takes to encode some pictures.

    Both encode in turn, in this process; the median of the turns, so that what else the machine does weighs little.
    """
    from training.saved_model import loading

    batch = {"image_bytes": np.array(pictures, object)}
    ratios = []
    with loading.load(mine) as one, loading.load(theirs) as other:
        for model in (one, other):
            for _ in range(2):
                model.run("encode", batch)
        for turn in range(ROUNDS):
            took = {}
            for model in (one, other) if turn % 2 else (other, one):
                started = time.perf_counter()
                model.run("encode", batch)
                took[model] = time.perf_counter() - started
            ratios.append(took[one] / took[other])
    return float(np.median(ratios))


def _difference(
    mine: Evidence, theirs: Evidence, limits: Candidate, figure: Callable[[Floats, float], Floats]
) -> Difference:
    products = _products(mine)
    counts = [tally(one, products) for one in (mine, theirs)]
    weights = _drawn(len(products), limits)
    prior = mine.prior_match
    drawn = figure(weights @ counts[0], prior) - figure(weights @ counts[1], prior)
    whole = [float(figure(one.sum(axis=0, keepdims=True), prior)[0]) for one in counts]
    return Difference(whole[0], whole[1], float(np.nanquantile(drawn, 1 - limits.confidence)))


def _share_decided(sums: Floats, prior: float) -> Floats:
    return prior * _ratio(sums[:, 1], sums[:, 0]) + (1 - prior) * _ratio(sums[:, 4], sums[:, 3])


def _share_right(sums: Floats, prior: float) -> Floats:
    """Decided without a person, and rightly: in a category no other rule looks at errors."""
    right = _ratio(sums[:, 1] - sums[:, 2], sums[:, 0])
    return prior * right + (1 - prior) * _ratio(sums[:, 4] - sums[:, 5], sums[:, 3])


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _drawn(products: int, limits: Candidate) -> Floats:
    """Float [draws, P]: how often each product was drawn."""
    return (
        np.random.default_rng(1).multinomial(products, np.full(products, 1 / products), limits.bootstrap).astype(float)
    )


def _products(evidence: Evidence) -> NDArray:
    return np.unique(evidence.pairs.product_id.to_numpy(str))


def _of(evidence: Evidence, rows: NDArray[np.bool_]) -> Evidence:
    return dataclasses.replace(evidence, pairs=evidence.pairs[rows])
