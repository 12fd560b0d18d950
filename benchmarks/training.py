"""Whether the input pipeline keeps up: steps a second with real pictures, against the same batch held in memory."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.model import Pairs
from benchmarks.timing import Measurement
from training.fitting import batches
from training.fitting.catalogue import Catalogue
from training.fitting.learner import new_learner, step_function
from training.stage.params import Train

ROUNDS = 3
PREFETCHED = 4
"""Steps that wait in the pipeline; a turn leaves them out, for they were prepared while the other side was measured."""


def rows(pairs: Pairs, settings: Train, folder: Path, seconds: float) -> list[Measurement]:
    """The ratio, held to its target only on a GPU: on a CPU decoding and training share the cores."""
    catalogue = _catalogue(pairs, folder)
    _, size = batches.step_size(catalogue, settings)
    strategy = tf.distribute.get_strategy()
    step = step_function(new_learner(settings, catalogue.count, 1000), catalogue, settings, strategy)
    remaining = iter(batches.batches(catalogue, settings, batches.plan_steps(catalogue, settings, 10_000), 0))
    held = next(remaining)
    step(*held)
    start = time.perf_counter()
    step(*held)
    steps = max(2, round(seconds / (2 * ROUNDS) / (time.perf_counter() - start)))
    real, memory = [], []
    for _ in range(ROUNDS):
        for _ in range(PREFETCHED):
            step(*next(remaining))
        real.append(_rate(lambda: step(*next(remaining)), steps))
        memory.append(_rate(lambda: step(*held), steps))
    ratio = float(np.median(real) / np.median(memory))
    text = f"{ratio:.2f}x ({np.median(real):.1f} steps/s against {np.median(memory):.1f}, {size} pictures a step)"
    gpu = bool(tf.config.list_physical_devices("GPU"))
    where = "on a GPU" if gpu else "on a CPU, whose cores both share"
    what = f"steps with real pictures against a batch in memory, {where}"
    return [Measurement("training", what, text, ratio, 0.95 if gpu else None, "least")]


def _catalogue(pairs: Pairs, folder: Path) -> Catalogue:
    folder.mkdir(parents=True)
    paths = []
    for kind in (0, 1):
        for number, pair in enumerate(pairs):
            path = folder / f"{'op'[kind]}{number}.jpg"
            path.write_bytes(pair[kind])
            paths.append(str(path))
    return Catalogue(tuple(paths), np.tile(np.arange(len(pairs), dtype=np.int32), 2), len(pairs))


def _rate(task: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        task()
    return times / (time.perf_counter() - start)
