"""From encoded bytes to a picture: the one decode, in TensorFlow ops, for training and for the served graph."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

NO_LIMIT = 2**62
"""A max_pixels that no picture exceeds."""

_RATIOS = (1, 2, 4, 8)
_AT_ONCE = 2
"""Pictures decoded at a time: each may take a few hundred megabytes on the way."""
_STRIP = 2**18  # pixels


def on_all_cores(data: tf.data.Dataset, function: Callable[..., object]) -> tf.data.Dataset:
    """The function's result for each element, in order; two calls a core run at a time.

    TensorFlow's tuner is off for what follows too: with it, in every second training the last steps waited 37 seconds
    for its next turn.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.map(function, num_parallel_calls=2 * (os.cpu_count() or 1)).with_options(options)


def read_pictures(paths: Sequence[str | Path], size: int) -> tf.data.Dataset:
    """Picture files as float32 [size, size, 3] in [0, 1], in order."""
    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    return on_all_cores(data, lambda path: decode(tf.io.read_file(path), size))


def decode(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """A JPEG's or PNG's bytes (string scalar) as float32 [size, size, 3] in [0, 1].

    Squashed to a square, antialiased; gray, palette, CMYK and 16-bit pictures become RGB; what is
    transparent lies on white. Raises tf.errors.InvalidArgumentError for anything else.
    """
    return decode_within(image_bytes, size, NO_LIMIT)


def decode_within(image_bytes: tf.Tensor, size: int, max_pixels: int, transparency: bool = True) -> tf.Tensor:
    """As `decode`, but refuses a picture of more than max_pixels after reading only its header.

    Without `transparency` a PNG that may be transparent is refused too, for a graph of half the nodes.
    """
    is_jpeg = tf.strings.substr(image_bytes, 0, 3) == b"\xff\xd8\xff"
    is_png = tf.strings.substr(image_bytes, 0, 8) == b"\x89PNG\r\n\x1a\n"
    known = tf.raw_ops.Assert(condition=is_jpeg | is_png, data=["neither JPEG nor PNG"], summarize=1)
    with tf.control_dependencies([known]):
        height_width = tf.cond(is_jpeg, lambda: _jpeg_size(image_bytes), lambda: _png_size(image_bytes))
    pixels = tf.reduce_prod(height_width)
    transparent = tf.cond(is_png, lambda: _may_be_transparent(image_bytes), lambda: tf.constant(False))
    fits = (pixels > 0) & (pixels <= max_pixels)
    if not transparency:
        fits &= ~transparent
    allowed = tf.raw_ops.Assert(condition=fits, data=["pixels", pixels, "transparent", transparent], summarize=1)
    with tf.control_dependencies([allowed]):
        # libjpeg can drop high frequencies while decoding. What is left must be so much larger than what is asked
        # for that a photo and its reduced copy look alike: at twice the size probability moved by 0.014, at three
        # times by 0.0007.
        spare = tf.reduce_min(height_width) // (3 * size)
        reduced = sum(tf.cast(spare >= ratio, tf.int32) for ratio in _RATIOS[1:])
        kind = tf.where(is_png, len(_RATIOS) + tf.cast(transparent, tf.int32), reduced)
    jpeg = [lambda ratio=ratio: _jpeg(image_bytes, ratio) for ratio in _RATIOS]
    png = [lambda: tf.io.decode_png(image_bytes, channels=3)]
    if transparency:
        png.append(lambda: _png_on_white(image_bytes, size))
    picture = tf.switch_case(kind, [*jpeg, *png])
    resized = _resize(picture, size, size)
    return tf.clip_by_value(resized / 255.0, 0.0, 1.0)


def decode_batch(image_bytes: tf.Tensor, size: int, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode string [N] so that bad bytes spoil only their own row.

    Returns pictures float32 [N, size, size, 3] and decoded bool [N]; a row that is not a JPEG or PNG, is
    broken, or has more than max_pixels is zeros and False. TensorFlow has no try/catch, but a tf.data
    pipeline inside the graph can drop failed elements: first all rows are one element, which costs
    hardly more than no pipeline; only where that fails is every row an element of its own.
    """
    together = _all_or_none(image_bytes, size, max_pixels)
    all_decoded = tf.shape(together)[0] == tf.shape(image_bytes)[0]
    pictures, decoded = tf.cond(
        all_decoded,
        lambda: (together, tf.ones_like(image_bytes, tf.bool)),
        lambda: _one_by_one(image_bytes, size, max_pixels),
    )
    return tf.ensure_shape(pictures, [None, size, size, 3]), tf.ensure_shape(decoded, [None])


def _all_or_none(image_bytes: tf.Tensor, size: int, max_pixels: int) -> tf.Tensor:
    """Pictures [N, size, size, 3], or [0, size, size, 3] where a row can't be decoded or may be transparent."""

    def decode_each(rows: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda row: decode_within(row, size, max_pixels, transparency=False),
            rows,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
            parallel_iterations=_AT_ONCE,
        )

    all_rows = tf.data.Dataset.from_tensors(image_bytes).map(decode_each).ignore_errors()
    none = tf.data.Dataset.from_tensors(tf.zeros([0, size, size, 3]))
    return all_rows.concatenate(none).take(1).get_single_element()


def _one_by_one(image_bytes: tf.Tensor, size: int, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As `decode_batch`, with a pipeline element a row; the rows that decode are scattered back by index."""
    count = tf.shape(image_bytes, tf.int64)[0]
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    rows = rows.map(
        lambda index, row: (index, decode_within(row, size, max_pixels)),
        num_parallel_calls=_AT_ONCE,
        deterministic=False,
    ).ignore_errors()
    last = tf.data.Dataset.from_tensors((count, tf.zeros([size, size, 3])))  # a batch can't be empty
    options = tf.data.Options()
    options.autotune.enabled = False
    index, pictures = rows.concatenate(last).batch(count + 1).with_options(options).get_single_element()
    shape = tf.cast(tf.stack([count + 1, size, size, 3]), tf.int64)
    scattered = tf.scatter_nd(index[:, tf.newaxis], pictures, shape)[:count]
    return scattered, tf.scatter_nd(index[:, tf.newaxis], tf.ones_like(index), [count + 1])[:count] > 0


def _jpeg_size(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.image.extract_jpeg_shape(image_bytes)[:2], tf.int64)


def _png_size(image_bytes: tf.Tensor) -> tf.Tensor:
    width_height = tf.io.decode_raw(tf.strings.substr(image_bytes, 16, 8), tf.uint8)  # IHDR, big-endian
    pairs = tf.reshape(tf.cast(width_height, tf.int64), [2, 4])
    return tf.reverse(tf.reduce_sum(pairs * tf.constant([2**24, 2**16, 2**8, 1], tf.int64), 1), [0])


def _jpeg(image_bytes: tf.Tensor, ratio: int) -> tf.Tensor:
    return tf.io.decode_jpeg(image_bytes, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _may_be_transparent(png: tf.Tensor) -> tf.Tensor:
    """Whether the header has an alpha channel, or the file may name a transparent colour."""
    colour_type = tf.strings.substr(png, 25, 1)
    named = tf.size(tf.strings.split(png, b"tRNS")) > 1
    return (colour_type == b"\x04") | (colour_type == b"\x06") | named


def _png_on_white(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """A transparent PNG as uint8 [H, at most size, 3]: a strip at a time is laid on white and made as narrow as asked.

    The whole picture and its copy on white would take three times the memory.
    """
    picture = tf.io.decode_png(image_bytes, channels=4)
    height, width = tf.unstack(tf.shape(picture)[:2])
    narrow = tf.minimum(width, size)
    rows = tf.maximum(1, _STRIP // width)
    starts = tf.range(0, height, rows)

    def on_white(at: tf.Tensor, strips: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        strip = tf.cast(picture[starts[at] : starts[at] + rows], tf.float32)
        strip = 255.0 + (strip[..., :3] - 255.0) * (strip[..., 3:] / 255.0)
        strip = _resize(strip, tf.shape(strip)[0], narrow)
        return at + 1, strips.write(at, tf.cast(tf.round(strip), tf.uint8))

    strips = tf.TensorArray(tf.uint8, tf.size(starts), infer_shape=False, element_shape=[None, None, 3])
    _, strips = tf.while_loop(lambda at, _: at < tf.size(starts), on_white, (0, strips), parallel_iterations=1)
    return strips.concat()


def _resize(picture: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
    """Float32 [height, width, 3] in [0, 255], as tf.image.resize with antialias does it, without its copy as floats.

    A picture of max_pixels takes a fourth of the memory in bytes.
    """
    size = tf.stack([height, width])
    return tf.raw_ops.ScaleAndTranslate(
        images=picture[tf.newaxis],
        size=size,
        scale=tf.cast(size, tf.float32) / tf.cast(tf.shape(picture)[:2], tf.float32),
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )[0]
