"""What a version was judged by, kept with it in MLflow: its held-out pairs, and which pictures trained it.

A later version is compared with it on the pairs that both have measured, whatever has become of data/ since.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.dataset.manifest import read_manifest
from training.dataset.splits import assign_splits
from training.stage import places
from training.stage.params import Evaluate, Split

PAIRS, PICTURES, DISTRIBUTIONS = "pairs.parquet", "pictures.parquet", "distributions.json"

KEY = ["photo_id", "claimed_product_id", "photo_sha256", "original_sha256"]
"""A pair is the same in two data versions where the ids and the bytes of both pictures are."""


@dataclass(frozen=True)
class Evidence:
    """A version's held-out pairs and the promises that they are held to."""

    pairs: pd.DataFrame
    """A row a pair: KEY, product_id (the photo's truth), category, known, genuine, probability."""
    trained: frozenset[str]
    """SHA-256 of the photos that trained."""
    accept_at: float
    reject_at: float
    false_accept_rate: float
    """The rate that the team stated, as `false_reject_rate` and `prior_match` are."""
    false_reject_rate: float
    prior_match: float


def gather(reports: Path, facts: dict[str, Any], folder: Path) -> bool:
    """Write the evidence for the model of `facts` (its model.json) into a folder, which is made.

    False, and nothing written, where reports/ has no evaluation (a model that was registered by hand).
    """
    evaluated, accepted = reports / "evaluation" / PAIRS, reports / "validation" / "accepted.parquet"
    if not (evaluated.is_file() and accepted.is_file()):
        return False
    split = Split(**(facts.get("params") or {}).get("split", {}))
    pictures = assign_splits(read_manifest(accepted), split)
    folder.mkdir(parents=True)
    columns = ["role", "picture_id", "product_id", "category", "sha256", "known", "split"]
    cohort = reports.parent / "models" / "decision" / "cohort.npz"
    if cohort.is_file():
        with np.load(cohort) as arrays:
            against = pictures.product_id.isin(arrays["product_ids"])
        pictures["cohort"] = against & (pictures.role == "original")
        columns.append("cohort")
    pictures[columns].to_parquet(folder / PICTURES, index=False, compression="zstd")
    distributions = reports.parent / places.DISTRIBUTIONS
    if distributions.is_file():
        shutil.copyfile(distributions, folder / DISTRIBUTIONS)
    pairs = pd.read_parquet(evaluated)
    pairs[pairs.split == "test"].to_parquet(folder / PAIRS, index=False, compression="zstd")
    return True


def read(folder: Path, facts: dict[str, Any]) -> Evidence:
    """What `gather` wrote, with the thresholds and rates of the model's own facts."""
    pictures = pd.read_parquet(folder / PICTURES)
    photos = pictures[pictures.role == "photo"]
    originals = pictures[pictures.role == "original"].set_index("product_id")
    pairs = pd.read_parquet(folder / PAIRS)
    of_photo = photos.set_index("picture_id")
    rates = {"false_accept_rate", "false_reject_rate", "prior_match"}
    stated = (facts.get("params") or {}).get("evaluate", {})
    return Evidence(
        pairs.assign(
            photo_sha256=pairs.photo_id.map(of_photo.sha256),
            original_sha256=pairs.claimed_product_id.map(originals.sha256),
            category=pairs.photo_id.map(of_photo.category),
        ),
        frozenset(photos.sha256[photos.split == "train"]),
        facts["accept_at"],
        facts["reject_at"],
        **{name: float(stated.get(name, getattr(Evaluate(), name))) for name in rates},
    )


def common(mine: Evidence, theirs: Evidence) -> tuple[Evidence, Evidence]:
    """Both, with only those pairs that both have measured, in one order; which of them are genuine, `mine` says.

    A photo whose genuine pair is not among them (its original has changed) is left out.
    """
    both = mine.pairs.merge(theirs.pairs[[*KEY, "probability", "known"]], on=KEY, suffixes=("", "_theirs"))
    both = both[both.photo_id.isin(both.photo_id[both.genuine])]
    own = both.drop(columns=["probability_theirs", "known_theirs"])
    other = own.assign(probability=both.probability_theirs, known=both.known_theirs)
    return dataclasses.replace(mine, pairs=own), dataclasses.replace(theirs, pairs=other)


def trained_on(mine: Evidence, theirs: Evidence) -> list[str]:
    """Photos of common pairs that one of both trained on, or whose product is new to only one of both."""
    seen = mine.pairs.photo_sha256.isin(mine.trained | theirs.trained)
    unequal = mine.pairs.known.to_numpy(bool) != theirs.pairs.known.to_numpy(bool)
    return sorted(mine.pairs.photo_id[seen | unequal].unique())


def tally(evidence: Evidence, products: np.ndarray) -> np.ndarray:
    """Float [P, 6]: a row for each of `products` (the photos' truth), of how its pairs came out.

    Columns: genuine pairs, decided ones, rejected ones; impostor pairs, decided ones, accepted ones.
    """
    pairs = evidence.pairs
    row = pd.Index(products).get_indexer(pd.Index(pairs.product_id))
    genuine = pairs.genuine.to_numpy(bool)
    accepted = (pairs.probability >= evidence.accept_at).to_numpy()
    rejected = (pairs.probability < evidence.reject_at).to_numpy()
    decided = accepted | rejected
    columns = [genuine, genuine & decided, genuine & rejected, ~genuine, ~genuine & decided, ~genuine & accepted]
    return np.stack([np.bincount(row[one], minlength=len(products)) for one in columns], axis=1).astype(float)
