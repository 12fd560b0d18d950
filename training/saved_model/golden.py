"""How far a SavedModel is from the scores that evaluation measured of its golden pairs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from training.saved_model.assets import golden_pictures

if TYPE_CHECKING:
    from training.saved_model.loading import LoadedModel

TOLERANCE = 1e-4
"""How far a golden pair's score may be from the one that evaluation measured."""

MEASURED = ("similarity", "distance", "probability")


def golden_difference(model: "LoadedModel", pairs: list[dict[str, Any]]) -> float:
    """The largest difference between a score that `verify` gives now and the one that evaluation measured.

    Infinite where a picture is not decoded, 0 without pairs.
    """
    if not pairs:
        return 0.0
    originals, photos = zip(*map(golden_pictures, pairs), strict=True)
    scores = model.run(
        "verify", {"original_bytes": np.array(originals, object), "photo_bytes": np.array(photos, object)}
    )
    if not scores["decoded"].all():
        return float("inf")
    return max(float(np.abs(scores[name] - [pair[name] for pair in pairs]).max()) for name in MEASURED)
