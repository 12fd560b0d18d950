"""Picture files through the one decode, as arrays and as an encoder's embeddings."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import BadInput
from training.images import decode


def read_pictures(paths: list[Path], size: int) -> tf.data.Dataset:
    """The files as float32 [size, size, 3] in [0, 1], in order."""
    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    return data.map(lambda path: decode(tf.io.read_file(path), size), num_parallel_calls=tf.data.AUTOTUNE)


def embed(encoder: keras.Model, paths: list[Path], batch: int) -> NDArray[np.float32]:
    """Embeddings float32 [N, D], L2-normalised, of picture files.

    Raises BadInput where the encoder gives something that is no number.
    """
    size = encoder.input_shape[1]
    step = tf.function(
        lambda pictures: tf.math.l2_normalize(tf.cast(encoder(pictures, training=False), tf.float32), axis=-1),
        input_signature=[tf.TensorSpec([None, size, size, 3])],
    )
    found = []
    with tqdm(total=len(paths), desc="embedding", unit=" pictures", leave=False, disable=None) as progress:
        for pictures in read_pictures(paths, size).batch(batch).prefetch(2):
            found.append(step(pictures).numpy())
            progress.update(len(found[-1]))
    vectors = np.concatenate(found)
    if not np.isfinite(vectors).all():
        raise BadInput("models/autoencoder gives embeddings that are no numbers (NaN): train again")
    return vectors
