"""A SavedModel, loaded as TensorFlow Serving loads it: into a C++ session, never through `tf.saved_model.load`.

What runs in Python can fail there (docs/decisions/0014-a-saved-model-is-loaded-as-serving-does.md), so whatever
proves or serves an exported model goes through this module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives."""

    name: str
    definition: meta_graph_pb2.SignatureDef

    @cached_property
    def inputs(self) -> dict[str, tuple[tf.DType, tf.TensorShape]]:
        """Name -> (dtype, shape), unknown dimensions None."""
        return _specs(self.definition.inputs)

    @cached_property
    def outputs(self) -> dict[str, tuple[tf.DType, tf.TensorShape]]:
        """Name -> (dtype, shape), unknown dimensions None."""
        return _specs(self.definition.outputs)

    @property
    def method_name(self) -> str:
        """For example `tensorflow/serving/predict`."""
        return self.definition.method_name


class LoadedModel:
    """A SavedModel in a session of its own; thread-safe until closed."""

    def __init__(self, session: tf.compat.v1.Session, meta_graph: meta_graph_pb2.MetaGraphDef):
        self.session = session
        self.meta_graph = meta_graph
        self.signatures = {
            name: Signature(name, definition)
            for name, definition in meta_graph.signature_def.items()
            if not name.startswith("__")  # __saved_model_init_op and the like
        }
        self._steps: dict[tuple, Any] = {}

    def run(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of a signature by name. Strings are object arrays of bytes, in and out.

        Raises KeyError where signature or input has another name, and `tf.errors.OpError` where the graph fails.
        """
        signature = self.signatures[signature_name]
        names = sorted(signature.inputs)
        if set(names) != set(inputs):
            raise KeyError(f"signature {signature_name} takes {names}, not {sorted(inputs)}")
        arrays = [np.asarray(inputs[name], _numpy_type(signature.inputs[name][0])) for name in names]
        return self.step(signature, names, sorted(signature.outputs))(arrays)

    def step(self, signature: Signature, inputs: Sequence[str], outputs: Sequence[str], timeout_ms: int = 0):
        """A function [array per input] -> {output: array}; prepared in the session once, cheap to call.

        A run of more than `timeout_ms` (0: no limit) raises `tf.errors.DeadlineExceededError`.
        """
        key = (signature.name, tuple(inputs), tuple(outputs), timeout_ms)
        if key not in self._steps:
            tensors = [signature.definition.outputs[name].name for name in outputs]
            fetches = list(dict.fromkeys(tensors))  # the session refuses a tensor fetched twice
            options = config_pb2.CallableOptions(
                feed=[signature.definition.inputs[name].name for name in inputs],
                fetch=fetches,
                run_options=config_pb2.RunOptions(timeout_in_ms=timeout_ms),
            )
            places = [fetches.index(tensor) for tensor in tensors]
            self._steps[key] = (self.session._make_callable_from_options(options), places)
        call, places = self._steps[key]

        def run(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
            values = call(*arrays)
            return {name: values[place] for name, place in zip(outputs, places, strict=True)}

        return run

    def close(self) -> None:
        """Frees the session; a call still running is cancelled."""
        self._steps.clear()
        self.session.close()

    def __enter__(self) -> "LoadedModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(folder: Path, threads: int | None = None, config: config_pb2.ConfigProto | None = None) -> LoadedModel:
    """Loads the graph tagged `serve`, restores its variables and runs its initialisation.

    `threads` limits both of the session's thread pools (None: as many as cores); `config` says everything else.
    Raises OSError where the folder holds no SavedModel, `tf.errors.OpError` where its parts don't fit.
    """
    settings = config_pb2.ConfigProto()
    if config is not None:
        settings.CopyFrom(config)
    if threads is not None:
        settings.intra_op_parallelism_threads = settings.inter_op_parallelism_threads = threads
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=settings)
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel("ERROR")  # the loader is called deprecated; it is the one that this module is about
    try:
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
    except BaseException:
        session.close()
        raise
    finally:
        logger.setLevel(level)
    return LoadedModel(session, meta_graph)


def _specs(tensors: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, tuple[tf.DType, tf.TensorShape]]:
    return {name: (tf.dtypes.as_dtype(info.dtype), _shape(info.tensor_shape)) for name, info in tensors.items()}


def _shape(shape: Any) -> tf.TensorShape:
    return tf.TensorShape(shape)


def _numpy_type(dtype: tf.DType) -> Any:
    return object if dtype == tf.string else dtype.as_numpy_dtype
