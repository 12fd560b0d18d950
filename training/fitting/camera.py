"""What a phone camera makes of a clean picture: the augmentation of training and the hand that draws the sample.

Everything is TensorFlow ops on one picture with a stateless seed: the same seed gives the same photo, in a
tf.data map and eagerly.
"""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Camera:
    """Strengths, each a maximum. Lengths are shares of the picture's side, chances are in [0, 1]."""

    background: float = 1.0
    """Chance that the white around the product becomes a scene: surface, shelf and clutter. Where it is 0 the
    picture's own edge is continued."""
    rotation: float = 0.25
    """Radians to either side."""
    zoom_out: float = 0.6
    """Smallest size of a product on white; a picture without white around it is hardly made smaller."""
    zoom_in: float = 1.3
    shift: float = 0.12
    perspective: float = 0.2
    exposure: float = 0.4
    """Stops, as a power of two, to either side."""
    white_balance: float = 0.15
    contrast: float = 0.25
    saturation: float = 0.3
    gradient: float = 0.35
    """How much lighter one side is than the middle."""
    glare: float = 0.3
    """Chance of a lamp's reflection."""
    hands: float = 0.35
    """Chance of fingers that come in from the border."""
    cut_out: float = 0.3
    """Chance of a box in front of the product."""
    blur: float = 0.012
    """Standard deviation of defocus or motion, as a share of the side."""
    noise: float = 0.035
    """Standard deviation of the sensor's noise."""
    jpeg: int = 45
    """Lowest JPEG quality."""


@tf.autograph.experimental.do_not_convert
def photograph(picture: tf.Tensor, seed: tf.Tensor, camera: Camera) -> tf.Tensor:
    """A camera photo of float32 [H, W, 3] in [0, 1], in the same form; `seed` is an int [2]."""
    height, width = tf.shape(picture)[0], tf.shape(picture)[1]
    seeds = tf.random.split(seed, 4)
    rolls = _Rolls(seeds[0])
    across = tf.linspace(-1.0, 1.0, width)[tf.newaxis, :, tf.newaxis]
    down = tf.linspace(-1.0, 1.0, height)[:, tf.newaxis, tf.newaxis]
    if camera.background > 0:
        photo = _replace_background(picture, seeds[1], across, down, rolls, camera)
    else:
        photo = _change_viewpoint(picture, 1.0, "NEAREST", rolls, camera)
    if camera.cut_out > 0:
        photo = _add_box(photo, across, down, rolls, camera)
    photo = _change_light(photo, across, down, rolls, camera)
    if camera.hands > 0:
        photo = _add_fingers(photo, across, down, rolls, camera)
    photo = _blur(photo, rolls, camera)
    photo += tf.random.stateless_normal(tf.shape(photo), seeds[2]) * (camera.noise * rolls.within(0.0, 1.0))
    quality = tf.cast(rolls.within(float(camera.jpeg), 96.0), tf.int32)
    photo = tf.image.adjust_jpeg_quality(tf.clip_by_value(photo, 0.0, 1.0), quality)
    return tf.ensure_shape(photo, picture.shape)


class _Rolls:
    """Uniform scalars, dealt one by one from a single draw: an op each would cost more than the pixels."""

    def __init__(self, seed: tf.Tensor):
        self._rolled = iter(tf.unstack(tf.random.stateless_uniform([112], seed)))

    def within(self, low: float | tf.Tensor, high: float | tf.Tensor) -> tf.Tensor:
        return low + (high - low) * next(self._rolled)

    def around(self, most: float) -> tf.Tensor:
        return self.within(-most, most)

    def happens(self, chance: float) -> tf.Tensor:
        return tf.cast(next(self._rolled) < chance, tf.float32)

    def colour(self) -> tf.Tensor:
        tint = self.within(0.02, 0.25)  # rooms and tables are grayer than products
        return self.within(0.1, 0.9) + tf.stack([self.around(1.0) for _ in range(3)]) * tint


def _replace_background(
    picture: tf.Tensor, seed: tf.Tensor, across: tf.Tensor, down: tf.Tensor, rolls: _Rolls, camera: Camera
) -> tf.Tensor:
    """The product moved, and a scene where white was around it and where the picture no longer reaches."""
    outside = _mask_background(picture)
    border = tf.concat([outside[0, :, 0], outside[-1, :, 0], outside[:, 0, 0], outside[:, -1, 0]], 0)
    on_white = tf.cast(tf.reduce_mean(border) > 0.5, tf.float32)
    replaced = on_white * rolls.happens(camera.background)
    inside = 1.0 - outside * replaced
    moved = _change_viewpoint(tf.concat([picture * inside, inside], 2), on_white, "CONSTANT", rolls, camera)
    scene = _draw_scene(seed, tf.shape(picture)[0], tf.shape(picture)[1], across, down, rolls)
    scene = tf.where(on_white > replaced, tf.ones_like(scene), scene)
    return moved[:, :, :3] + (1.0 - moved[:, :, 3:]) * scene


