"""Leakage: photos that are copies of an original, or of a photo of another split."""

import numpy as np
import pandas as pd

from training.dataset.splits import SPLITS, splits_of
from training.stage.params import Split
from training.validation.near_duplicates import hash_values, near_pairs


def relate(pictures: pd.DataFrame, split: Split, distance: int) -> pd.DataFrame:
    """The same rows with columns of how each relates to others, from manifest columns and measurements.

    `has_original` (bool): its product has an original. For photos, else missing:
    `copies_original` (bool): it is a copy of some original, byte by byte;
    `near_original` (str): the product whose original it is equal or nearly equal to, where it is not such a copy;
    `in_other_split` (str): a photo of a later split ("train", "validation", "test", in this order) that it is equal or
    nearly equal to. So of the two the earlier split's is set aside, and the photos to measure on stay the same.
    Nearly equal: perceptual hashes differ in at most `distance` bits.
    """
    photo = (pictures.role == "photo").to_numpy()
    originals = pictures[~photo]
    copies = pictures.sha256.isin(originals.sha256)
    near_original, in_other_split = _near_others(pictures.reset_index(drop=True), photo, split, distance)
    return pictures.assign(
        has_original=pictures.product_id.isin(originals.product_id),
        copies_original=copies & photo,
        near_original=pd.Series(near_original, pictures.index, object).where(photo & ~copies, None),
        in_other_split=pd.Series(in_other_split, pictures.index, object).where(photo, None),
    )


def _near_others(pictures: pd.DataFrame, photo: np.ndarray, split: Split, distance: int) -> list[np.ndarray]:
    """Object [n] twice: for each picture the original that is near it, and the photo of a later split."""
    hashed = np.flatnonzero(pictures.perceptual_hash.notna())
    columns = [np.full(len(pictures), None, object), np.full(len(pictures), None, object)]
    if not len(hashed):
        return columns
    values, value_of = np.unique(hash_values(pictures.perceptual_hash[hashed]), return_inverse=True)
    splits = splits_of(pictures, split).split.to_numpy()
    split_rank = np.array([SPLITS.index(split) for split in splits])
    pairs = near_pairs(values, distance)
    # The picture of the highest rank of each value, then of all values near it. Rank -1: not a candidate.
    original_rank = np.where(photo, -1, 0)
    photo_rank = np.where(photo, split_rank, -1)
    for column, rank in enumerate((original_rank, photo_rank)):
        best = _best(len(values), value_of, hashed, rank)
        both = np.concatenate([pairs, pairs[::-1], np.tile(np.arange(len(values)), (2, 1))], axis=1)
        both = both[:, best[both[1]] >= 0]
        nearest = _best(len(values), both[0], best[both[1]], rank)[value_of]
        is_near = nearest >= 0
        if rank is photo_rank:
            is_near &= rank[nearest] > split_rank[hashed]
        rows, others = hashed[is_near], nearest[is_near]
        ids = pictures.picture_id.to_numpy()
        names = [ids[other] if rank is original_rank else f"{ids[other]} of {splits[other]}" for other in others]
        columns[column][rows] = names
    return columns


def _best(groups: int, group: np.ndarray, pictures: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Int [groups]: of each group the picture of the highest rank, the first of several; -1: none of rank 0 or more."""
    best = np.full(groups, -1)
    candidate = rank[pictures] >= 0
    group, pictures = group[candidate], pictures[candidate]
    order = np.lexsort((-pictures, rank[pictures]))  # of places written twice, the last stays
    best[group[order]] = pictures[order]
    return best
