"""The isolating decode (training/model/images.py: decode_batch) against plain map_fn and the encoder, in C++."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.model import Pairs
from benchmarks.timing import Measurement, Task, interleaved, median, ratio
from training.model.images import decode, decode_batch
from training.saved_model import loading

SIZES = (1, 8, 32, 64)
SPOILED = 32


def rows(model: loading.LoadedModel, pairs: Pairs, size: int, max_pixels: int, folder: Path, seconds: float):
    """For each batch size the cost of the decode and that of the rest of `encode`. `size` is the model's side."""

    def plain(image_bytes: tf.Tensor) -> tf.Tensor:
        picture = tf.TensorSpec([size, size, 3], tf.float32)
        return tf.map_fn(lambda row: decode(row, size), image_bytes, fn_output_signature=picture)

    def isolating(image_bytes: tf.Tensor) -> tf.Tensor:
        return decode_batch(image_bytes, size, max_pixels)[0]

    rows = []
    pictures = [picture for pair in pairs for picture in pair]
    with _loaded(plain, folder / "plain") as by_map_fn, _loaded(isolating, folder / "isolating") as isolated:
        for count in SIZES:
            good = np.array((pictures * count)[:count], object)
            tasks: dict[str, Task] = {
                "plain": partial(by_map_fn.run, "decode", {"image_bytes": good}),
                "isolating": partial(isolated.run, "decode", {"image_bytes": good}),
                "encode": partial(model.run, "encode", {"image_bytes": good}),
            }
            if count == SPOILED:
                spoiled = good.copy()
                spoiled[-1] = good[-1][: len(good[-1]) // 2]
                tasks["spoiled"] = partial(isolated.run, "decode", {"image_bytes": spoiled})
            times = interleaved(tasks, seconds / len(SIZES))
            cost = ratio(times["isolating"], times["plain"])
            medians = {name: median(times[name]) for name in times}
            rows += [
                Measurement(
                    "decode",
                    f"isolating decode against map_fn, {_pictures(count)}",
                    f"{cost:.2f}x ({medians['isolating']:.1f} ms against {medians['plain']:.1f})",
                    cost,
                    1.5 if count == 1 else 1.1,
                ),
                Measurement(
                    "decode",
                    f"the encoder beside that decode, {_pictures(count)}",
                    f"{medians['encode'] - medians['isolating']:.1f} ms of encode's {medians['encode']:.1f}",
                    medians["encode"] - medians["isolating"],
                    unit="ms",
                ),
            ]
            if count == SPOILED:
                cost = ratio(times["spoiled"], times["isolating"])
                text = f"{cost:.2f}x ({medians['spoiled']:.1f} ms against {medians['isolating']:.1f})"
                what = f"isolating decode with one of {count} cut off, against all good"
                rows.append(Measurement("decode", what, text, cost))
    return rows


def _loaded(function: Callable[[tf.Tensor], tf.Tensor], folder: Path) -> loading.LoadedModel:
    """The function as the only signature, `decode`, of a SavedModel."""

    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pictures": function(image_bytes)}

    module = tf.Module()
    signature = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    module.signature = signature  # pyright: ignore[reportAttributeAccessIssue]
    tf.saved_model.save(module, str(folder), signatures={"decode": signature})
    return loading.load(folder)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
