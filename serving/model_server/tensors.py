"""TensorProto to numpy and back, without the slow paths of `tf.make_ndarray` and `tf.make_tensor_proto`."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DT_STRING

_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.bool: "bool_val",
    tf.int64: "int64_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
}

MOST_VALUES = 2**28
"""A message of a few bytes may name any shape; more values than these are not made of it."""


def to_array(proto: TensorProto) -> np.ndarray:
    """The tensor of a message; strings as an object array of bytes.

    Raises ValueError (or TypeError) where the message's shape and values don't fit.
    """
    shape = [dim.size for dim in proto.tensor_shape.dim]
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count > MOST_VALUES:
        raise ValueError(f"shape {shape}")
    if proto.dtype != DT_STRING or proto.tensor_content:
        array = tf.make_ndarray(proto)
        return array if array.flags.writeable and array.flags.c_contiguous else np.array(array)
    values = list(proto.string_val)
    if len(values) > count or (count > 1 and not values):
        raise ValueError(f"{len(values)} values for shape {shape}")
    array = np.empty(count, object)
    array[:] = values + [values[-1] if values else b""] * (count - len(values))  # the last one fills the rest
    return array.reshape(shape)


def from_array(array: np.ndarray, as_content: bool = False) -> TensorProto:
    """The message of a tensor, in typed fields as TensorFlow Serving fills them, or as bytes."""
    proto = TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.dtype = DT_STRING
        proto.string_val.extend(array.ravel().tolist())
        return proto
    dtype = tf.dtypes.as_dtype(array.dtype)
    if as_content or dtype not in _FIELDS:
        return tf.make_tensor_proto(array)
    proto.dtype = dtype.as_datatype_enum
    getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())
    return proto
