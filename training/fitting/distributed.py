"""Training on several machines at once: the first, the chief, decides and keeps the results; the others compute."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import tensorflow as tf

from training.stage.errors import BadInput


def strategy_of(environment: Mapping[str, str]) -> tf.distribute.Strategy:
    """A strategy of as many workers as TF_CONFIG names, each on all of its GPUs; without it, TensorFlow's default.

    Call it before anything is computed; it waits for the other workers. Raises BadInput for a malformed TF_CONFIG.
    """
    text = environment.get("TF_CONFIG")
    if not text:
        return tf.distribute.get_strategy()
    try:
        config = json.loads(text)
        config["cluster"]["worker"][config["task"]["index"]]
    except (ValueError, KeyError, TypeError, IndexError):
        form = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        raise BadInput(f"TF_CONFIG must be {form}; the first worker leads") from None
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process keeps the results of training; a single process always does."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def from_chief(strategy: tf.distribute.Strategy, value: Any) -> np.ndarray:
    """The chief's `value`, as float64 of the same shape, in every worker; all must call it."""
    own = np.asarray(value, np.float64)
    if strategy.cluster_resolver is None:
        return own

    def of_replica() -> tf.Tensor:
        context = cast(tf.distribute.ReplicaContext, tf.distribute.get_replica_context())
        return tf.where(tf.equal(context.replica_id_in_sync_group, 0), own, tf.zeros_like(own))

    return np.asarray(strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.function(of_replica)), axis=None))


def share_variables(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> None:
    """Give the variables the chief's values, in every worker; all must call it."""
    if strategy.cluster_resolver is None:
        return
    values = [np.asarray(variable.numpy()) for variable in variables]
    flat = from_chief(strategy, np.concatenate([value.ravel().astype(np.float64) for value in values]))
    start = 0
    for variable, value in zip(variables, values, strict=True):
        variable.assign(flat[start : start + value.size].reshape(value.shape).astype(value.dtype))
        start += value.size
