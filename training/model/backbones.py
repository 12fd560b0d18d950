"""Backbones of an encoder that starts from ImageNet weights: EfficientNet-Lite0, or one of keras.applications."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from training.model.efficientnet_lite0 import BLOCKS, FIXED, efficientnet_lite0, load_imagenet
from training.stage.errors import BadInput
from training.stage.params import Train

LITE0 = "efficientnet_lite0"


def names() -> list[str]:
    """What train.encoder may be, besides "scratch"."""
    return [LITE0, *(name for name in dir(keras.applications) if name[0].isupper())]


def backbone(train: Train, pretrained: bool) -> keras.Model:
    """Float [N, image_size, image_size, 3] in [0, 1] -> the last feature map [N, h, w, C].

    Where train.fixed_weight is not 0 there is a second output of the same form, of weights that don't train. Without
    `pretrained` the weights are random, to be overwritten. Raises BadInput for weights that are unavailable.
    """
    with_fixed = train.fixed_weight > 0
    if train.encoder == LITE0:
        if not 0 <= train.frozen_blocks < BLOCKS:
            raise BadInput(f"train.frozen_blocks must be from 0 to {BLOCKS - 1}, not {train.frozen_blocks}")
        model = efficientnet_lite0(train.image_size, train.frozen_blocks, with_fixed)
        if pretrained:
            load_imagenet(model, Path(train.weights) if train.weights else None)
        return model
    if train.frozen_blocks:
        raise BadInput(f"train.frozen_blocks is for {LITE0}; for {train.encoder} it must be 0")
    application: Callable[..., keras.Model] = getattr(keras.applications, train.encoder)
    pictures = keras.Input([train.image_size, train.image_size, 3])
    scaled = keras.layers.Rescaling(255.0)(pictures)
    x = sys.modules[application.__module__].preprocess_input(scaled)  # type: ignore[attr-defined]
    learned = _application(application, train, pretrained)
    maps = [learned(x, training=False)]  # batch norm by its stored statistics, as in efficientnet_lite0
    if with_fixed:
        fixed = _application(application, train, pretrained, name=FIXED.rstrip("."))
        fixed.trainable = False
        maps.append(fixed(x, training=False))
    return keras.Model(pictures, maps if with_fixed else maps[0])


def _application(application: Callable[..., keras.Model], train: Train, pretrained: bool, **name: Any) -> keras.Model:
    """Raises BadInput where the weights are missing, can't be downloaded, or belong to another network."""
    size = [train.image_size, train.image_size, 3]
    if pretrained and train.weights and not Path(train.weights).is_file():
        raise BadInput(f"train.weights: {train.weights} not found")
    weights = (train.weights or "imagenet") if pretrained else None
    try:
        return application(include_top=False, weights=weights, input_shape=size, **name)
    except Exception as error:  # each application raises its own errors, and so does the download
        message = " ".join(str(error).split())[:300]
        raise BadInput(
            f"train.encoder {train.encoder} can't start from {train.weights or 'the weights that Keras downloads'} at "
            f"{train.image_size} px: {message}"
        ) from None
