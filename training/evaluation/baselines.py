"""What a verdict would be worth without a model: four trivial ways to compare two pictures.

Each gives a score matrix float [P, J], photos against originals, higher is more alike.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.decision.log_ratio import Floats

DRAFT = 256
"""Large JPEGs are decoded at a fraction of their size, still at least this many pixels a side."""

BINS = 8
"""Levels a colour channel in the histogram."""

THUMBNAIL = 32
"""Pixels a side that raw pixels are compared at."""


@dataclass(frozen=True)
class Features:
    """What the baselines keep of N pictures."""

    pixels: NDArray[np.str_]
    """[N] digest of size and pixels."""
    hashes: NDArray[np.bool_]
    """[N, 64] perceptual hash (pHash, DCT)."""
    histograms: NDArray[np.float32]
    """[N, 512] share of pixels by colour; each row sums to 1."""
    thumbnails: NDArray[np.float32]
    """[N, 3072] pixels of the picture squashed to 32 px; each row's length is 1."""


def read_features(paths: list[Path]) -> Features:
    """Read the pictures and keep what the baselines compare."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = tqdm(pool.map(_features_of, paths), "baselines", len(paths), unit=" pictures", leave=False, disable=None)
        pixels, hashes, histograms, thumbnails = zip(*each, strict=True)
    return Features(np.array(pixels), np.array(hashes), np.array(histograms), np.array(thumbnails))


def baseline_scores(photos: Features, originals: Features) -> dict[str, Floats]:
    """Score matrices [P, J] by baseline.

    array_equal is 0 or 1, perceptual_hash the equal bits of 64, raw_pixels the cosine of the thumbnails, and
    colour_histogram the histograms' intersection, in [0, 1] (Swain and Ballard, Color Indexing, 1991).
    """
    signs = [2.0 * pictures.hashes.astype(np.float32) - 1 for pictures in (photos, originals)]
    return {
        "array_equal": (photos.pixels[:, None] == originals.pixels[None, :]).astype(np.float32),
        "perceptual_hash": (64 + signs[0] @ signs[1].T) / 2,
        "raw_pixels": photos.thumbnails @ originals.thumbnails.T,
        "colour_histogram": np.stack(
            [np.minimum(histogram, originals.histograms).sum(axis=1) for histogram in photos.histograms]
        ),
    }


def _features_of(path: Path) -> tuple[str, NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    with Image.open(path) as picture:
        picture.draft("RGB", (DRAFT, DRAFT))
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    array = np.asarray(picture)
    digest = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()
    levels = (array // (256 // BINS)).reshape(-1, 3).astype(np.int64) @ [BINS * BINS, BINS, 1]
    histogram = np.bincount(levels, minlength=BINS**3) / len(levels)
    small = np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32).ravel()
    thumbnail = small / max(float(np.linalg.norm(small)), 1.0)  # a black picture resembles no other
    return digest, imagehash.phash(picture).hash.ravel(), histogram.astype(np.float32), thumbnail
