"""The client's bytes against those of tensorflow-serving-api, whose messages they are on the wire."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from photoproof.transport import grpc_format
from photoproof.transport.calls import (
    AskStatus,
    CallFailed,
    Describe,
    Described,
    Model,
    Predict,
    Predicted,
    ReportedStatus,
    TensorSpec,
)

LABEL = Model("product-encoder", label="stable")
VERSION = Model("product-encoder", version=12)
NEWEST = Model("product-encoder")


@pytest.fixture(scope="module")
def theirs():
    """tensorflow and tensorflow_serving.apis."""
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

    class Theirs:
        tensor = staticmethod(tf.make_tensor_proto)
        array = staticmethod(tf.make_ndarray)
        predict, metadata, status = predict_pb2, get_model_metadata_pb2, get_model_status_pb2
        tensorflow = tf

    return Theirs


def same_bytes(message) -> bytes:
    return message.SerializeToString(deterministic=True)


def spec(message, model: Model) -> None:
    message.name = model.name
    if model.version is not None:
        message.version.value = model.version
    elif model.label:
        message.version_label = model.label


@pytest.mark.parametrize("model", [LABEL, VERSION, NEWEST], ids=str)
def test_a_verify_request_is_theirs_byte_for_byte(theirs, model):
    request = theirs.predict.PredictRequest()
    spec(request.model_spec, model)
    request.model_spec.signature_name = "verify"
    request.inputs["original_bytes"].CopyFrom(theirs.tensor([b"\xff\xd8one"]))
    request.inputs["photo_bytes"].CopyFrom(theirs.tensor([b"two\0"]))
    call = Predict(model, "verify", {"photo_bytes": [b"two\0"], "original_bytes": [b"\xff\xd8one"]})
    path, message = grpc_format.encode(call)
    assert path == "/tensorflow.serving.PredictionService/Predict"
    assert message == same_bytes(request)


@pytest.mark.parametrize("shape", [(1, 8), (3, 5), (1, 1)])
def test_a_compare_request_is_theirs_byte_for_byte(theirs, shape):
    vector = np.linspace(-1, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    request = theirs.predict.PredictRequest()
    spec(request.model_spec, LABEL)
    request.model_spec.signature_name = "compare"
    request.inputs["embedding"].CopyFrom(theirs.tensor(vector))
    request.inputs["photo_bytes"].CopyFrom(theirs.tensor([b"photo"] * shape[0]))
    call = Predict(LABEL, "compare", {"embedding": vector, "photo_bytes": [b"photo"] * shape[0]})
    assert grpc_format.encode(call)[1] == same_bytes(request)


@pytest.mark.parametrize("model", [LABEL, VERSION, NEWEST], ids=str)
def test_a_metadata_request_is_theirs_byte_for_byte(theirs, model):
    request = theirs.metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    spec(request.model_spec, model)
    path, message = grpc_format.encode(Describe(model))
    assert path == "/tensorflow.serving.PredictionService/GetModelMetadata"
    assert message == same_bytes(request)


def test_a_status_request_is_theirs_byte_for_byte_and_asks_for_all_versions(theirs):
    request = theirs.status.GetModelStatusRequest()
    request.model_spec.name = "product-encoder"
    path, message = grpc_format.encode(AskStatus(LABEL))
    assert path == "/tensorflow.serving.ModelService/GetModelStatus"
    assert message == same_bytes(request)


@pytest.mark.parametrize(
    "value",
    [
        np.array([0.25, -1.5], np.float32),
        np.array([0.25], np.float32),
        np.zeros((2, 3), np.float32),
        np.array([], np.float32),
        np.array([True, False]),
        np.array([1, 2**40]),
        np.array([[1], [2]], np.int32),
        np.array([0.1, 0.2]),
        np.array([b"a", b"\0\xff"], object),
        np.array([], object),
    ],
    ids=lambda value: f"{value.dtype} {value.shape}",
)
def test_their_tensors_are_read_with_the_same_values(theirs, value):
    tensor = theirs.tensorflow.make_tensor_proto(value, shape=value.shape)
    response = theirs.predict.PredictResponse()
    response.outputs["x"].CopyFrom(tensor)
    response.model_spec.version.value = 7
    answer = grpc_format.decode(Predict(LABEL, "verify", {}), response.SerializeToString())
    assert isinstance(answer, Predicted) and answer.version == 7
    assert answer.outputs["x"].dtype == value.dtype
    assert np.array_equal(answer.outputs["x"], value)


def test_a_value_that_their_tensors_repeat_is_read_as_often(theirs):
    tensor = theirs.tensorflow.make_tensor_proto(0.5, np.float32, shape=[4])
    assert len(tensor.float_val) == 1
    response = theirs.predict.PredictResponse()
    response.outputs["x"].CopyFrom(tensor)
    answer = grpc_format.decode(Predict(LABEL, "verify", {}), response.SerializeToString())
    assert isinstance(answer, Predicted)
    assert answer.outputs["x"].tolist() == [0.5] * 4


def test_their_metadata_is_read(theirs):
    definitions = theirs.metadata.SignatureDefMap()
    verify = definitions.signature_def["verify"]
    verify.method_name = "tensorflow/serving/predict"
    verify.inputs["photo_bytes"].dtype = theirs.tensorflow.string.as_datatype_enum
    verify.inputs["photo_bytes"].tensor_shape.dim.add(size=-1)
    verify.outputs["embedding"].dtype = theirs.tensorflow.float32.as_datatype_enum
    for size in (-1, 64):
        verify.outputs["embedding"].tensor_shape.dim.add(size=size)
    verify.outputs["odd"].dtype = theirs.tensorflow.complex64.as_datatype_enum
    verify.outputs["odd"].tensor_shape.unknown_rank = True
    response = theirs.metadata.GetModelMetadataResponse()
    response.model_spec.version.value = 5
    response.metadata["signature_def"].Pack(definitions)
    answer = grpc_format.decode(Describe(LABEL), response.SerializeToString())
    assert isinstance(answer, Described) and answer.version == 5
    assert answer.signatures["verify"].inputs == {"photo_bytes": TensorSpec("string", (None,))}
    assert answer.signatures["verify"].outputs["embedding"] == TensorSpec("float32", (None, 64))
    assert answer.signatures["verify"].outputs["odd"].shape is None


def test_their_status_is_read_newest_first(theirs):
    response = theirs.status.GetModelStatusResponse()
    for version, state, message in ((1, "AVAILABLE", ""), (2, "END", "no such file")):
        entry = response.model_version_status.add(version=version)
        entry.state = theirs.status.ModelVersionStatus.State.Value(state)
        entry.status.error_message = message
    answer = grpc_format.decode(AskStatus(LABEL), response.SerializeToString())
    assert isinstance(answer, ReportedStatus)
    versions = [(entry.version, entry.state, entry.error) for entry in answer.versions]
    assert versions == [(2, "END", "no such file"), (1, "AVAILABLE", "")]


@pytest.mark.parametrize("call", [Predict(LABEL, "verify", {}), Describe(LABEL), AskStatus(LABEL)], ids=repr)
def test_rubbish_is_not_an_answer(call):
    with pytest.raises(CallFailed, match="its answer is invalid"):
        grpc_format.decode(call, b"\xff\xff\xff rubbish")


@pytest.mark.parametrize("version", ["5.26.1", "6.31.1", "7.35.0"])
def test_the_messages_are_the_same_with_every_supported_protobuf(version, tmp_path):
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*uv, f"protobuf=={version}"], check=True, timeout=120)
    script = """if True:
        import sys, google.protobuf
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        from photoproof.transport import grpc_format
        from photoproof.transport.calls import Model, Predict
        call = Predict(Model("m", label="stable"), "compare", {"embedding": np.ones((1, 2), np.float32)})
        print(google.protobuf.__version__, grpc_format.encode(call)[1].hex())
    """
    source = str(Path(grpc_format.__file__).parents[2])
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-W", "error", "-c", script, source]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    call = Predict(Model("m", label="stable"), "compare", {"embedding": np.ones((1, 2), np.float32)})
    assert done.stdout.split() == [version, grpc_format.encode(call)[1].hex()]
