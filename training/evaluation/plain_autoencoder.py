"""The textbook's answer as a baseline: a convolutional autoencoder that reconstructs its input, and nothing else.

64 px in, a latent of 128, 64 px out, mean squared error; no camera, no product, no contrast. Trained on the pictures
that training saw; what it learned is kept in .photoproof/baselines/, under a key of data, code and epochs.
"""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from training.model.images import read_pictures
from training.stage.files import writing_whole
from training.stage.fingerprints import code_of, key_of
from training.stage.places import BASELINES, DATA

SIDE, LATENT, BATCH = 64, 128, 32
RATE = 1e-3
_KEPT = 3


def plain_encoder(root: Path, training: pd.DataFrame, epochs: int, seed: int = 1) -> keras.Model:
    """The encoder, float32 [N, 64, 64, 3] in [0, 1] to [N, 128], trained on the pictures in the manifest rows."""
    rows = training.sort_values("picture_id")
    code = code_of(["evaluation/plain_autoencoder.py", "model/images.py"])
    key = key_of(rows[["picture_id", "sha256"]].to_json(orient="values"), epochs, seed, tf.__version__, *code)
    kept = root / BASELINES / f"plain_autoencoder-{key}.npz"
    encoder, decoder = _networks(seed)
    try:
        with kept.open("rb") as file, np.load(file) as arrays:
            encoder.set_weights([arrays[f"arr_{index}"] for index in range(len(arrays.files))])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        _train(encoder, decoder, [root / DATA / path for path in rows.path], epochs, seed)
        _keep(encoder, kept)
    return encoder


def _networks(seed: int) -> tuple[keras.Model, keras.Model]:
    keras.utils.set_random_seed(seed)
    pictures = keras.Input([SIDE, SIDE, 3])
    x = keras.layers.Rescaling(4.0, -2.0)(pictures)
    for channels in (16, 32, 64, 128):
        x = keras.layers.Conv2D(channels, 3, 2, "same", activation="relu")(x)
    encoder = keras.Model(pictures, keras.layers.Dense(LATENT)(keras.layers.Flatten()(x)))
    latents = keras.Input([LATENT])
    x = keras.layers.Dense(4 * 4 * 128, activation="relu")(latents)
    x = keras.layers.Reshape([4, 4, 128])(x)
    for channels in (64, 32, 16):
        x = keras.layers.Conv2DTranspose(channels, 3, 2, "same", activation="relu")(x)
    x = keras.layers.Conv2DTranspose(3, 3, 2, "same", activation="sigmoid")(x)
    return encoder, keras.Model(latents, x)


def _train(encoder: keras.Model, decoder: keras.Model, paths: list[Path], epochs: int, seed: int) -> None:
    optimizer = keras.optimizers.Adam(RATE)
    variables = [*encoder.trainable_variables, *decoder.trainable_variables]
    optimizer.build(variables)

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3])])
    def step(pictures: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            drawn = decoder(encoder(pictures, training=True), training=True)
            loss = tf.reduce_mean(tf.square(drawn - pictures))
        optimizer.apply(tape.gradient(loss, variables), variables)

    shuffled = read_pictures(paths, SIDE).cache().shuffle(len(paths), seed=seed).batch(BATCH).prefetch(2)
    for _ in range(epochs):
        for pictures in shuffled:
            step(pictures)


def _keep(encoder: keras.Model, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_whole(path) as part, part.open("wb") as file:
        np.savez(file, *encoder.get_weights())
    for old in sorted(path.parent.glob("*.npz"), key=lambda kept: kept.stat().st_mtime)[:-_KEPT]:
        old.unlink()
