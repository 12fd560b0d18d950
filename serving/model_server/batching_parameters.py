"""--batching_parameters_file: what it may set, and TensorFlow Serving's defaults."""

import os
from dataclasses import dataclass
from typing import Any

from serving.model_server.status import invalid_argument


@dataclass(frozen=True)
class Parameters:
    """BatchingParameters with TensorFlow Serving's defaults. Sizes are rows."""

    max_batch_size: int = 1000
    batch_timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    allowed_batch_sizes: tuple[int, ...] = ()
    split: bool = False
    max_execution_batch_size: int = 1000

    @property
    def execution_size(self) -> int:
        """Most rows in one run."""
        return self.max_execution_batch_size if self.split else self.max_batch_size


def parameters(message: Any) -> Parameters:
    """Parameters of a BatchingParameters message. Raises StatusError, in TensorFlow Serving's words, for unfit ones."""
    if message.pad_variable_length_inputs:
        raise invalid_argument("pad_variable_length_inputs is not supported by the local model server")
    given: dict[str, Any] = {
        name: getattr(message, name).value
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size")
        if message.HasField(name)
    }
    if message.HasField("batch_timeout_micros"):
        given["batch_timeout_seconds"] = message.batch_timeout_micros.value / 1e6
    if "max_batch_size" in given:
        given.setdefault("max_execution_batch_size", given["max_batch_size"])
    result = Parameters(
        **given,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        split=message.enable_large_batch_splitting.value,
    )
    for name, value in {
        "num_batch_threads": result.num_batch_threads,
        "input_batch_size_limit": result.max_batch_size,
        "max_enqueued_batches": result.max_enqueued_batches,
        "max_execution_batch_size": result.execution_size,
    }.items():
        if value < 1:
            raise invalid_argument(f"{name} must be positive; was {value}")
    if result.batch_timeout_seconds < 0:
        raise invalid_argument("batch_timeout_micros must be non-negative")
    if result.split and result.max_batch_size < result.max_execution_batch_size:
        raise invalid_argument(
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal to "
            "max_execution_batch_size."
        )
    sizes = result.allowed_batch_sizes
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != result.execution_size):
        raise invalid_argument(
            "Last entry in allowed_batch_sizes must match max_batch_size (max_execution_batch_size where batches are "
            f"split), and entries must increase; was {list(sizes)}, expected {result.execution_size}"
        )
    return result
