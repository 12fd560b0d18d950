"""The autoencoder: an encoder to an L2-normalised latent, and a decoder that draws a product's original from it.

An encoder that starts from ImageNet weights may keep those weights beside the learned ones: the embedding is then
the latent and, weighted, the principal components of the ImageNet features. The latent is better on products that
training saw, the components on those that it never saw, and both together are better than either.
"""

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from training.model import backbones
from training.stage.errors import BadInput
from training.stage.files import write_whole, writing_whole
from training.stage.params import Train

FACTS = "autoencoder.json"
HEAD = "latent"
"""Name of the layer that makes the latent; what lies below it is the backbone."""
_LATENT, _DRAWING = "unit_latent", "drawing"
_FIXED_POOL, _FIXED_HEAD = "fixed_pool", "fixed_components"


@dataclass(frozen=True)
class Autoencoder:
    """The two networks, and the params that they were built from."""

    encoder: keras.Model
    """float32 [N, image_size, image_size, 3] in [0, 1] -> float32 [N, D], L2-normalised.

    D is latent_size, and fixed_size more where fixed_weight is not 0.
    """
    decoder: keras.Model
    """float32 [N, D] -> float32 [N, decoded_size, decoded_size, 3] in [0, 1], from the latent in the embedding."""
    train: Train

    @property
    def learned(self) -> tuple[keras.Model, keras.Model]:
        """What training changes: pictures to float32 [N, latent_size], L2-normalised, and that to drawn originals."""
        latent = self.encoder.get_layer(_LATENT).output
        return keras.Model(self.encoder.input, latent), cast(keras.Model, self.decoder.get_layer(_DRAWING))


def fit_fixed(autoencoder: Autoencoder, pictures: Iterable[np.ndarray]) -> None:
    """Set the principal components of the fixed part, where there is one, from batches of the encoder's input.

    With fewer pictures than components the last components are zero.
    """
    encoder = autoencoder.encoder
    if not autoencoder.train.fixed_weight:
        return
    pooled = keras.Model(encoder.input, encoder.get_layer(_FIXED_POOL).output)
    features = np.concatenate([np.asarray(pooled(batch, training=False), np.float64) for batch in pictures])
    mean = features.mean(0)
    components = np.linalg.svd(features - mean, full_matrices=False)[2].T[:, : autoencoder.train.fixed_size]
    missing = autoencoder.train.fixed_size - components.shape[1]
    components = np.pad(components, [(0, 0), (0, missing)])
    encoder.get_layer(_FIXED_HEAD).set_weights([components, -mean @ components])


def build(train: Train) -> Autoencoder:
    """A new autoencoder, seeded by train.seed, with ImageNet weights where the encoder has them.

    Raises BadInput for an unknown encoder, an image_size under 32, or missing weights.
    """
    return _build(train, train.precision, pretrained=True)


def save(autoencoder: Autoencoder, folder: Path) -> None:
    """Write autoencoder.json, encoder.weights.npz and decoder.weights.npz: the variables in the model's order."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in _models(autoencoder):
        with writing_whole(folder / f"{name}.weights.npz") as part, part.open("wb") as file:
            np.savez(file, *[variable.numpy() for variable in model.weights])
    facts = {"train": asdict(autoencoder.train), "keras": keras.__version__}
    write_whole(folder / FACTS, json.dumps(facts, indent=2) + "\n")


def load(folder: Path) -> Autoencoder:
    """What `save` wrote, computing in float32. Raises BadInput where something is missing or does not fit."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        autoencoder = _build(Train(**facts["train"]), "float32", pretrained=False)
        for name, model in _models(autoencoder):
            with np.load(folder / f"{name}.weights.npz") as arrays:
                model.set_weights([arrays[f"arr_{at}"] for at in range(len(arrays.files))])
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} not found: run `dvc repro train`") from None
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{folder} does not hold this version's autoencoder: run `dvc repro train` ({error})") from None
    return autoencoder


def _models(autoencoder: Autoencoder) -> list[tuple[str, keras.Model]]:
    return [("encoder", autoencoder.encoder), ("decoder", autoencoder.decoder)]