def _mask_background(picture: tf.Tensor) -> tf.Tensor:
    """1 where only near-white lies between a pixel and one of the four borders: [H, W, 1]."""
    white = tf.cast(tf.reduce_min(picture, 2, keepdims=True) > 0.92, tf.float32)
    directions = [tf.math.cumprod(white, axis, reverse=back) for axis in (0, 1) for back in (False, True)]
    outside = tf.reduce_max(tf.stack(directions), 0)
    wider = tf.nn.max_pool2d(outside[tf.newaxis], 3, 1, "SAME")  # or a white rim stays around the product
    return tf.nn.avg_pool2d(wider, 3, 1, "SAME")[0]


def _change_viewpoint(
    layer: tf.Tensor, on_white: tf.Tensor | float, fill_mode: str, rolls: _Rolls, camera: Camera
) -> tf.Tensor:
    """Rotate, zoom, shift and tilt [H, W, C]; `fill_mode` says how to fill what it no longer covers."""
    smallest = tf.where(on_white > 0, camera.zoom_out, 1.0 - 0.25 * (1.0 - camera.zoom_out))
    zoom = rolls.within(smallest, camera.zoom_in)
    stretch = tf.exp(rolls.around(0.1))
    angle = rolls.around(camera.rotation)
    cosine, sine = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    room = camera.shift + tf.maximum(0.0, 1.0 - zoom) * 0.7 * on_white
    right, up = rolls.around(1.0) * room * 2.0, rolls.around(1.0) * room * 2.0
    tilt = [rolls.around(camera.perspective), rolls.around(camera.perspective)]
    half_height = tf.cast(tf.shape(layer)[0] - 1, tf.float32) / 2.0
    half_width = tf.cast(tf.shape(layer)[1] - 1, tf.float32) / 2.0
    zero, one = tf.zeros([]), tf.ones([])
    to_unit = tf.reshape(
        tf.stack([1.0 / half_width, zero, -one, zero, 1.0 / half_height, -one, zero, zero, one]), [3, 3]
    )
    view = tf.stack([cosine * stretch, -sine, -right, sine, cosine / stretch, -up, tilt[0], tilt[1], one])
    from_unit = tf.reshape(
        tf.stack([half_width, zero, half_width, zero, half_height, half_height, zero, zero, one]), [3, 3]
    )
    warp = tf.reshape(tf.reshape(from_unit, [3, 3]) @ tf.reshape(view, [3, 3]) @ to_unit, [9])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=layer[tf.newaxis],
        transforms=(warp / warp[8])[tf.newaxis, :8],
        output_shape=tf.shape(layer)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode,
    )[0]


def _draw_scene(
    seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor, across: tf.Tensor, down: tf.Tensor, rolls: _Rolls
):
    """A surface with patches, a horizon, and boxes that stand about: [H, W, 3]."""
    base, second = rolls.colour(), rolls.colour()
    patches = tf.random.stateless_uniform([5, 5, 3], seed, -0.5, 0.5)
    patches = (patches + 3.0 * tf.reduce_mean(patches, 2, keepdims=True)) * rolls.within(0.02, 0.2)
    scene = base + tf.image.resize(patches, [height, width])
    scene += tf.sin(across * rolls.around(40.0) + down * rolls.around(40.0)) * rolls.around(0.04)
    horizon = rolls.within(-0.5, 1.3)
    scene = tf.where(down + 0.2 * across * rolls.around(1.0) > horizon, second + 0.3 * (scene - base), scene)
    for _ in range(3):
        middle_x, middle_y, half_x, half_y = (
            rolls.around(1.1),
            rolls.around(1.1),
            rolls.within(0.1, 0.5),
            rolls.within(0.1, 0.5),
        )
        box = (tf.abs(across - middle_x) < half_x) & (tf.abs(down - middle_y) < half_y)
        scene = tf.where(box, rolls.colour() * (1.0 - 0.3 * (across - middle_x)), scene)
    return scene


def _add_box(photo: tf.Tensor, across: tf.Tensor, down: tf.Tensor, rolls: _Rolls, camera: Camera) -> tf.Tensor:
    """With chance cut_out a plain box in front of the product."""
    half_x, half_y = rolls.within(0.1, 0.35), rolls.within(0.1, 0.35)
    box = (tf.abs(across - rolls.around(0.9)) < half_x) & (tf.abs(down - rolls.around(0.9)) < half_y)
    return tf.where(box & (rolls.happens(camera.cut_out) > 0), rolls.colour(), photo)


