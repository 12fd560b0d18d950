"""Training on several machines at once: the first leads, keeps and decides; the others compute and follow."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import tensorflow as tf

from training.stage.errors import BadInput


def strategy_of(environment: Mapping[str, str]) -> tf.distribute.Strategy:
    """One of as many workers as TF_CONFIG names, each on all of its GPUs; without it, what TensorFlow has by default.

    Call it before anything is computed; it waits for the other workers. Raises BadInput for a TF_CONFIG that is none.
    """
    said = environment.get("TF_CONFIG")
    if not said:
        return tf.distribute.get_strategy()
    try:
        config = json.loads(said)
        config["cluster"]["worker"][config["task"]["index"]]
    except (ValueError, KeyError, TypeError, IndexError):
        form = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        raise BadInput(f"TF_CONFIG must be {form}, the first worker being the one that leads") from None
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process keeps what comes of training; the only one always does."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def from_chief(strategy: tf.distribute.Strategy, value: Any) -> np.ndarray:
    """What the chief gives as `value`, float64 of the same shape, in every worker; all must call it."""
    own = np.asarray(value, np.float64)
    if strategy.cluster_resolver is None:
        return own

    def of_replica() -> tf.Tensor:
        context = cast(tf.distribute.ReplicaContext, tf.distribute.get_replica_context())
        return tf.where(tf.equal(context.replica_id_in_sync_group, 0), own, tf.zeros_like(own))

    return np.asarray(strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.function(of_replica)), axis=None))


def agree(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> None:
    """Give the variables the chief's values, in every worker; all must call it."""
    if strategy.cluster_resolver is None:
        return
    own = [np.asarray(one.numpy()) for one in variables]
    flat = from_chief(strategy, np.concatenate([one.ravel().astype(np.float64) for one in own]))
    at = 0
    for variable, value in zip(variables, own, strict=True):
        variable.assign(flat[at : at + value.size].reshape(value.shape).astype(value.dtype))
        at += value.size
