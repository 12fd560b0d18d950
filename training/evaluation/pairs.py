"""Each photo against every original: what evaluation measures, and its figures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from training.decision.decision import Decision
from training.decision.log_ratio import Bools, Cohort, Floats, LogRatio, log_ratios
from training.evaluation.metrics import decisions, genuine_pairs, identification, intervals, separation


@dataclass(frozen=True)
class Pairs:
    """P photos against J originals; rows of both frames are manifest rows with `known` and `split`."""

    photos: pd.DataFrame
    originals: pd.DataFrame
    similarity: NDArray[np.float32]
    """[P, J] cosine of the embeddings."""
    log_ratio: NDArray[np.float64]
    """[P, J] of the similarity against the cohort."""

    @cached_property
    def truth(self) -> NDArray[np.intp]:
        """[P] the column of each photo's own product."""
        return pd.Index(self.originals.product_id).get_indexer(pd.Index(self.photos.product_id))

    @cached_property
    def genuine(self) -> Bools:
        """[P, J] the pairs of a photo and its own product."""
        return genuine_pairs(self.truth, len(self.originals))

    @cached_property
    def hard(self) -> Bools:
        """[P, J] hard impostors: another product of the photo's own category."""
        own, claimed = self.photos.category.to_numpy(str)[:, None], self.originals.category.to_numpy(str)[None, :]
        return (own == claimed) & (own != "") & ~self.genuine

    def where(self, photos: Bools) -> "Pairs":
        """The pairs of some of the photos (bool [P])."""
        return replace(
            self, photos=self.photos[photos], similarity=self.similarity[photos], log_ratio=self.log_ratio[photos]
        )


def compare(
    photos: pd.DataFrame,
    originals: pd.DataFrame,
    photo_embeddings: Floats,
    original_embeddings: Floats,
    cohort: Cohort,
    formula: LogRatio,
) -> Pairs:
    """Similarity and log-ratio of every photo [P, D] with every original [J, D], over the cohort."""
    similarity = np.clip(photo_embeddings @ original_embeddings.T, -1, 1).astype(np.float32)
    ratios = log_ratios(photo_embeddings, original_embeddings, cohort, formula)
    return Pairs(photos, originals, similarity, ratios)


def measure(pairs: Pairs, decision: Decision, draws: int) -> dict[str, Any]:
    """Every figure of a group of pairs, with 95 % intervals from a bootstrap over the photos' products.

    {"auc", "eer", "tar_at_far_1pct", "tar_at_far_0_1pct", "top1", "false_accept_rate", "false_reject_rate",
    "share_decided", "photos", "products", "interval": {figure: {"low", "high"}}, "hard": {…}}; "hard", impostors
    of the same category alone, only where there are any.
    """
    probability = decision.probability(pairs.log_ratio)

    def weighted(weights: Floats | None = None) -> dict[str, float]:
        of_pairs = None if weights is None else np.broadcast_to(weights[:, None], probability.shape)
        decided = decisions(
            probability, pairs.genuine, decision.accept_at, decision.reject_at, decision.prior_match, of_pairs
        )
        return identification(pairs.log_ratio, pairs.truth, weights) | decided

    figures: dict[str, Any] = weighted()
    figures |= {"photos": len(pairs.photos), "products": int(pairs.photos.product_id.nunique())}
    figures["interval"] = intervals(weighted, pairs.photos.product_id.to_numpy(), draws)
    figures |= hard_figures(pairs, pairs.log_ratio)
    if "hard" in figures:
        accepted = probability[pairs.hard] >= decision.accept_at
        figures["hard"]["false_accept_rate"] = float(accepted.mean())
    return figures


def hard_figures(pairs: Pairs, scores: Floats) -> dict[str, dict[str, float]]:
    """{"hard": `separation` of the genuine pairs from the hard impostors}, or {} where there are none."""
    if not pairs.hard.any():
        return {}
    chosen = pairs.hard | pairs.genuine
    return {"hard": separation(scores[chosen], pairs.genuine[chosen])}


def in_team_mix(pairs: Pairs, decision: Decision) -> tuple[Floats, Bools, Floats]:
    """Probability, genuine and weight [n] of all pairs, `prior_match` of the weight on genuine ones."""
    genuine = pairs.genuine.ravel()
    share = np.where(genuine, decision.prior_match / genuine.sum(), (1 - decision.prior_match) / (~genuine).sum())
    return decision.probability(pairs.log_ratio).ravel(), genuine, share


def by_group(pairs: Pairs, measure_group: Callable[[Pairs, Bools], Any]) -> dict[str, Any]:
    """What `measure_group` gives for photos of known products and for those of new ones, each where there are any."""
    known = pairs.photos.known.to_numpy(bool)
    groups = {"known": known, "new": ~known}
    return {name: measure_group(pairs.where(which), which) for name, which in groups.items() if which.any()}


def table(pairs: Pairs, decision: Decision) -> pa.Table:
    """A row a pair, photo by photo: the contents of pairs.parquet."""
    photos, originals = len(pairs.photos), len(pairs.originals)

    def per_pair(column: str) -> NDArray:
        return np.repeat(pairs.photos[column].to_numpy(), originals)

    return pa.table(
        {
            "photo_id": per_pair("picture_id"),
            "claimed_product_id": np.tile(pairs.originals.product_id.to_numpy(), photos),
            "product_id": per_pair("product_id"),
            "split": per_pair("split"),
            "known": per_pair("known"),
            "similarity": pairs.similarity.ravel(),
            "log_ratio": pairs.log_ratio.ravel().astype(np.float32),
            "probability": decision.probability(pairs.log_ratio).ravel(),
            "genuine": pairs.genuine.ravel(),
            "hard": pairs.hard.ravel(),
        }
    )
