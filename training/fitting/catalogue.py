"""The pictures that train and validate, as arrays of paths and products."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from training.dataset.manifest import read_manifest
from training.dataset.splits import assign_splits
from training.model.images import read_pictures
from training.stage.errors import BadInput
from training.stage.params import Params
from training.stage.places import ACCEPTED, DATA


@dataclass(frozen=True)
class Catalogue:
    """Pictures in a fixed order: the originals, one a product, then their photos."""

    paths: tuple[str, ...]
    products: np.ndarray
    """int32, which product each picture shows; product i's original is picture i."""
    count: int
    """How many originals."""

    @property
    def photos(self) -> int:
        """How many photos."""
        return len(self.paths) - self.count


def read_splits(root: Path, params: Params) -> pd.DataFrame:
    """What validation accepted, with `known` and `split`. Raises BadInput where it is missing or a split is empty."""
    if not (root / ACCEPTED).is_file():
        raise BadInput(f"{ACCEPTED} not found: run `dvc repro validate`")
    return assign_splits(read_manifest(root / ACCEPTED), params.split)


def catalogue_of(root: Path, rows: pd.DataFrame, photos_in: str) -> Catalogue:
    """The originals in `rows`, and their photos that are in the split `photos_in`.

    A photo whose product's original was set aside by validation can't be compared and is left out.
    """
    originals = _sorted(rows, rows.role == "original")
    number = {product: index for index, product in enumerate(originals.product_id)}
    photos = _sorted(rows, (rows.role == "photo") & (rows.split == photos_in) & rows.product_id.isin(list(number)))
    pictures = pd.concat([originals, photos])
    return Catalogue(
        tuple(str(root / DATA / path) for path in pictures.path),
        pictures.product_id.map(number).to_numpy(np.int32),
        len(originals),
    )


def _sorted(rows: pd.DataFrame, which: pd.Series) -> pd.DataFrame:
    return rows.loc[which].sort_values("picture_id")


def read_all(paths: tuple[str, ...], size: int) -> tf.Tensor:
    """Decode files into uint8 [N, size, size, 3]."""
    pictures = read_pictures(paths, size).map(lambda picture: tf.cast(tf.round(picture * 255.0), tf.uint8))
    return pictures.batch(len(paths)).get_single_element()
