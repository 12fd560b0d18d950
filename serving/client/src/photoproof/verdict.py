"""What a caller gets: a verdict, an embedding, a server's status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from photoproof.transport.calls import VersionStatus

Outcome: TypeAlias = Literal["match", "mismatch", "review", "identical"]
"""What a verdict can be."""


@dataclass(frozen=True)
class Verdict:
    """Whether a photo shows the product of an original.

    outcome is "match" (probability at or above accept_at), "mismatch" (below reject_at), "review" (between: a person
    decides) or "identical" (the photo is a copy of the original picture and the model was not asked: what comes from
    the model is None). similarity is the cosine of the two embeddings, -1 to 1, distance the length of their
    difference, 0 to 2, probability that of the same product, 0 to 1. model_version is None where the server does not
    say, as over REST; model_id names the model always. The sha256 are of the bytes that were given.
    """

    outcome: Outcome
    similarity: float | None
    distance: float | None
    probability: float | None
    accept_at: float | None
    reject_at: float | None
    model_name: str
    model_version: int | None
    model_id: str | None
    original_sha256: str
    photo_sha256: str
    reason: str


@dataclass(frozen=True, eq=False)
class Embedding:
    """An original encoded once: vector float32 [D] of length 1, good for the model named by model_id only.

    width, height and thumbnail, uint8 [32, 32, 3], are the original's; without them a photo is `identical` only where
    it is the original's bytes.
    """

    vector: np.ndarray
    model_id: str
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    thumbnail: np.ndarray | None = None


@dataclass(frozen=True)
class ServerStatus:
    """What a server serves.

    version is the one that the version or label asked for means (None: it is not available), versions are all that the
    server knows, newest first, and missing is what the model lacks of a Photoproof model (empty: nothing).
    """

    server: str
    model_name: str
    label: str | None
    version: int | None
    versions: tuple[VersionStatus, ...]
    missing: tuple[str, ...]


def decide(probability: float, accept_at: float, reject_at: float) -> tuple[Outcome, str]:
    """The outcome for a probability under both thresholds, and the reason in words."""
    shown, accept, reject = format_distinct(probability, accept_at, reject_at)
    if probability >= accept_at:
        return "match", f"probability {shown} is at or above {accept}"
    if probability < reject_at:
        return "mismatch", f"probability {shown} is below {reject}"
    return "review", f"probability {shown} is between {reject} and {accept}"


def format_distinct(*numbers: float) -> tuple[str, ...]:
    """Numbers from 0 to 1 with three digits, or as many more as it takes for those that differ to look different."""
    for digits in range(3, 9):
        texts = tuple(f"{number:.{digits}f}" for number in numbers)
        if len(set(texts)) == len(set(numbers)):
            return texts
    return tuple(str(number) for number in numbers)
