import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from serving.model_server import json_tensors
from serving.model_server.status import StatusError

ONE = {"image_bytes": (tf.string, None)}
TWO = {"original_bytes": (tf.string, None), "photo_bytes": (tf.string, None)}
VECTOR = {"embedding": (tf.float32, None)}


def read(body, inputs):
    return json_tensors.read(json_tensors.parse(json.dumps(body).encode()), inputs)


def listed(arrays):
    return {name: array.tolist() for name, array in arrays.items()}


def test_rows_of_named_inputs_become_one_array_each():
    form, arrays = read({"instances": [{"original_bytes": {"b64": "YQ=="}, "photo_bytes": "b"}] * 2}, TWO)

    assert form == "instances"
    assert listed(arrays) == {"original_bytes": [b"a", b"a"], "photo_bytes": [b"b", b"b"]}


def test_rows_of_a_single_input_need_no_name():
    assert listed(read({"instances": [{"b64": "YQ=="}, "b"]}, ONE)[1]) == {"image_bytes": [b"a", b"b"]}


def test_columns_are_read_by_name():
    assert listed(read({"inputs": {"original_bytes": ["a"], "photo_bytes": [{"b64": "YQ=="}]}}, TWO)[1]) == {
        "original_bytes": [b"a"],
        "photo_bytes": [b"a"],
    }


def test_a_column_of_a_single_input_needs_no_name():
    assert listed(read({"inputs": [[1, 2.5]]}, VECTOR)[1]) == {"embedding": [[1.0, 2.5]]}


def test_base64_may_lack_its_padding_and_hold_line_breaks():
    assert listed(read({"inputs": [{"b64": "YW\nI"}]}, ONE)[1]) == {"image_bytes": [b"ab"]}


@pytest.mark.parametrize(
    "body, inputs, message",
    [
        ({"instances": [{"photo_bytes": "b"}]}, TWO, "keys must be equal to: original_bytes,photo_bytes"),
        ({"instances": [{"x": "b"}]}, TWO, "JSON object: does not have named input: x"),
        ({"instances": ["a"]}, TWO, "instances is a plain list, but expecting list of objects as multiple input"),
        ({"instances": []}, ONE, "No values in 'instances' array"),
        ({"instances": {}}, ONE, "Expecting 'instances' to be an list/array"),
        ({"instances": [[1], [1, 2]]}, VECTOR, "Expecting tensor size: 1 but got: 2"),
        ({"instances": ["a", {"x": 1}]}, ONE, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [1], "inputs": [1]}, ONE, "expecting only one of 'inputs' or 'instances'"),
        ({}, ONE, "Missing 'inputs' or 'instances' key"),
        ({"inputs": {"photo_bytes": ["a"]}}, TWO, "Missing named input: original_bytes in 'inputs' object."),
        ({"inputs": ["a"]}, TWO, "inputs is a plain value/list, but expecting an object as multiple input"),
        ({"inputs": [[1, 2], [3]]}, VECTOR, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ({"inputs": [1, [2]]}, VECTOR, "Encountered list at unexpected level: 1 expected < 1"),
        ({"inputs": [1]}, ONE, "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"inputs": ["a"]}, VECTOR, 'JSON Value: "a" Type: String is not of expected type: float'),
        ({"inputs": [{"b64": "!"}]}, ONE, "Unable to base64 decode"),
        ({"signature_name": 1, "inputs": []}, ONE, "'signature_name' key must be a string value."),
    ],
)
def test_a_body_that_does_not_fit_is_refused_in_the_words_of_tensorflow_serving(body, inputs, message):
    with pytest.raises(StatusError) as refused:
        read(body, inputs)

    assert refused.value.http == 400
    assert message in refused.value.message


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "The document is empty"),
        (b"{", "Invalid value"),
        (b"[1]", "Is not object"),
        (b"\xff{}", "Invalid encoding"),
        (b"[" * 100_000, "Parse error"),
    ],
)
def test_what_is_no_json_object_is_refused(body, message):
    with pytest.raises(StatusError, match=message):
        json_tensors.parse(body)


def test_an_error_shows_at_most_the_beginning_of_a_large_value():
    with pytest.raises(StatusError) as refused:
        read({"instances": "x" * 10**6}, ONE)

    assert len(refused.value.message) < 400


def test_rows_are_answered_as_objects_and_columns_as_lists():
    arrays = {"decoded": np.array([True, False]), "similarity": np.array([0.2, -1], np.float32)}

    assert json.loads(json_tensors.write("instances", arrays)) == {
        "predictions": [{"decoded": True, "similarity": 0.2}, {"decoded": False, "similarity": -1.0}]
    }
    assert json.loads(json_tensors.write("inputs", arrays)) == {
        "outputs": {"decoded": [True, False], "similarity": [0.2, -1.0]}
    }


def test_a_single_output_is_answered_without_its_name():
    arrays = {"embedding": np.arange(6, dtype=np.float32).reshape(2, 3)}

    assert json.loads(json_tensors.write("instances", arrays)) == {"predictions": [[0, 1, 2], [3, 4, 5]]}


def test_bytes_are_answered_in_base64_where_the_name_says_bytes():
    arrays = {"image_bytes": np.array([b"\xff"], object), "model_id": np.array(["é".encode()], object)}

    assert json.loads(json_tensors.write("inputs", arrays)) == {
        "outputs": {"image_bytes": [{"b64": "/w=="}], "model_id": ["é"]}
    }


def test_outputs_of_unequal_length_are_refused_in_row_form():
    with pytest.raises(StatusError, match="inconsistent batch size: 1 expecting: 2"):
        json_tensors.write("instances", {"a": np.zeros(2), "b": np.zeros(1)})


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_a_float_is_answered_so_that_it_reads_as_the_same_float(values):
    array = np.array(values, np.float32)

    back = json.loads(json_tensors.write("inputs", {"x": array}))["outputs"]

    np.testing.assert_array_equal(np.array(back, np.float32), array)
