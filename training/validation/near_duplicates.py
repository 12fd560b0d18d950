"""Pictures that are nearly equal: perceptual hashes that differ in few of their 64 bits, found without all pairs."""

import itertools
from collections.abc import Iterable

import numpy as np

BITS = 64


def hash_values(hashes: Iterable[str]) -> np.ndarray:
    """Perceptual hashes of 16 hexadecimal digits as uint64."""
    return np.array([int(digits, 16) for digits in hashes], np.uint64)


def near_pairs(values: np.ndarray, distance: int) -> np.ndarray:
    """Int [2, n]: the indices of every two of the uint64 values that differ in at most so many bits, each pair once.

    Two values that differ in d bits agree in at least one of d + 1 stretches, so only those that share a stretch are
    compared (the pigeonhole principle): at the usual distance of 4, one pair in 1,000 of random values. Give equal
    values only once where there may be many: each is compared with each.
    """
    pairs = [np.zeros((2, 0), int)]
    bounds = np.linspace(0, BITS, distance + 2).astype(int)
    for low, high in itertools.pairwise(bounds.tolist()):
        stretch = (values >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(stretch, kind="stable")
        stretch, ordered = stretch[order], values[order]
        first = np.arange(len(values))
        for offset in range(1, len(values)):  # up to the longest run of equals
            first = first[first + offset < len(values)]
            first = first[stretch[first] == stretch[first + offset]]
            if not len(first):
                break
            close = first[np.bitwise_count(ordered[first] ^ ordered[first + offset]) <= distance]
            if len(close):
                pairs.append(np.sort(np.stack([order[close], order[close + offset]]), axis=0))
    return np.unique(np.concatenate(pairs, axis=1), axis=1)
