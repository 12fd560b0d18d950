"""Golden pairs: pictures whose scores evaluation measured, and which every later load of the model must reproduce."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from training.dataset.draws import hash_to_unit
from training.decision.decision import Decision
from training.decision.log_ratio import Floats
from training.evaluation.pairs import Pairs

LIGHT = 512 * 1024
"""Bytes of a picture that is taken before heavier ones: golden pairs travel with every version."""


def choose_golden_pairs(
    data: Path, pairs: Pairs, of_originals: Floats, of_photos: Floats, decision: Decision, count: int
) -> list[dict[str, Any]]:
    """The pairs of golden.json: test pairs, half genuine, half against the likeliest impostor, with their scores.

    Pictures are read from `data`; embeddings are [J, D] and [P, D].
    """
    probability = decision.probability(pairs.log_ratio)
    size = {path: (data / path).stat().st_size for path in [*pairs.photos.path, *pairs.originals.path]}
    heavy_original = np.array([size[path] > LIGHT for path in pairs.originals.path])
    heavy = np.array([size[path] > LIGHT for path in pairs.photos.path]) | heavy_original[pairs.truth]
    order = np.argsort([hash_to_unit("golden", str(photo)) for photo in pairs.photos.picture_id], kind="stable")
    order = order[np.argsort(heavy[order], kind="stable")]
    likeliest = np.where(pairs.genuine, -2, probability - heavy_original).argmax(axis=1)
    golden = []
    for index, row in enumerate(order[:count]):
        column = likeliest[row] if index % 2 else pairs.truth[row]
        photo, original = pairs.photos.iloc[row], pairs.originals.iloc[column]
        golden.append(
            {
                "photo_id": photo.picture_id,
                "product_id": original.product_id,
                "genuine": bool(pairs.genuine[row, column]),
                "original_bytes": base64.b64encode((data / original.path).read_bytes()).decode(),
                "photo_bytes": base64.b64encode((data / photo.path).read_bytes()).decode(),
                "similarity": float(pairs.similarity[row, column]),
                "distance": float(np.linalg.norm(of_originals[column] - of_photos[row])),
                "probability": float(probability[row, column]),
            }
        )
    return golden
