"""Probability of a log-ratio, and the thresholds on it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from training.decision.log_ratio import Floats, LogRatio
from training.stage.errors import BadInput


@dataclass(frozen=True)
class Decision:
    """Everything between embeddings and a verdict, besides the cohort."""

    slope: float
    intercept: float
    """Log-odds at log_ratio 0 where genuine and impostor pairs are equally many."""
    formula: LogRatio
    """How cosines become the log-ratio."""
    prior_match: float
    accept_at: float
    """A pair matches where its probability is at least this."""
    reject_at: float
    """A pair mismatches where its probability is below this."""
    false_accept_rate: float
    """What accept_at was set for, on the validation pairs."""
    false_reject_rate: float
    """What reject_at was set for, on the validation pairs."""
    data_version: str | None

    def probability(self, log_ratio: Floats) -> NDArray[np.float32]:
        """Calibrated probability that photo and original show one product, as a verdict has it."""
        return platt(log_ratio, self.slope, self.intercept, self.prior_match)

    def outcome(self, probability: float) -> str:
        """What a verdict says at a probability: "match", "mismatch" or "review"."""
        if probability >= self.accept_at:
            return "match"
        return "mismatch" if probability < self.reject_at else "review"

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Decision":
        """Read what `write` wrote."""
        facts = json.loads(path.read_text())
        try:
            return cls(**facts | {"formula": LogRatio(**facts["formula"])})
        except (KeyError, TypeError) as error:
            raise BadInput(f"{path} is of another version ({error}): run `dvc repro evaluate`") from None


def platt(log_ratio: Floats, slope: float, intercept: float, prior_match: float) -> NDArray[np.float32]:
    """sigmoid(slope · log_ratio + intercept + logit(prior_match)), float32."""
    return expit(slope * np.asarray(log_ratio, np.float64) + intercept + logit(prior_match)).astype(np.float32)
