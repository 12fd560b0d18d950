"""The test photos cut by what they are: which are easy and which are hard."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from training.decision.decision import Decision
from training.decision.log_ratio import Bools
from training.evaluation.metrics import decisions, separation
from training.evaluation.pairs import Pairs, by_group

LEAST = 20
"""Genuine pairs below which a slice's figures are not stated: only how many photos it has."""

SIDES = (256, 512, 1024)
"""Pixels of the shorter side at which sizes are cut, the same in every data version."""


def slice_figures(pairs: Pairs, decision: Decision) -> dict[str, dict[str, dict[str, Any]]]:
    """{cut: {slice: {"known": figures, "new": figures}}} of test pairs; a group without photos is left out.

    Figures are {"photos", "products", "auc", "tar_at_far_1pct", "share_decided"}, of the slice's photos against all
    originals, at thresholds of the whole; below LEAST photos {"photos", "products"} alone.
    """
    return {
        cut: {name: by_group(pairs.where(which), lambda group, _: _figures(group, decision)) for name, which in slices}
        for cut, slices in cuts(pairs).items()
    }


def cuts(pairs: Pairs) -> dict[str, list[tuple[str, Bools]]]:
    """The slices, [P] each, by what they cut: category, size of photo and of original, light.

    Size and light are as validation measured them, and left out where it did not. A photo's size is that of its
    shorter side. Light is cut into thirds of these photos.
    """
    photos, own = pairs.photos, pairs.originals.iloc[pairs.truth]
    category = photos.category.to_numpy(str)
    slices = {"category": [(name, category == name) for name in np.unique(category[category != ""])]}
    for name, rows in (("photo size", photos), ("original size", own)):
        if {"width", "height"} <= set(rows.columns):
            slices[name] = _by_size(rows)
    if "light_mean" in photos.columns:
        slices["light"] = _by_third(photos.light_mean.to_numpy(float))
    filled = {cut: [(name, which) for name, which in parts if which.any()] for cut, parts in slices.items()}
    return {cut: parts for cut, parts in filled.items() if parts}


def _by_size(rows: pd.DataFrame) -> list[tuple[str, Bools]]:
    side = rows[["width", "height"]].to_numpy().min(axis=1)
    names = [f"under {SIDES[0]} px"]
    names += [f"{low:,} to {high - 1:,} px" for low, high in pairwise(SIDES)]
    names += [f"{SIDES[-1]:,} px and more"]
    return [(name, np.digitize(side, SIDES) == index) for index, name in enumerate(names)]


def _by_third(light: np.ndarray) -> list[tuple[str, Bools]]:
    low, high = np.quantile(light, [1 / 3, 2 / 3])
    return [
        (f"darkest third (mean light up to {low:.2f})", light <= low),
        ("middle third", (light > low) & (light <= high)),
        (f"lightest third (above {high:.2f})", light > high),
    ]


def _figures(pairs: Pairs, decision: Decision) -> dict[str, Any]:
    counts = {"photos": len(pairs.photos), "products": int(pairs.photos.product_id.nunique())}
    if len(pairs.photos) < LEAST:
        return counts
    separated = separation(pairs.log_ratio.ravel(), pairs.genuine.ravel())
    probability = decision.probability(pairs.log_ratio)
    decided = decisions(probability, pairs.genuine, decision.accept_at, decision.reject_at, decision.prior_match)
    return counts | {
        "auc": separated["auc"],
        "tar_at_far_1pct": separated["tar_at_far_1pct"],
        "share_decided": decided["share_decided"],
    }
