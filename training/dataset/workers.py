"""Where work on many pictures is done: in processes of this machine, or on the Dask cluster that params.yaml names.

Both are executors of concurrent.futures. A task brings the bytes that it works on, so workers share no folder with the
stage; what they need is the same package. A worker that is lost costs time: Dask repeats its tasks on another.
"""

import functools
import multiprocessing
import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar, cast

from training.stage.errors import BadInput
from training.stage.fingerprints import package_fingerprint
from training.stage.params import Workers

MOST_BYTES = 4_000_000
"""A chunk holds no more pictures than fit into this, but at least one."""

WAIT = 15  # seconds for the scheduler to answer, and for a first worker
_PACKAGES = ("imagehash", "keras", "numpy", "pillow", "tensorflow")  # whose versions results depend on
Item = TypeVar("Item", bytes, bytes | str)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pool:
    """An executor, and what its tasks need to know."""

    executor: Executor
    at_once: int
    """Chunks submitted and not yet done, at most: more would only fill memory."""
    share: Callable[[Any], Any]
    """Gives a large value to every worker once; tasks take what it returns as an argument."""
    code: str | None
    """The fingerprint that workers must have too; None where they run on this machine."""


@contextmanager
def open_pool(workers: Workers) -> Generator[Pool, None, None]:
    """The pool that the params name. Raises BadInput where it is Dask and unavailable."""
    if workers.dask:
        with _dask(workers.dask) as pool:
            yield pool
        return
    count = workers.processes or os.cpu_count() or 1
    # Spawned, not forked: the caller may hold threads (a flow's, TensorFlow's).
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield Pool(executor, 4 * count, lambda value: value, None)
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _dask(address: str) -> Generator[Pool, None, None]:
    try:
        from dask import config
        from distributed import Client
    except ImportError:
        raise BadInput(
            f"workers.dask is {address}, and Dask is not installed: pip install 'photoproof-pipeline[dask]'"
        ) from None
    # Tasks hold pictures and a model; Dask would warn of each that is larger than 10 MB.
    with config.set({"distributed.admin.large-graph-warning-threshold": "1 GB"}):
        try:
            client = Client(address, timeout=WAIT, set_as_default=False)
        except (OSError, ValueError) as error:
            message = " ".join(str(error).split())
            raise BadInput(f"workers.dask: no Dask scheduler answers at {address} ({message})") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT)
            except TimeoutError:
                raise BadInput(
                    f"workers.dask: the scheduler at {address} has no workers: start some with `dask worker {address}`"
                ) from None
            threads = sum(cast(dict[str, int], client.nthreads()).values())
            try:
                at_once = max(64, 4 * threads)
                yield Pool(client.get_executor(), at_once, lambda value: client.submit(_identity, value), fingerprint())
            except CancelledError:
                raise BadInput(f"workers.dask: the scheduler at {address} was lost: run the stage again") from None


def chunked(items: Iterable[Item], pictures: int) -> Iterator[list[Item]]:
    """Items in lists of at most `pictures`, and of at most MOST_BYTES unless one alone is larger."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) == pictures or size + len(item) > MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += len(item)
    if chunk:
        yield chunk


def in_order(
    pool: Pool, function: Callable[..., Result], chunks: Iterable[Any], *shared: Any
) -> Generator[Result, None, None]:
    """function(chunk, *shared) for each chunk, in their order; chunks are read no further ahead than pool.at_once.

    `function` is at the top of a module. Raises what it raises, and BadInput for a worker with other code.
    """
    packed = pickle.dumps(function)  # so that Dask's scheduler need not import what it imports
    waiting = deque()
    for chunk in chunks:
        waiting.append(pool.executor.submit(_work, packed, pool.code, chunk, *shared))
        if len(waiting) == pool.at_once:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@functools.cache
def fingerprint() -> str:
    """What results depend on besides their pictures: the code of training/, and the versions of _PACKAGES."""
    return package_fingerprint([version(name) for name in _PACKAGES])


def _work(packed: bytes, code: str | None, chunk: Any, *shared: Any) -> Any:
    if code is not None and fingerprint() != code:
        raise BadInput(
            f"the worker on {socket.gethostname()} has another training/, or other packages, than this workspace: "
            "install the same commit and lock there, and restart it"
        )
    return pickle.loads(packed)(chunk, *shared)


def _identity(value: Any) -> Any:
    return value