def _build(train: Train, precision: str, pretrained: bool) -> Autoencoder:
    if train.image_size < 32:
        raise BadInput(f"train.image_size must be at least 32, not {train.image_size}")
    if train.encoder not in ("scratch", *backbones.names()):
        near = difflib.get_close_matches(train.encoder, backbones.names(), n=3, cutoff=0.0)
        raise BadInput(
            f"train.encoder must be scratch, {backbones.LITE0} or one of keras.applications, such as "
            f"{', '.join(near)}, not {train.encoder!r}"
        )
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        keras.utils.set_random_seed(train.seed)
        encoder = _scratch(train) if train.encoder == "scratch" else _pretrained(train, pretrained)
        return Autoencoder(encoder, _decoder(train, int(encoder.output_shape[-1])), train)
    finally:
        keras.config.set_dtype_policy(before)


def _scratch(train: Train) -> keras.Model:
    """About 0.6 M parameters; each feature map is pooled to its mean and its maximum."""
    pictures = keras.Input([train.image_size, train.image_size, 3])
    x = keras.layers.Rescaling(4.0, -2.0)(pictures)
    x = _conv_norm(x, 32, 2)
    for channels in (48, 96, 160):
        x = _conv_norm(x, channels, 2)
        shortcut = x
        x = _conv_norm(x, channels)
        x = keras.layers.ReLU()(keras.layers.Add()([_conv_norm(x, channels, relu=False), shortcut]))
    pooled = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    x = _centred(keras.layers.Concatenate()(pooled))
    return keras.Model(pictures, _latent(x, train), name="encoder")


def _pretrained(train: Train, pretrained: bool) -> keras.Model:
    backbone = backbones.backbone(train, pretrained)
    last, *fixed = backbone.outputs
    x = _centred(keras.layers.GlobalAveragePooling2D()(last))
    x = keras.layers.Dropout(0.2, seed=train.seed)(x)
    x = _latent(x, train)
    for feature_map in fixed:
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name=_FIXED_POOL)(feature_map)
        components = keras.layers.Dense(train.fixed_size, dtype="float32", trainable=False, name=_FIXED_HEAD)(pooled)
        components = keras.layers.UnitNormalization(dtype="float32")(components)
        weighted = keras.layers.Rescaling(train.fixed_weight, dtype="float32")(components)
        x = keras.layers.UnitNormalization(dtype="float32")(keras.layers.Concatenate(dtype="float32")([x, weighted]))
    return keras.Model(backbone.input, x, name="encoder")


def _centred(x: Any) -> Any:
    """Removes what all pictures have in common; else all cosines begin near 1 and learning stalls."""
    return keras.layers.BatchNormalization(center=False, scale=False, momentum=0.9, dtype="float32")(x)


def _latent(x: Any, train: Train) -> Any:
    x = keras.layers.Dense(train.latent_size, dtype="float32", name=HEAD)(x)
    return keras.layers.UnitNormalization(dtype="float32", name=_LATENT)(x)


def _decoder(train: Train, embedding_size: int) -> keras.Model:
    embeddings = keras.Input([embedding_size])
    latents = embeddings
    if embedding_size > train.latent_size:
        latent, _ = cast(list, keras.ops.split(embeddings, [train.latent_size], axis=1))
        latents = keras.layers.UnitNormalization(dtype="float32")(latent)
    return keras.Model(embeddings, _drawing(train)(latents), name="decoder")


def _drawing(train: Train) -> keras.Model:
    latents = keras.Input([train.latent_size])
    side = train.decoded_size // 16
    x = keras.layers.Rescaling(train.latent_size**0.5)(latents)  # entries of about 1 instead of a unit vector's
    x = keras.layers.Dense(side * side * 128, activation="relu")(x)
    x = keras.layers.Reshape([side, side, 128])(x)
    for channels in (48, 32, 16):
        x = keras.layers.Conv2D(channels, 3, padding="same", activation="relu")(keras.layers.UpSampling2D()(x))
    half = train.decoded_size // 2
    x = keras.layers.Conv2D(12, 3, padding="same")(x)  # four pixels at each place, for a quarter of the work
    x = keras.layers.Permute([1, 3, 2, 4, 5])(keras.layers.Reshape([half, half, 2, 2, 3])(x))
    x = keras.layers.Reshape([train.decoded_size, train.decoded_size, 3])(x)
    return keras.Model(latents, keras.layers.Activation("sigmoid", dtype="float32")(x), name=_DRAWING)


def _conv_norm(x: Any, channels: int, stride: int = 1, relu: bool = True) -> Any:
    x = keras.layers.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(x) if relu else x
