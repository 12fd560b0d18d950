"""Server-side batching: calls that come together are one run of the graph, as TensorFlow Serving's batching session.

One caller's error is then the error of every call in the run, there as here: that is what the exported graph's
isolating decode is for.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import grpc
import numpy as np

from serving.model_server.batching_parameters import Parameters
from serving.model_server.monitoring import Monitor
from serving.model_server.servable import Servable
from serving.model_server.status import (
    StatusError,
    deadline_exceeded,
    failed_precondition,
    from_exception,
    invalid_argument,
)
from training.saved_model.loading import Signature


@dataclass(eq=False)
class _Part:
    """Rows of a call that run together: all of it, or a slice where large calls are split."""

    call: "_Call"
    position: int
    arrays: list[np.ndarray]

    @property
    def size(self) -> int:
        return len(self.arrays[0])


@dataclass(eq=False)
class _Call:
    deadline: float | None
    outputs: list[dict[str, np.ndarray] | None] = field(default_factory=list)
    error: StatusError | None = None
    parts_left: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    given_up: bool = False


@dataclass(eq=False)
class _Batch:
    opened: float
    parts: list[_Part] = field(default_factory=list)
    size: int = 0


@dataclass(eq=False)
class _Queue:
    """Batches of one signature of one version; the last may still grow."""

    servable: Servable
    signature: Signature
    inputs: list[str]
    outputs: list[str]
    batches: deque[_Batch] = field(default_factory=deque)


class Batcher:
    """Merges calls of the versions given to `attach`; its threads live as long as the process."""

    def __init__(self, parameters: Parameters, monitor: Monitor):
        self._parameters = parameters
        self._monitor = monitor
        self._queues: dict[tuple, _Queue] = {}
        self._changed = threading.Condition()
        for number in range(parameters.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch_{number}", daemon=True).start()

    def attach(self, servable: Servable) -> Servable:
        """From now on the version's calls are merged."""
        servable.run = partial(self.run, servable)
        return servable

    def run(
        self,
        servable: Servable,
        signature: Signature,
        inputs: Sequence[str],
        outputs: Sequence[str],
        arrays: Sequence[np.ndarray],
        timeout_ms: int,
    ) -> dict[str, np.ndarray]:
        """As `Servable.run_alone`, merged with other calls. A call that asks for some outputs only runs alone."""
        if any(array.ndim == 0 for array in arrays):
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes = {len(array) for array in arrays}
        if len(sizes) > 1:
            raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
        if not arrays or sizes == {0} or len(outputs) != len(signature.outputs):
            return servable.run_alone(signature, inputs, outputs, arrays, timeout_ms)
        deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms else None
        call = self._enqueue(servable, signature, list(inputs), list(outputs), list(arrays), deadline)
        if not call.done.wait(timeout_ms / 1000 if timeout_ms else None):
            call.given_up = True
            raise deadline_exceeded()
        if call.error is not None:
            raise StatusError(call.error.code, call.error.message)
        parts = [part for part in call.outputs if part is not None]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

    def _enqueue(
        self,
        servable: Servable,
        signature: Signature,
        inputs: list[str],
        outputs: list[str],
        arrays: list[np.ndarray],
        deadline: float | None,
    ) -> _Call:
        limits, size = self._parameters, len(arrays[0])
        if size > limits.max_batch_size:
            raise invalid_argument(f"Task size {size} is larger than maximum input batch size {limits.max_batch_size}")
        key = (id(servable), signature.name, tuple(inputs))
        with self._changed:
            queue = self._queues.get(key) or _Queue(servable, signature, inputs, outputs)
            slices = _slices(size, queue, limits)
            fits = bool(queue.batches) and queue.batches[-1].size + slices[0].stop <= limits.execution_size
            new_batches = len(slices) - fits
            if len(queue.batches) + new_batches > limits.max_enqueued_batches:
                raise StatusError(
                    grpc.StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(queue.batches)} batches enqueued and max_enqueued_batches is {limits.max_enqueued_batches}",
                )
            self._queues[key] = queue
            call = _Call(deadline, outputs=[None] * len(slices), parts_left=len(slices))
            for position, rows in enumerate(slices):
                part = _Part(call, position, [array[rows] for array in arrays])
                if not queue.batches or queue.batches[-1].size + part.size > limits.execution_size:
                    queue.batches.append(_Batch(time.monotonic()))
                queue.batches[-1].parts.append(part)
                queue.batches[-1].size += part.size
            if (
                new_batches or queue.batches[-1].size >= limits.execution_size
            ):  # else no waiting thread has anything to do yet
                self._changed.notify()
        return call

    def _work(self) -> None:
        while True:
            queue, batch = self._next_batch()
            parts = [part for part in batch.parts if not part.call.given_up]
            if not parts:
                continue
            self._monitor.batch(queue.servable.name, sum(part.size for part in parts), time.monotonic() - batch.opened)
            try:
                outputs = self._run_merged(queue, parts)
            except Exception as error:  # every call in the run gets it, and no other
                failure = from_exception(error)
                for part in parts:
                    part.call.error = failure
                    part.call.done.set()
                continue
            finished = []
            with self._changed:
                for part, part_outputs in zip(parts, outputs, strict=True):
                    part.call.outputs[part.position] = part_outputs
                    part.call.parts_left -= 1
                    if not part.call.parts_left:
                        finished.append(part.call)
            for call in finished:
                call.done.set()

    def _next_batch(self) -> tuple[_Queue, _Batch]:
        """Waits for a batch that is full, or older than the timeout."""
        with self._changed:
            while True:
                now, soonest = time.monotonic(), None
                for key, queue in self._queues.items():
                    ready = queue.batches[0].opened + self._parameters.batch_timeout_seconds
                    full = len(queue.batches) > 1 or queue.batches[0].size >= self._parameters.execution_size
                    if full or ready <= now:
                        batch = queue.batches.popleft()
                        del self._queues[key]
                        if queue.batches:
                            self._queues[key] = queue  # at the end: queues take turns
                            self._changed.notify()
                        return queue, batch
                    soonest = min(ready, soonest or ready)
                self._changed.wait(soonest - now if soonest is not None else None)

    def _run_merged(self, queue: _Queue, parts: list[_Part]) -> list[dict[str, np.ndarray]]:
        rows = sum(part.size for part in parts)
        padding = next((size for size in self._parameters.allowed_batch_sizes if size >= rows), rows) - rows
        merged = []
        for position, name in enumerate(queue.inputs):
            arrays = [part.arrays[position] for part in parts]
            if len({array.shape[1:] for array in arrays}) > 1:
                raise failed_precondition(
                    f"Tensors with name '{queue.signature.definition.inputs[name].name}' from different tasks have "
                    "different shapes and padding is turned off. Set pad_variable_length_inputs to true, or ensure "
                    "that all tensors with the same name have equal dimensions starting with the first dim."
                )
            arrays += [arrays[0][:1]] * padding
            merged.append(np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
        deadlines = [part.call.deadline for part in parts]
        latest = None if None in deadlines else max(deadline for deadline in deadlines if deadline)
        timeout_ms = max(1, int((latest - time.monotonic()) * 1000)) if latest else 0
        outputs = queue.servable.run_alone(queue.signature, queue.inputs, queue.outputs, merged, timeout_ms)
        for array in outputs.values():
            if array.ndim == 0:
                raise failed_precondition("Batched output tensor has 0 dimensions")
            if len(array) != rows + padding:
                raise failed_precondition(
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    "input tensors"
                )
        ends = np.cumsum([part.size for part in parts]).tolist()
        return [
            {name: array[end - part.size : end] for name, array in outputs.items()}
            for part, end in zip(parts, ends, strict=True)
        ]


def _slices(size: int, queue: _Queue, limits: Parameters) -> list[slice]:
    """The rows of each part of a call: what the open batch still takes, then as much as a run takes."""
    if not limits.split:
        return [slice(0, size)]
    free_rows = limits.execution_size - queue.batches[-1].size if queue.batches else 0
    starts = sorted({0, *range(free_rows, size, limits.execution_size)})
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
