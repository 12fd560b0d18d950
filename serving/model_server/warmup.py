"""Warm-up records: requests that a version answers before it is available."""

import logging
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server import predict
from serving.model_server.servable import Servable
from serving.model_server.status import StatusError, from_exception, invalid_argument

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_WARMUP_RECORDS = 1000

log = logging.getLogger(__name__)


def warm_up(servable: Servable, folder: Path, iterations: int = 1) -> None:
    """Runs the warm-up requests that the version's folder has; where one fails, closes the version.

    Raises StatusError.
    """
    try:
        _run_records(servable, folder / WARMUP_FILE, iterations)
    except Exception as error:
        servable.close()
        raise from_exception(error) from error


def _run_records(servable: Servable, file: Path, iterations: int) -> None:
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
