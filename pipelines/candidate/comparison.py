"""A model against the champion, on held-out pairs that both have measured: figures with their bounds."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.registry.evidence import Evidence, PairCounts, common_pairs, count_pairs, list_trained_on
from pipelines.workspace.params import Candidate

Floats = NDArray[np.floating]

Figure = Callable[[PairCounts, float], Floats]
"""(counts [n], prior_match) -> [n]."""

ROUNDS = 15
"""Turns in which both models encode the same pictures."""


@dataclass(frozen=True)
class ComparedFigure:
    """A figure of the model, the champion's, and the lower bound of model minus champion."""

    model: float
    champion: float
    low: float

    @property
    def difference(self) -> float:
        """Model minus champion."""
        return self.model - self.champion


@dataclass(frozen=True)
class ErrorRate:
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
    share_decided: ComparedFigure | None = None
    """None where there is no common pair."""
    categories: tuple[tuple[str, int, ComparedFigure], ...] = ()
    """(category, photos, share decided rightly), the worst difference first, of categories with photos enough."""


def compare_evidence(model: Evidence, champion: Evidence, limits: Candidate) -> Comparison:
    """Hold a model against the champion, on common pairs, each at its own thresholds, in the model's mix of claims."""
    model, champion = common_pairs(model, champion)
    photos = model.pairs.drop_duplicates("photo_id")
    trained_on = tuple(list_trained_on(model, champion))
    if trained_on or not len(photos):
        return Comparison(len(photos), trained_on)
    share_decided = _compare_figure(model, champion, limits, _share_decided)
    categories = []
    for category, count in photos.category.value_counts().items():
        if category and count >= limits.min_category_photos:
            rows = (model.pairs.category == category).to_numpy()
            share_right = _compare_figure(_rows(model, rows), _rows(champion, rows), limits, _share_right)
            categories.append((str(category), int(count), share_right))
    categories.sort(key=lambda category: category[2].difference)
    return Comparison(len(photos), trained_on, share_decided, tuple(categories))


def measure_error_rates(evidence: Evidence, limits: Candidate) -> tuple[ErrorRate, ErrorRate]:
    """False accepts and false rejects on a model's own held-out pairs, at its own thresholds.

    The lower end is a percentile of a bootstrap over products, since the photos of one product err together.
    """
    products = _products(evidence)
    counts = count_pairs(evidence, products)
    weights = _bootstrap_weights(len(products), limits)

    def rate(errors: Floats, pairs: Floats, stated: float) -> ErrorRate:
        low = np.nanquantile(_ratio(weights @ errors, weights @ pairs), (1 - limits.confidence) / 2)
        return ErrorRate(float(errors.sum() / max(1, pairs.sum())), float(low), stated)

    return (
        rate(counts.impostor_accepted, counts.impostor, evidence.false_accept_rate),
        rate(counts.genuine_rejected, counts.genuine, evidence.false_reject_rate),
    )


def measure_slowdown(model_folder: Path, champion_folder: Path, pictures: list[bytes]) -> float:
    """How many times as long as the champion's SavedModel the model's takes to encode some pictures.

    Both encode in turn, in this process; the median of the turns, so that what else the machine does weighs little.
    """
    from training.saved_model import loading

    batch = {"image_bytes": np.array(pictures, object)}
    ratios = []
    with loading.load(model_folder) as model, loading.load(champion_folder) as champion:
        for loaded in (model, champion):
            for _ in range(2):
                loaded.run("encode", batch)
        for turn in range(ROUNDS):
            seconds = {}
            for loaded in (model, champion) if turn % 2 else (champion, model):
                started = time.perf_counter()
                loaded.run("encode", batch)
                seconds[loaded] = time.perf_counter() - started
            ratios.append(seconds[model] / seconds[champion])
    return float(np.median(ratios))


def _compare_figure(model: Evidence, champion: Evidence, limits: Candidate, figure: Figure) -> ComparedFigure:
    products = _products(model)
    weights, all_products = _bootstrap_weights(len(products), limits), np.ones((1, len(products)))
    counts = [count_pairs(evidence, products) for evidence in (model, champion)]
    drawn = [figure(of_model.weighted(weights), model.prior_match) for of_model in counts]
    whole = [float(figure(of_model.weighted(all_products), model.prior_match)[0]) for of_model in counts]
    low = np.nanquantile(drawn[0] - drawn[1], 1 - limits.confidence)
    return ComparedFigure(whole[0], whole[1], float(low))


def _share_decided(counts: PairCounts, prior_match: float) -> Floats:
    genuine = _ratio(counts.genuine_decided, counts.genuine)
    return prior_match * genuine + (1 - prior_match) * _ratio(counts.impostor_decided, counts.impostor)


def _share_right(counts: PairCounts, prior_match: float) -> Floats:
    """Decided without a person, and rightly: in a category no other rule looks at errors."""
    genuine = _ratio(counts.genuine_decided - counts.genuine_rejected, counts.genuine)
    impostor = _ratio(counts.impostor_decided - counts.impostor_accepted, counts.impostor)
    return prior_match * genuine + (1 - prior_match) * impostor


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _bootstrap_weights(products: int, limits: Candidate) -> Floats:
    """Float [draws, P]: how often each product was drawn."""
    return (
        np.random.default_rng(1).multinomial(products, np.full(products, 1 / products), limits.bootstrap).astype(float)
    )


def _products(evidence: Evidence) -> NDArray:
    return np.unique(evidence.pairs.product_id.to_numpy(str))


def _rows(evidence: Evidence, rows: NDArray[np.bool_]) -> Evidence:
    return dataclasses.replace(evidence, pairs=evidence.pairs[rows])
