"""Picture files through the one decode, as arrays and as an encoder's embeddings."""

import functools
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from training.dataset.workers import chunked, in_order, open_pool
from training.model.images import decode, on_all_cores, read_pictures
from training.stage.errors import BadInput
from training.stage.params import Workers

THIS_MACHINE = Workers()
_unpacking = threading.Lock()


def embed(encoder: keras.Model, paths: list[Path], batch: int, workers: Workers = THIS_MACHINE) -> NDArray[np.float32]:
    """Embeddings float32 [N, D], L2-normalised, of picture files.

    Computed in this process, on all cores, or on the Dask cluster that `workers` names. Raises BadInput where the
    encoder gives something that is not a number, or the cluster is unavailable.
    """
    chunks = []
    with tqdm(total=len(paths), desc="embedding", unit=" pictures", leave=False, disable=None) as progress:
        for vectors in (_on_workers if workers.dask else _on_this_machine)(encoder, paths, batch, workers):
            chunks.append(vectors)
            progress.update(len(vectors))
    vectors = np.concatenate(chunks)
    if not np.isfinite(vectors).all():
        raise BadInput("models/autoencoder gives embeddings that are not numbers (NaN): train again")
    return vectors


def _on_this_machine(encoder: keras.Model, paths: list[Path], batch: int, _: Workers) -> Iterator[NDArray[np.float32]]:
    step = _step(encoder)
    for pictures in read_pictures(paths, encoder.input_shape[1]).batch(batch).prefetch(2):
        yield step(pictures).numpy()


def _on_workers(encoder: keras.Model, paths: list[Path], batch: int, workers: Workers) -> Iterator[NDArray[np.float32]]:
    with open_pool(workers) as pool:
        chunks = chunked((path.read_bytes() for path in paths), batch)
        packed = pickle.dumps((encoder.to_json(), [weight.numpy() for weight in encoder.weights]))
        yield from in_order(pool, _embed_chunk, chunks, pool.share(packed))


def _embed_chunk(pictures: list[bytes], packed: bytes) -> NDArray[np.float32]:
    with _unpacking:  # a worker may have several threads, and Keras builds one model at a time
        step = _unpacked(packed)
    return step(tf.constant(pictures)).numpy()


@functools.lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> Callable[[tf.Tensor], tf.Tensor]:
    """Encoded pictures, string [N], to their embeddings; the decode is in the graph, so that it is traced once."""
    form, weights = pickle.loads(packed)
    encoder = cast(keras.Model, keras.models.model_from_json(form))
    encoder.set_weights(weights)
    size, step = encoder.input_shape[1], _step(encoder)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def decode_and_step(pictures: tf.Tensor) -> tf.Tensor:
        data = tf.data.Dataset.from_tensor_slices(pictures)
        data = on_all_cores(data, lambda picture: decode(picture, size))
        return step(data.batch(tf.shape(pictures, tf.int64)[0]).get_single_element())

    return decode_and_step


def _step(encoder: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    size = encoder.input_shape[1]
    return tf.function(
        lambda pictures: tf.math.l2_normalize(tf.cast(encoder(pictures, training=False), tf.float32), axis=-1),
        input_signature=[tf.TensorSpec([None, size, size, 3])],
    )
