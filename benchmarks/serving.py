"""Verify through a model server against calling the SavedModel in-process: latency, and pairs per second."""

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.model import Pairs
from benchmarks.server import MOST_CALLERS
from benchmarks.timing import Measurement, interleaved, median, ratio
from photoproof import Verifier
from photoproof.transport.address import server_at
from photoproof.transport.calls import Model, Predict
from photoproof.transport.connect import connect
from pipelines.registry.versions import MODEL
from training.saved_model.loading import LoadedModel

CALLERS = (1, 4, 16, MOST_CALLERS)
BATCH = 32
ROUNDS = 3
STABLE = Model(MODEL, label="stable")
TIMEOUT = 120.0


def latency_rows(model: LoadedModel | None, grpc: str, rest: str, pairs: Pairs, seconds: float) -> list[Measurement]:
    """One caller: a call of `verify` as both transports carry it, and the whole of Verifier.verify, pictures included.

    `model` is what the server serves, in this process; None where it is not known, and nothing is compared.
    """
    turns = itertools.cycle(pairs)
    transports = {"gRPC": connect(server_at(grpc)), "REST": connect(server_at(rest))}
    verifier = Verifier(grpc, model=MODEL, timeout=TIMEOUT)
    current = [next(turns)]  # every task of a turn takes the same pair

    def in_process() -> None:
        current[0] = next(turns)
        if model is not None:
            model.run("verify", _inputs([current[0]]))

    def call(name: str) -> Callable[[], object]:
        return lambda: transports[name].send(_verify(*current[0]), TIMEOUT)

    tasks = {"in-process": in_process, **{name: call(name) for name in transports}}
    tasks["Verifier"] = lambda: verifier.verify(*current[0])
    try:
        times = interleaved(tasks, seconds)
    finally:
        for transport in transports.values():
            transport.close()
        verifier.close()
    alone = times.pop("in-process")
    rows = [_latency("calling the SavedModel in-process", alone)] if model is not None else []
    for name, what in (("gRPC", "through gRPC"), ("REST", "through REST"), ("Verifier", "Verifier.verify over gRPC")):
        rows.append(_latency(what, times[name]))
        if model is not None:
            slower = median(times[name]) / median(alone)
            text = f"{slower:.2f}x (median of turns {ratio(times[name], alone):.2f}x)"
            rows.append(Measurement("latency", f"{what}: p50 against in-process", text, slower, 1.2))
    return rows


def throughput_rows(model: LoadedModel | None, grpc: str, pairs: Pairs, seconds: float) -> list[Measurement]:
    """Pairs per second at each number of callers, against batches of BATCH run in-process, one or two at a time."""
    tasks: dict[str, Callable[[float], float]] = {}
    if model is not None:
        batch = _inputs((pairs * BATCH)[:BATCH])
        for threads in (1, 2):
            tasks[f"in-process, {threads}"] = lambda seconds, threads=threads: _rate(
                lambda: model.run("verify", batch), threads, seconds, BATCH
            )
    transport = connect(server_at(grpc))
    turns, lock = itertools.cycle(pairs), threading.Lock()

    def one_pair() -> None:
        with lock:
            pair = next(turns)
        transport.send(_verify(*pair), TIMEOUT)

    for callers in CALLERS:
        tasks[str(callers)] = lambda seconds, callers=callers: _rate(one_pair, callers, seconds)
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    try:
        for _ in range(ROUNDS):
            for name, task in tasks.items():
                rates[name].append(task(seconds / ROUNDS / len(tasks)))
    finally:
        transport.close()
    medians = {name: float(np.median(turns)) for name, turns in rates.items()}
    limit = max((rate for name, rate in medians.items() if name.startswith("in-process")), default=None)
    rows = []
    if limit is not None:
        what = f"in-process, batches of {BATCH} (the better of one and two at a time)"
        rows.append(Measurement("throughput", what, f"{limit:.0f} pairs/s", limit, unit="pairs/s"))
    for callers in CALLERS:
        rate, what = medians[str(callers)], "1 caller" if callers == 1 else f"{callers} callers"
        if limit is None:
            rows.append(Measurement("throughput", what, f"{rate:.0f} pairs/s", rate, unit="pairs/s"))
        else:
            text = f"{rate / limit:.2f}x ({rate:.0f} pairs/s)"
            rows.append(Measurement("throughput", what, text, rate / limit, 0.9 if callers >= 16 else None, "least"))
    return rows


def _latency(what: str, times: np.ndarray) -> Measurement:
    text = f"p50 {np.percentile(times, 50):.1f} ms, p99 {np.percentile(times, 99):.1f} ms"
    return Measurement("latency", what, text, median(times), unit="ms")


def _rate(task: Callable[[], object], threads: int, seconds: float, pairs: int = 1) -> float:
    """Pairs a second of so many threads that each repeat the task."""
    end = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            task()
            done += 1
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(work, range(threads)))
    return done * pairs / (time.perf_counter() - start)


def _verify(original: bytes, photo: bytes) -> Predict:
    return Predict(STABLE, "verify", {"original_bytes": [original], "photo_bytes": [photo]})


def _inputs(pairs: Pairs) -> dict[str, np.ndarray]:
    originals, photos = zip(*pairs, strict=True)
    return {"original_bytes": np.array(originals, object), "photo_bytes": np.array(photos, object)}
