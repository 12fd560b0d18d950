"""From encoded bytes to a picture: the one decode, in TensorFlow ops, for training and for the served graph."""

from typing import Any

import tensorflow as tf

NO_LIMIT = 2**62
"""A max_pixels that every picture keeps."""

_RATIOS = (1, 2, 4, 8)
_FEW = 4
"""Fewer pictures than these are decoded one after the other: threads cost more than they bring."""
_PIECE = 2**18  # pixels


def decode(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """A JPEG's or PNG's bytes (string scalar) as float32 [size, size, 3] in [0, 1].

    Squashed to a square, antialiased; gray, palette, CMYK and 16-bit pictures become RGB; what is
    transparent lies on white. Raises tf.errors.InvalidArgumentError for anything else.
    """
    return decode_within(image_bytes, size, NO_LIMIT)


def decode_within(image_bytes: tf.Tensor, size: int, max_pixels: int) -> tf.Tensor:
    """As `decode`, but refuses a picture of more than max_pixels after reading only its header."""
    is_jpeg = tf.strings.substr(image_bytes, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(image_bytes, 0, 8) == b"\x89PNG\r\n\x1a\n"
    known = tf.debugging.Assert(is_jpeg | is_png, ["neither JPEG nor PNG"], summarize=1)
    with tf.control_dependencies([known] if known is not None else []):
        height_width = tf.cond(is_jpeg, lambda: _jpeg_size(image_bytes), lambda: _png_size(image_bytes))
    pixels = tf.reduce_prod(height_width)
    allowed = tf.debugging.Assert((pixels > 0) & (pixels <= max_pixels), ["pixels", pixels], summarize=1)
    with tf.control_dependencies([allowed] if allowed is not None else []):
        # libjpeg can drop high frequencies while decoding: the picture must still be twice what is asked
        # for, so that what the antialiased resize keeps is there.
        spare = tf.reduce_min(height_width) // (2 * size)
        reduced = sum(tf.cast(spare >= ratio, tf.int32) for ratio in _RATIOS[1:])
        transparent = tf.cond(is_png, lambda: _may_be_transparent(image_bytes), lambda: False)
        kind = tf.where(is_png, len(_RATIOS) + tf.cast(transparent, tf.int32), reduced)
    branches = [lambda ratio=ratio: _jpeg(image_bytes, ratio) for ratio in _RATIOS]
    png = [lambda: tf.io.decode_png(image_bytes, channels=3), lambda: _png_on_white(image_bytes)]
    picture = tf.switch_case(kind, [*branches, *png])
    # tf.image.resize, without its float copy: a picture of max_pixels takes a fourth of the memory in bytes.
    resized = tf.raw_ops.ScaleAndTranslate(
        images=picture[tf.newaxis],
        size=[size, size],
        scale=float(size) / tf.cast(tf.shape(picture)[:2], tf.float32),
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.clip_by_value(resized / 255.0, 0.0, 1.0)


def decode_batch(image_bytes: tf.Tensor, size: int, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode string [N] so that bad bytes spoil only their own row.

    Returns pictures float32 [N, size, size, 3] and decoded bool [N]; a row that is no JPEG or PNG, is
    broken, or has more than max_pixels is zeros and False. TensorFlow has no try/catch, so a tf.data
    pipeline inside the graph drops failed elements, and the rest are scattered back by index.
    """
    count = tf.shape(image_bytes, tf.int64)[0]

    def kept(**in_parallel: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Indices [K] and pictures of the rows that could be decoded, in any order; the last is no row."""
        rows = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
        rows = rows.map(lambda row, one: (row, decode_within(one, size, max_pixels)), **in_parallel)
        rows = rows.ignore_errors()
        last = tf.data.Dataset.from_tensors((count, tf.zeros([size, size, 3])))  # a batch can't be of nothing
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False  # they cost more than one picture
        options.autotune.enabled = False
        return rows.concatenate(last).batch(count + 1).with_options(options).get_single_element()

    index, pictures = tf.cond(count < _FEW, kept, lambda: kept(num_parallel_calls=2, deterministic=False))
    shape = tf.stack([count + 1, size, size, 3])
    scattered = tf.scatter_nd(index[:, tf.newaxis], pictures, tf.cast(shape, tf.int64))[:count]
    decoded = tf.scatter_nd(index[:, tf.newaxis], tf.ones_like(index), [count + 1])[:count] > 0
    return tf.ensure_shape(scattered, [None, size, size, 3]), tf.ensure_shape(decoded, [None])


def _jpeg_size(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.image.extract_jpeg_shape(image_bytes)[:2], tf.int64)


def _png_size(image_bytes: tf.Tensor) -> tf.Tensor:
    width_height = tf.io.decode_raw(tf.strings.substr(image_bytes, 16, 8), tf.uint8)  # IHDR, big-endian
    pairs = tf.reshape(tf.cast(width_height, tf.int64), [2, 4])
    return tf.reverse(tf.reduce_sum(pairs * tf.constant([2**24, 2**16, 2**8, 1], tf.int64), 1), [0])


def _jpeg(image_bytes: tf.Tensor, ratio: int) -> tf.Tensor:
    return tf.io.decode_jpeg(image_bytes, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _may_be_transparent(png: tf.Tensor) -> tf.Tensor:
    """Whether the header says that there is an alpha channel, or a transparent colour may be named."""
    colour_type = tf.strings.substr(png, 25, 1)
    named = tf.size(tf.strings.split(png, b"tRNS")) > 1
    return (colour_type == b"\x04") | (colour_type == b"\x06") | named


def _png_on_white(image_bytes: tf.Tensor) -> tf.Tensor:
    """A transparent PNG as uint8 [H, W, 3], worked on piece by piece: as floats it would be six times as large."""
    picture = tf.io.decode_png(image_bytes, channels=4)
    pixels = tf.reshape(picture, [-1, 4])
    count = tf.shape(pixels)[0]
    starts = tf.range(0, count, _PIECE)

    def on_white(at: tf.Tensor, pieces: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        piece = tf.cast(pixels[starts[at] : starts[at] + _PIECE], tf.float32)
        piece = 255.0 + (piece[:, :3] - 255.0) * (piece[:, 3:] / 255.0)
        return at + 1, pieces.write(at, tf.cast(tf.round(piece), tf.uint8))

    pieces = tf.TensorArray(tf.uint8, tf.size(starts), infer_shape=False, element_shape=[None, 3])
    _, pieces = tf.while_loop(lambda at, _: at < tf.size(starts), on_white, (0, pieces), parallel_iterations=1)
    return tf.reshape(pieces.concat(), tf.concat([tf.shape(picture)[:2], [3]], 0))
