"""The look at the validation split that a training run takes from time to time, and what it decides: when to end."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from training.fitting import catalogue, sheets
from training.model.autoencoder import Autoencoder
from training.stage.params import Train

AUC = "validation_auc_"
MOST_PHOTOS = 512
MOST_ORIGINALS = 4096
"""Against which photos are held, besides the photos' own."""


class Look:
    """The validation split's photos against the originals: a look, which steers nothing but where training ends.

    Of more than MOST_PHOTOS photos and MOST_ORIGINALS originals it takes so many, the same for a seed. They are held
    in memory, decoded, from the first look on: workers that take none hold none.
    """

    def __init__(self, root: Path, rows: pd.DataFrame, model: Autoencoder, settings: Train):
        everything = catalogue.catalogue_of(root, rows.loc[rows.known | (rows.split == "validation")], "validation")
        photos, originals = np.arange(everything.count, len(everything.paths)), np.arange(everything.count)
        rng = np.random.default_rng(settings.seed)
        if len(photos) > MOST_PHOTOS:
            photos = rng.choice(photos, MOST_PHOTOS, replace=False)
        if len(originals) > MOST_ORIGINALS:
            some = rng.choice(originals, MOST_ORIGINALS, replace=False)
            originals = np.union1d(some, everything.products[photos])
        self._products = np.searchsorted(originals, everything.products[photos])
        known = set(rows[rows.known & (rows.role == "original")].path)
        paths = [everything.paths[at] for at in originals]
        self._known = np.array([str(Path(path).relative_to(root / "data").as_posix()) in known for path in paths])
        self._paths = tuple(paths), tuple(everything.paths[at] for at in photos)
        self._size = settings.image_size
        self._model = model

    @cached_property
    def _originals(self) -> tf.Tensor:
        return catalogue.read_all(self._paths[0], self._size)

    @cached_property
    def _photos(self) -> tf.Tensor:
        return catalogue.read_all(self._paths[1], self._size)

    def aucs(self) -> dict[str, float]:
        """ROC-AUC of genuine against impostor pairs by cosine, for photos of known and of new products."""
        cosines = self._encode(self._photos) @ self._encode(self._originals).T
        genuine = self._products[:, None] == np.arange(cosines.shape[1])
        found = {}
        for name, wanted in (("known", True), ("new", False)):
            which = self._known[self._products] == wanted
            if which.any():
                auc = roc_auc_score(genuine[which].ravel(), cosines[which].ravel())
                found[AUC + name] = float(auc)
        return found

    def reconstructions(self, path: Path) -> None:
        """A sheet of a fixed batch: originals above, photos, and what the decoder makes of the photos."""
        some = np.linspace(0, len(self._products) - 1, min(12, len(self._products))).astype(int)
        photos = tf.cast(tf.gather(self._photos, some), tf.float32) / 255.0
        drawn = self._model.decoder(self._model.encoder(photos, training=False), training=False)
        originals = tf.cast(tf.gather(self._originals, self._products[some]), tf.float32) / 255.0
        side = self._model.train.decoded_size
        above = [sheets.resized(one.numpy(), side) for one in (originals, photos)]
        sheets.contact_sheet([*above, tf.cast(drawn, tf.float32).numpy()], path)

    def _encode(self, pictures: tf.Tensor) -> np.ndarray:
        parts = [tf.cast(pictures[at : at + 64], tf.float32) / 255.0 for at in range(0, len(pictures), 64)]
        return np.concatenate([self._model.encoder(part, training=False).numpy() for part in parts])


def looks_since_best(history: list[dict[str, float]]) -> int:
    """How many looks came after the one with the best mean of AUCs."""
    means = [np.mean(aucs) for one in history if (aucs := [one[key] for key in one if key.startswith(AUC)])]
    return len(means) - 1 - int(np.argmax(means)) if means else 0


def impatient(history: list[dict[str, float]], patience: int) -> bool:
    """Whether `patience` looks have brought nothing better; never where it is 0."""
    return bool(patience) and looks_since_best(history) >= patience
