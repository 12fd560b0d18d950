"""What a training run measures on the validation split from time to time, and when that ends the run."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from training.fitting import catalogue, sheets
from training.model.autoencoder import Autoencoder
from training.stage.params import Train
from training.stage.places import DATA

AUC = "validation_auc_"
MOST_PHOTOS = 512
MOST_ORIGINALS = 4096
"""Originals that photos are compared with, besides the photos' own."""


class ValidationSample:
    """The validation split's photos and the originals to compare them with; steers nothing but where training ends.

    Of more than MOST_PHOTOS photos and MOST_ORIGINALS originals so many are chosen, the same for a seed. They are
    decoded at the first measurement and stay in memory: workers that measure nothing hold nothing.
    """

    def __init__(self, root: Path, rows: pd.DataFrame, model: Autoencoder, settings: Train):
        pictures = catalogue.catalogue_of(root, rows.loc[rows.known | (rows.split == "validation")], "validation")
        photos, originals = np.arange(pictures.count, len(pictures.paths)), np.arange(pictures.count)
        rng = np.random.default_rng(settings.seed)
        if len(photos) > MOST_PHOTOS:
            photos = rng.choice(photos, MOST_PHOTOS, replace=False)
        if len(originals) > MOST_ORIGINALS:
            chosen = rng.choice(originals, MOST_ORIGINALS, replace=False)
            originals = np.union1d(chosen, pictures.products[photos])
        self._products = np.searchsorted(originals, pictures.products[photos])
        known = set(rows[rows.known & (rows.role == "original")].path)
        paths = [pictures.paths[number] for number in originals]
        self._known = np.array([str(Path(path).relative_to(root / DATA).as_posix()) in known for path in paths])
        self._paths = tuple(paths), tuple(pictures.paths[number] for number in photos)
        self._size = settings.image_size
        self._model = model

    @cached_property
    def _originals(self) -> tf.Tensor:
        return catalogue.read_all(self._paths[0], self._size)

    @cached_property
    def _photos(self) -> tf.Tensor:
        return catalogue.read_all(self._paths[1], self._size)

    def measure_aucs(self) -> dict[str, float]:
        """ROC-AUC of genuine against impostor pairs by cosine, for photos of known and of new products."""
        cosines = self._encode(self._photos) @ self._encode(self._originals).T
        genuine = self._products[:, None] == np.arange(cosines.shape[1])
        aucs = {}
        for group, is_known in (("known", True), ("new", False)):
            photos = self._known[self._products] == is_known
            if photos.any():
                aucs[AUC + group] = float(roc_auc_score(genuine[photos].ravel(), cosines[photos].ravel()))
        return aucs

    def write_reconstructions(self, path: Path) -> None:
        """Write a PNG of up to 12 photos, always the same: originals, photos, and what the decoder draws of them."""
        chosen = np.linspace(0, len(self._products) - 1, min(12, len(self._products))).astype(int)
        photos = tf.cast(tf.gather(self._photos, chosen), tf.float32) / 255.0
        drawn = self._model.decoder(self._model.encoder(photos, training=False), training=False)
        originals = tf.cast(tf.gather(self._originals, self._products[chosen]), tf.float32) / 255.0
        side = self._model.train.decoded_size
        above = [sheets.resize(pictures.numpy(), side) for pictures in (originals, photos)]
        sheets.write_picture_grid([*above, tf.cast(drawn, tf.float32).numpy()], path)

    def _encode(self, pictures: tf.Tensor) -> np.ndarray:
        chunks = [tf.cast(pictures[at : at + 64], tf.float32) / 255.0 for at in range(0, len(pictures), 64)]
        return np.concatenate([self._model.encoder(chunk, training=False).numpy() for chunk in chunks])


def measurements_since_best(history: list[dict[str, float]]) -> int:
    """How many measurements came after the one with the best mean of AUCs."""
    means = [np.mean(aucs) for epoch in history if (aucs := [epoch[key] for key in epoch if key.startswith(AUC)])]
    return len(means) - 1 - int(np.argmax(means)) if means else 0


def out_of_patience(history: list[dict[str, float]], patience: int) -> bool:
    """Whether `patience` measurements have brought nothing better; never where it is 0."""
    return bool(patience) and measurements_since_best(history) >= patience