def _change_light(photo: tf.Tensor, across: tf.Tensor, down: tf.Tensor, rolls: _Rolls, camera: Camera) -> tf.Tensor:
    gray = tf.reduce_mean(photo, 2, keepdims=True)
    photo = gray + (photo - gray) * (1.0 + rolls.around(camera.saturation))
    warm, green = rolls.around(camera.white_balance), rolls.around(camera.white_balance / 3.0)
    gain = tf.stack([1.0 + warm, 1.0 + green, 1.0 - warm]) * tf.pow(2.0, rolls.around(camera.exposure))
    slope = 1.0 + across * rolls.around(camera.gradient) + down * rolls.around(camera.gradient)
    photo = (photo * gain * slope - 0.45) * (1.0 + rolls.around(camera.contrast)) + 0.45
    far = (across - rolls.around(0.8)) ** 2 + (down - rolls.around(0.8)) ** 2
    glare = tf.exp(-far / rolls.within(0.02, 0.25)) * rolls.happens(camera.glare) * rolls.within(0.2, 0.8)
    return photo + (1.0 - photo) * glare


def _add_fingers(photo: tf.Tensor, across: tf.Tensor, down: tf.Tensor, rolls: _Rolls, camera: Camera) -> tf.Tensor:
    """With chance hands three skin-coloured fingers from a border towards the middle."""
    angle = rolls.around(3.1416)
    along = across * tf.cos(angle) + down * tf.sin(angle)
    aside = down * tf.cos(angle) - across * tf.sin(angle) + rolls.around(0.5)
    thick = rolls.within(0.09, 0.17)
    apart = 2.1 * thick
    finger = tf.clip_by_value(tf.round(aside / apart), -1.0, 1.0)
    tip = rolls.within(0.35, 0.85) + 0.08 * tf.abs(finger)
    far = tf.sqrt(tf.maximum(tip - along, 0.0) ** 2 + (aside - finger * apart) ** 2) / thick
    tone = rolls.within(0.35, 1.0) * tf.constant([0.95, 0.74, 0.62])
    skin = tone * (1.0 - 0.35 * tf.minimum(far, 1.0) ** 2)
    cover = tf.clip_by_value((1.0 - far) * 8.0, 0.0, 1.0) * rolls.happens(camera.hands)
    return photo + cover * (skin - photo)


def _blur(photo: tf.Tensor, rolls: _Rolls, camera: Camera) -> tf.Tensor:
    """Blur by a Gaussian, longer in one direction than in the other: from out of focus to motion."""
    side = photo.shape[0] or 64
    radius = max(1, round(2.0 * camera.blur * side))
    most = camera.blur * side
    long = 0.05 + most * rolls.within(0.0, 1.0)
    short = tf.maximum(0.05, long * rolls.within(0.1, 1.0))
    angle = rolls.around(1.5708)
    reach = tf.range(-radius, radius + 1, dtype=tf.float32)
    along = reach[tf.newaxis] * tf.cos(angle) + reach[:, tf.newaxis] * tf.sin(angle)
    aside = reach[:, tf.newaxis] * tf.cos(angle) - reach[tf.newaxis] * tf.sin(angle)
    kernel = tf.exp(-0.5 * ((along / long) ** 2 + (aside / short) ** 2))
    kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, :, tf.newaxis, tf.newaxis], [1, 1, 3, 1])
    padded = tf.pad(photo, [[radius, radius], [radius, radius], [0, 0]], "REFLECT")
    return tf.nn.depthwise_conv2d(padded[tf.newaxis], kernel, [1, 1, 1, 1], "VALID")[0]


REPRODUCED = Camera(
    background=0.0,
    rotation=0.03,
    zoom_out=0.9,
    zoom_in=1.1,
    shift=0.03,
    perspective=0.03,
    exposure=0.1,
    white_balance=0.03,
    contrast=0.1,
    saturation=0.1,
    gradient=0.0,
    glare=0.0,
    hands=0.0,
    cut_out=0.0,
    blur=0.004,
    noise=0.01,
    jpeg=80,
)
"""Changes to an original on its way through databases and uploads, so that it isn't learned by its pixels."""

RETAKEN = Camera(
    background=0.0,
    rotation=0.15,
    zoom_out=0.92,
    zoom_in=1.2,
    shift=0.08,
    perspective=0.1,
    exposure=0.25,
    white_balance=0.08,
    contrast=0.15,
    saturation=0.2,
    gradient=0.2,
    glare=0.1,
    hands=0.1,
    cut_out=0.3,
    blur=0.006,
    noise=0.02,
    jpeg=60,
)
"""Changes to a real photo, which has its own scene, light and blur already."""
