import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.model_server.tensors import from_array, to_array

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(
    st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "uint64", "bool", "float16"]).flatmap(
        lambda dtype: hnp.arrays(dtype, SHAPES)
    )
)
def test_numbers_come_back_as_they_went(array):
    back = to_array(from_array(array))

    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=9), max_size=6))
def test_strings_come_back_with_every_byte(values):
    array = np.empty(len(values), object)
    array[:] = values

    assert to_array(from_array(array)).tolist() == values


@pytest.mark.parametrize("values", [[b"a", b"b"], [[b"a"], [b"b\0"]], b"a", [1.5, 2.5], [[True]], np.zeros((0, 4))])
def test_what_tensorflow_writes_is_read_the_same(values):
    proto = tf.make_tensor_proto(values)

    np.testing.assert_array_equal(to_array(proto), tf.make_ndarray(proto))


def test_one_value_fills_a_larger_shape():
    proto = from_array(np.array([b"a"], object))
    proto.tensor_shape.dim[0].size = 3

    assert to_array(proto).tolist() == [b"a"] * 3


@pytest.mark.parametrize("size", [-1, 2**40])
def test_a_shape_that_can_not_be_is_refused_without_being_made(size):
    for values in (np.array([b"a"], object), np.array([1.0])):
        proto = TensorProto()
        proto.CopyFrom(from_array(values))
        proto.tensor_shape.dim[0].size = size
        with pytest.raises(ValueError):
            to_array(proto)


def test_more_values_than_the_shape_holds_are_refused():
    proto = from_array(np.array([b"a", b"b"], object))
    proto.tensor_shape.dim[0].size = 1

    with pytest.raises(ValueError):
        to_array(proto)
