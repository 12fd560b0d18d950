"""What a version was evaluated on, kept with it in MLflow: its held-out pairs, and which pictures trained it.

A later version is compared with it on the pairs that both have measured, whatever has become of data/ since.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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


class PairCounts(NamedTuple):
    """How pairs came out: float [P], a product an element, or [n] sums over products."""

    genuine: NDArray[np.floating]
    genuine_decided: NDArray[np.floating]
    """Accepted or rejected, without a person."""
    genuine_rejected: NDArray[np.floating]
    impostor: NDArray[np.floating]
    impostor_decided: NDArray[np.floating]
    impostor_accepted: NDArray[np.floating]

    def weighted(self, weights: NDArray[np.floating]) -> "PairCounts":
        """Sums over products by float [n, P] weights."""
        return PairCounts(*(weights @ counts for counts in self))


def write_evidence(reports: Path, facts: dict[str, Any], folder: Path) -> bool:
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
            in_cohort = pictures.product_id.isin(arrays["product_ids"])
        pictures["cohort"] = in_cohort & (pictures.role == "original")
        columns.append("cohort")
    pictures[columns].to_parquet(folder / PICTURES, index=False, compression="zstd")
    distributions = reports.parent / places.DISTRIBUTIONS
    if distributions.is_file():
        shutil.copyfile(distributions, folder / DISTRIBUTIONS)
    pairs = pd.read_parquet(evaluated)
    pairs[pairs.split == "test"].to_parquet(folder / PAIRS, index=False, compression="zstd")
    return True


def read_evidence(folder: Path, facts: dict[str, Any]) -> Evidence:
    """What `write_evidence` wrote, with the thresholds and rates of the model's own facts."""
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


def common_pairs(model: Evidence, champion: Evidence) -> tuple[Evidence, Evidence]:
    """Both, with only those pairs that both have measured, in one order; the model says which of them are genuine.

    A photo whose genuine pair is not among them (its original has changed) is left out.
    """
    columns = [*KEY, "probability", "known"]
    both = model.pairs.merge(champion.pairs[columns], on=KEY, suffixes=("", "_champion"))
    both = both[both.photo_id.isin(both.photo_id[both.genuine])]
    pairs = both.drop(columns=["probability_champion", "known_champion"])
    champions = pairs.assign(probability=both.probability_champion, known=both.known_champion)
    return dataclasses.replace(model, pairs=pairs), dataclasses.replace(champion, pairs=champions)


def list_trained_on(model: Evidence, champion: Evidence) -> list[str]:
    """Photos of common pairs that one of both trained on, or whose product is new to only one of both."""
    seen = model.pairs.photo_sha256.isin(model.trained | champion.trained)
    unequal = model.pairs.known.to_numpy(bool) != champion.pairs.known.to_numpy(bool)
    return sorted(model.pairs.photo_id[seen | unequal].unique())


def count_pairs(evidence: Evidence, products: np.ndarray) -> PairCounts:
    """How the pairs of each of `products` (the photos' truth, [P]) came out, at the evidence's thresholds."""
    pairs = evidence.pairs
    product = pd.Index(products).get_indexer(pd.Index(pairs.product_id))
    genuine = pairs.genuine.to_numpy(bool)
    accepted = (pairs.probability >= evidence.accept_at).to_numpy()
    rejected = (pairs.probability < evidence.reject_at).to_numpy()
    decided = accepted | rejected

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.floating]:
        return np.bincount(product[chosen], minlength=len(products)).astype(float)

    return PairCounts(
        genuine=count(genuine),
        genuine_decided=count(genuine & decided),
        genuine_rejected=count(genuine & rejected),
        impostor=count(~genuine),
        impostor_decided=count(~genuine & decided),
        impostor_accepted=count(~genuine & accepted),
    )
