"""Golden pairs: pictures whose scores evaluation measured, and which every later load of the model must reproduce."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from training.dataset.draws import hash_to_unit
from training.decision.decision import Decision
from training.decision.log_ratio import Floats
from training.evaluation.pairs import Pairs
from training.saved_model.golden import TOLERANCE

LIGHT = 512 * 1024
"""Bytes of a picture that is taken before heavier ones: golden pairs travel with every version."""


def choose(
    data: Path, pairs: Pairs, of_originals: Floats, of_photos: Floats, decision: Decision, count: int
) -> dict[str, Any]:
    """The contents of golden.json: test pairs, half genuine, half against the likeliest impostor, with their scores.

    Pictures are read from `data`; embeddings are [J, D] and [P, D].
    """
    chances = decision.probability(pairs.log_ratio)
    weigh = {path: (data / path).stat().st_size for path in [*pairs.photos.path, *pairs.originals.path]}
    heavier = np.array([weigh[path] > LIGHT for path in pairs.originals.path])
    heavy = np.array([weigh[path] > LIGHT for path in pairs.photos.path]) | heavier[pairs.truth]
    order = np.argsort([hash_to_unit("golden", str(one)) for one in pairs.photos.picture_id], kind="stable")
    order = order[np.argsort(heavy[order], kind="stable")]
    likeliest = np.where(pairs.genuine, -2, chances - heavier).argmax(axis=1)
    found = []
    for index, row in enumerate(order[:count]):
        column = likeliest[row] if index % 2 else pairs.truth[row]
        photo, original = pairs.photos.iloc[row], pairs.originals.iloc[column]
        found.append(
            {
                "photo_id": photo.picture_id,
                "product_id": original.product_id,
                "genuine": bool(pairs.genuine[row, column]),
                "original_bytes": base64.b64encode((data / original.path).read_bytes()).decode(),
                "photo_bytes": base64.b64encode((data / photo.path).read_bytes()).decode(),
                "similarity": float(pairs.similarity[row, column]),
                "distance": float(np.linalg.norm(of_originals[column] - of_photos[row])),
                "probability": float(chances[row, column]),
            }
        )
    return {"tolerance": TOLERANCE, "pairs": found}
