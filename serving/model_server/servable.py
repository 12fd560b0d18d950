"""One version of one model: loaded, warmed, and run by signature."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server import predict
from serving.model_server.status import StatusError, from_exception, invalid_argument, not_found, raise_status
from training.saved_model import loading

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_WARMUP_RECORDS = 1000

log = logging.getLogger(__name__)

Run = Callable[[loading.Signature, Sequence[str], Sequence[str], Sequence[np.ndarray], int], dict[str, np.ndarray]]
"""(signature, input names, output names, an array per input, timeout in ms or 0) -> output by name."""


class Servable:
    """A loaded version. `run` may be replaced by one that merges calls (batching.py)."""

    def __init__(self, name: str, number: int, model: loading.LoadedModel):
        self.name = name
        self.number = number
        self.model = model
        self.run: Run = self.run_alone

    @property
    def signatures(self) -> dict[str, loading.Signature]:
        """By name."""
        return self.model.signatures

    @property
    def definitions(self) -> dict[str, meta_graph_pb2.SignatureDef]:
        """Every signature as the model has it, those that TensorFlow adds for itself too."""
        return dict(self.model.meta_graph.signature_def.items())

    def run_alone(
        self,
        signature: loading.Signature,
        inputs: Sequence[str],
        outputs: Sequence[str],
        arrays: Sequence[np.ndarray],
        timeout_ms: int,
    ) -> dict[str, np.ndarray]:
        """One call, one run of the graph. Raises StatusError with the session's own words.

        The timeout is taken up to the next power of two: the session prepares a step for each, so there must be few.
        """
        if timeout_ms:
            timeout_ms = 1 << (timeout_ms - 1).bit_length()
        try:
            return self.model.step(signature, inputs, outputs, timeout_ms)(arrays)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise_status(error)

    def close(self) -> None:
        """Frees the session."""
        self.model.close()


def load(
    name: str,
    number: int,
    folder: Path,
    config: config_pb2.ConfigProto,
    warm: bool = True,
    warm_iterations: int = 1,
) -> Servable:
    """Loads a version and runs its warm-up requests. Raises StatusError whatever is wrong with the folder."""
    if not ((folder / "saved_model.pb").is_file() or (folder / "saved_model.pbtxt").is_file()):
        raise not_found(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}")
    try:
        model = loading.load(folder, config=config)
    except Exception as error:  # a folder may be broken in any way; the server must outlive it
        raise from_exception(error) from error
    servable = Servable(name, number, model)
    try:
        if warm:
            _warm_up(servable, folder / WARMUP_FILE, warm_iterations)
    except Exception as error:
        servable.close()
        raise from_exception(error) from error
    return servable


def _warm_up(servable: Servable, file: Path, iterations: int) -> None:
    if not file.is_file():
        log.info("No warmup data file found at %s", file)
        return
    count = 0
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        count += 1
        if count > MOST_WARMUP_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MOST_WARMUP_RECORDS}) at {file}")
        entry = prediction_log_pb2.PredictionLog.FromString(record)
        kind = entry.WhichOneof("log_type")
        if kind != "predict_log":
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
        for _ in range(iterations):
            predict.predict(servable, entry.predict_log.request)
    log.info("Finished reading warmup data for model at %s. Number of warmup records read: %d.", file, count)
