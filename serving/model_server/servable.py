"""One version of one model: loaded, and run by signature."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.model_server.status import from_exception, not_found, raise_status
from training.saved_model import loading

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


def load(name: str, number: int, folder: Path, config: config_pb2.ConfigProto) -> Servable:
    """Loads a version. Raises StatusError whatever is wrong with the folder."""
    if not ((folder / "saved_model.pb").is_file() or (folder / "saved_model.pbtxt").is_file()):
        raise not_found(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}")
    try:
        model = loading.load(folder, config=config)
    except Exception as error:  # a folder may be broken in any way; the server must outlive it
        raise from_exception(error) from error
    return Servable(name, number, model)
