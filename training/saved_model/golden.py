"""How far a SavedModel is from the scores that evaluation measured of its golden pairs."""

import base64
from typing import Any

import numpy as np

from training.saved_model.loading import LoadedModel

TOLERANCE = 1e-4

MEASURED = ("similarity", "distance", "probability")


def deviation(model: LoadedModel, golden: dict[str, Any]) -> float:
    """The largest difference between a score that `verify` gives now and the one measured then.

    Infinite where a picture is not decoded. A golden.json without pairs deviates by nothing.
    """
    pairs = golden["pairs"]
    if not pairs:
        return 0.0
    pictures = {
        name: np.array([base64.b64decode(pair[name]) for pair in pairs], object)
        for name in ("original_bytes", "photo_bytes")
    }
    found = model.run("verify", pictures)
    if not found["decoded"].all():
        return float("inf")
    return max(float(np.abs(found[name] - [pair[name] for pair in pairs]).max()) for name in MEASURED)
