"""A claim judged against the whole catalogue: the log-ratio.

With s the cosine of photo and claimed original and s_k those of the photo and the cohort (the embeddings of the data
version's originals),

    log_ratio = log( exp(s'/T) / (exp(s'/T) + Σ_k exp(s'_k/T)) )

The claimed original's own copy in the cohort is left out of the sum: at most the one row nearest to it, and only
above `own_copy_cosine`. Without a cohort log_ratio is s/T, the plain cosine.

An encoder draws any photo towards the products whose photos it was trained on, and theirs nearest of all: for these
products s' = pivot + stretch · (s − pivot), with the pivot a cosine that their own photos reach; for all others
s' = s. training/saved_model/graph.py says the same in TensorFlow; tests hold the two equal.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from training.stage.errors import BadInput

Floats = NDArray[np.floating]

Bools = NDArray[np.bool_]


PIVOT_QUANTILE = 0.95
"""Of the cosines of trained products' validation photos with their originals: the pivot."""


@dataclass(frozen=True)
class Cohort:
    """The originals that a claim is judged against."""

    embeddings: Floats
    """Float32 [M, D], L2-normalised; M = 0 for none."""
    trained: Bools
    """Bool [M]: whether photos of the product trained the encoder."""
    product_ids: NDArray[np.str_]
    """[M]."""

    def write(self, path: Path) -> None:
        """Write as .npz."""
        np.savez(path, embeddings=self.embeddings, trained=self.trained, product_ids=self.product_ids)

    @classmethod
    def read(cls, path: Path) -> "Cohort":
        """Read what `write` wrote. Raises BadInput for another version's file."""
        try:
            with np.load(path) as arrays:
                return cls(arrays["embeddings"], arrays["trained"], arrays["product_ids"])
        except KeyError as error:
            raise BadInput(f"{path} is of another version ({error}): run `dvc repro evaluate`") from None


@dataclass(frozen=True)
class LogRatio:
    """The formula's constants. Raises BadInput for a temperature or a stretch that is not above 0."""

    temperature: float
    own_copy_cosine: float
    stretch: float = 1.0
    pivot: float = 1.0

    def __post_init__(self) -> None:
        for name, value in [("temperature", self.temperature), ("trained_stretch", self.stretch)]:
            if not value > 0:
                raise BadInput(f"params.yaml: evaluate.{name} must be above 0, not {value}")

    def stretched(self, cosine: NDArray[np.float64], trained: Bools) -> NDArray[np.float64]:
        """The cosines [..., J], those of trained originals (bool [J]) stretched."""
        return np.where(trained, self.pivot + self.stretch * (cosine - self.pivot), cosine)


def own_copies(originals: Floats, cohort: Floats, own_copy_cosine: float) -> NDArray[np.intp]:
    """Int [J]: the cohort's row that is the original's own copy, -1 where none is near enough.

    originals [J, D] and cohort [M, D] are L2-normalised.
    """
    if not len(cohort):
        return np.full(len(originals), -1)
    cosine = originals @ cohort.T
    nearest = cosine.argmax(axis=1)
    return np.where(cosine.max(axis=1) > own_copy_cosine, nearest, -1)


def with_pivot(formula: LogRatio, trained_cosines: Floats) -> LogRatio:
    """The formula with the pivot of trained products' genuine cosines [n]; without any, nothing is stretched."""
    if not len(trained_cosines):
        return dataclasses.replace(formula, stretch=1.0, pivot=1.0)
    return dataclasses.replace(formula, pivot=float(np.quantile(trained_cosines, PIVOT_QUANTILE)))


def log_ratios(photos: Floats, originals: Floats, cohort: Cohort, formula: LogRatio) -> NDArray[np.float64]:
    """Float [P, J]: log_ratio of every photo [P, D] with every original [J, D] over the cohort."""
    photos = photos.astype(np.float64)
    own = own_copies(originals, cohort.embeddings, formula.own_copy_cosine)
    trained = (own >= 0) & cohort.trained[own] if len(cohort.trained) else own >= 0
    claimed = formula.stretched(photos @ originals.astype(np.float64).T, trained) / formula.temperature
    if not len(cohort.embeddings):
        return claimed
    of_cohort = formula.stretched(photos @ cohort.embeddings.astype(np.float64).T, cohort.trained) / formula.temperature
    empty = np.full((len(photos), 1), -np.inf)
    # log-sums of the rows before and of those after each row: without subtracting, which would cancel
    before = np.hstack([empty, np.logaddexp.accumulate(of_cohort, axis=1)])
    after = np.hstack([np.logaddexp.accumulate(of_cohort[:, ::-1], axis=1)[:, ::-1], empty])
    rivals = np.where(
        own >= 0, np.logaddexp(before[:, own], after[:, own + 1]), logsumexp(of_cohort, axis=1, keepdims=True)
    )
    return -np.logaddexp(0.0, rivals - claimed)
