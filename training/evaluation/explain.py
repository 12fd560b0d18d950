"""Why a pair scores as it does: what of the photo speaks for the claim or against it, and what the latent kept.

An occlusion map (Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014): a soft grey patch
slides over the photo, and what the verdict's log-odds lose where it lies is what that place said for the claim.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.decision.decision import Decision
from training.decision.log_ratio import Cohort, Floats, log_ratios
from training.model.autoencoder import Autoencoder, load
from training.stage.errors import BadInput
from training.stage.places import AUTOENCODER, COHORT_FILE, DECISION, DECISION_FILE

ACROSS = 10
"""Places of the patch across the photo, and down."""

REACH = 0.09
"""Standard deviation of the soft patch, in widths of the photo."""

BATCH = 50
NEAREST = 3


@dataclass(frozen=True)
class PairScorer:
    """The parts that score a pair: networks, cohort and decision."""

    autoencoder: Autoencoder
    cohort: Cohort
    decision: Decision

    @property
    def size(self) -> int:
        """Pixels a side of what the encoder sees."""
        return self.autoencoder.train.image_size


@dataclass(frozen=True)
class Explanation:
    """A pair, its scores, and where they come from. Pictures are float32 [s, s, 3] in [0, 1]."""

    original: NDArray[np.float32]
    photo: NDArray[np.float32]
    evidence: NDArray[np.float32]
    """[S, S] log-odds that the verdict loses where the photo is covered: above 0 for the claim, below against it."""
    drawn_photo: NDArray[np.float32]
    """What the decoder makes of the photo."""
    drawn_original: NDArray[np.float32]
    """What the decoder makes of the original."""
    similarity: float
    log_ratio: float
    probability: float
    outcome: str
    nearest: list[tuple[str, float]]
    """Products of the cohort that the photo is most like, with their cosines."""

    def figures(self) -> dict[str, Any]:
        """The scores as JSON takes them, with the strongest places, in shares of the photo's width and height."""
        return {
            "outcome": self.outcome,
            "similarity": self.similarity,
            "log_ratio": self.log_ratio,
            "probability": self.probability,
            "speaks_for": _strongest(self.evidence),
            "speaks_against": _strongest(-self.evidence),
            "nearest": [{"product_id": product, "similarity": cosine} for product, cosine in self.nearest],
        }


def read_pair_scorer(root: Path) -> PairScorer:
    """The scorer of a workspace's pairs: models/autoencoder and models/decision.

    Raises BadInput where one is missing, or they don't belong together.
    """
    folder = root / DECISION
    autoencoder = load(root / AUTOENCODER)
    try:
        decision = Decision.read(folder / DECISION_FILE)
        cohort = Cohort.read(folder / COHORT_FILE)
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} not found: run `dvc repro evaluate`") from None
    if len(cohort.embeddings) and cohort.embeddings.shape[1] != autoencoder.encoder.output_shape[-1]:
        raise BadInput(f"{folder} belongs to another model than {AUTOENCODER}: run `dvc repro evaluate`")
    return PairScorer(autoencoder, cohort, decision)


def explain(scorer: PairScorer, original: NDArray[np.float32], photo: NDArray[np.float32]) -> Explanation:
    """Explain a pair of pictures float32 [S, S, 3], as the one decode gives them."""
    decision = scorer.decision
    whole = _embed(scorer.autoencoder.encoder, np.stack([original, photo]))
    weights = _patches(scorer.size)
    covered = [_covered(photo, weights[start : start + BATCH]) for start in range(0, len(weights), BATCH)]
    seen = np.concatenate([whole[1:], *(_embed(scorer.autoencoder.encoder, photos) for photos in covered)])
    ratios = log_ratios(seen, whole[:1], scorer.cohort, decision.formula)[:, 0]
    lost = decision.slope * (ratios[0] - ratios[1:])
    evidence = np.tensordot(lost, weights, 1) / weights.sum(axis=0)
    drawn = np.asarray(scorer.autoencoder.decoder(whole, training=False), np.float32)
    rivals = scorer.cohort.embeddings
    cosines = rivals @ whole[1] if len(rivals) else np.zeros(0)
    probability = float(decision.probability(ratios[:1])[0])
    return Explanation(
        original=original,
        photo=photo,
        evidence=evidence.astype(np.float32),
        drawn_photo=drawn[1],
        drawn_original=drawn[0],
        similarity=float(np.clip(whole[0] @ whole[1], -1, 1)),
        log_ratio=float(ratios[0]),
        probability=probability,
        outcome=decision.outcome(probability),
        nearest=[(str(scorer.cohort.product_ids[row]), float(cosines[row])) for row in np.argsort(-cosines)[:NEAREST]],
    )


def _patches(size: int) -> NDArray[np.float32]:
    """[ACROSS², size, size] in [0, 1]: how much of each pixel a patch covers, place by place."""
    centres = (np.arange(ACROSS) + 0.5) / ACROSS
    line = np.exp(-0.5 * ((np.arange(size) + 0.5)[None] / size - centres[:, None]) ** 2 / REACH**2)
    along = np.clip(1.5 * line, 0, 1).astype(np.float32)  # whole in the middle, soft at the edge
    return np.einsum("ay,bx->abyx", along, along).reshape(-1, size, size)


def _covered(photo: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return photo + weights[..., None] * (photo.mean(axis=(0, 1)) - photo)


def _embed(encoder: keras.Model, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors = np.asarray(encoder(pictures, training=False), np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _strongest(evidence: Floats) -> dict[str, float]:
    row, column = np.unravel_index(int(evidence.argmax()), evidence.shape)
    side = evidence.shape[0]
    return {"log_odds": max(0.0, float(evidence.max())), "x": float(column / side), "y": float(row / side)}
