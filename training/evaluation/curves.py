"""Curves of the test pairs as tables of points, which `dvc plots` draws and compares."""

from pathlib import Path

import numpy as np
import pandas as pd

from training.decision.decision import Decision
from training.evaluation.calibrate import reliability
from training.evaluation.metrics import roc
from training.evaluation.pairs import Pairs, by_group, in_team_mix

FALSE_ACCEPT_RATES = np.unique(np.concatenate([[0.0], np.geomspace(1e-4, 1, 81), np.linspace(0.02, 1, 50)]))
"""Where ROC and DET have points: the same for every model, and dense where an audit lives."""


def write_curves(folder: Path, tested: Pairs, decision: Decision) -> None:
    """Write roc.csv, det.csv and reliability.csv.

    ROC: the best true accept rate at each false accept rate; DET: the false reject rate that is left there; a column
    for known and one for new products, "nan" where there are none: DVC draws no plot at all if a column is missing.
    Reliability: stated and observed probability of each bin in the team's mix, and the bin's share of the pairs.
    """
    curves = by_group(tested, lambda group, _: roc(group.log_ratio.ravel(), group.genuine.ravel()))
    true_accept = pd.DataFrame(
        {name: [curve.true_accept_at(rate) for rate in FALSE_ACCEPT_RATES] for name, curve in curves.items()},
        index=pd.Index(FALSE_ACCEPT_RATES, name="false_accept_rate"),
        columns=["known", "new"],
        dtype=float,
    )
    bins, _ = reliability(*in_team_mix(tested, decision))
    for name, rates in (("roc.csv", true_accept), ("det.csv", 1 - true_accept)):
        rates.to_csv(folder / name, float_format="%.6g", na_rep="nan")
    pd.DataFrame(bins).to_csv(folder / "reliability.csv", index=False, float_format="%.6g")
