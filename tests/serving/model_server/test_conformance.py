"""What any model server must answer. By default the local one is asked; TFS_ADDRESS=host:grpc_port,host:rest_port asks
another, which must serve a model with the product's signatures as `product-encoder`, one version labelled `stable`.
"""

import base64
import gzip
import json
import os
import socket
import subprocess

import grpc
import httpx
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MODEL = "product-encoder"
VERDICT = {"similarity", "distance", "probability", "accept_at", "reject_at", "decoded", "model_id"}


@pytest.fixture(scope="module")
def addresses(request):
    if given := os.environ.get("TFS_ADDRESS"):
        grpc_address, rest_address = given.split(",")
        return grpc_address, rest_address
    server = request.getfixturevalue("model_server")
    return f"127.0.0.1:{server.grpc_port}", f"127.0.0.1:{server.rest_port}"


@pytest.fixture(scope="module")
def channel(addresses):
    with grpc.insecure_channel(addresses[0]) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def management(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="module")
def rest(addresses):
    with httpx.Client(base_url=f"http://{addresses[1]}", timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def version(management):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    return max(status.version for status in management.GetModelStatus(request).model_version_status)


def verify_request(original=(b"a",), photo=(b"b",), **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = "verify"
    for name, value in spec.items():
        if name == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, name, value)
    request.inputs["original_bytes"].CopyFrom(tf.make_tensor_proto(list(original), tf.string))
    request.inputs["photo_bytes"].CopyFrom(tf.make_tensor_proto(list(photo), tf.string))
    return request


def failure(call, *arguments):
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments)
    return raised.value.code().name, raised.value.details() or ""


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


# Predict over gRPC


def test_predict_answers_every_output_with_a_row_per_input(prediction):
    response = prediction.Predict(verify_request([b"a", b"b"], [b"c", b"bad"]))

    assert set(response.outputs) == VERDICT
    assert {name: tf.make_ndarray(proto).shape for name, proto in response.outputs.items()} == dict.fromkeys(
        VERDICT, (2,)
    )


def test_predict_names_the_version_and_signature_that_answered(prediction, version):
    spec = prediction.Predict(verify_request(version_label="stable")).model_spec

    assert (spec.name, spec.version.value, spec.signature_name) == (MODEL, version, "verify")


def test_numbers_are_answered_in_typed_fields(prediction):
    response = prediction.Predict(verify_request())

    assert len(response.outputs["similarity"].float_val) == 1
    assert len(response.outputs["decoded"].bool_val) == 1
    assert not response.outputs["similarity"].tensor_content


def test_no_signature_name_is_serving_default(prediction):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"a"]))

    response = prediction.Predict(request)

    assert response.model_spec.signature_name == "serving_default"
    assert set(response.outputs) == {"embedding", "decoded", "model_id"}


def test_an_output_filter_is_kept_to(prediction):
    request = verify_request()
    request.output_filter.append("similarity")

    assert set(prediction.Predict(request).outputs) == {"similarity"}


def test_tensor_content_is_read_as_typed_fields_are(prediction):
    def score(**values):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.model_spec.signature_name = "score"
        for name, proto in values.items():
            request.inputs[name].CopyFrom(proto)
        return tf.make_ndarray(prediction.Predict(request).outputs["similarity"])

    encode = predict_pb2.PredictRequest()
    encode.model_spec.name = MODEL
    encode.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([b"a", b"b"]))
    typed = prediction.Predict(encode).outputs["embedding"]
    content = tf.make_tensor_proto(tf.make_ndarray(typed))
    assert content.tensor_content

    same = score(original_embedding=typed, photo_embedding=typed)
    assert score(original_embedding=content, photo_embedding=content) == pytest.approx(same)


@pytest.mark.parametrize(
    "spec, code, words",
    [
        ({"name": "nope"}, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        ({"name": ""}, "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        ({"version": 999}, "NOT_FOUND", f"Servable not found for request: Specific({MODEL}, 999)"),
        ({"version_label": "x"}, "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
        ({"signature_name": "x"}, "FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
    ],
)
def test_what_is_not_there_is_said_in_tensorflow_servings_words(prediction, spec, code, words):
    assert failure(prediction.Predict, verify_request(**spec)) == (code, words)


def test_a_request_without_a_model_spec_is_refused(prediction):
    assert failure(prediction.Predict, predict_pb2.PredictRequest()) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_a_missing_input_is_named(prediction):
    request = verify_request()
    del request.inputs["photo_bytes"]

    code, words = failure(prediction.Predict, request)

    assert code == "INVALID_ARGUMENT"
    assert words.startswith("input size does not match signature: 1!=2 len({original_bytes})")
    assert "Missing but required: {photo_bytes}" in words


def test_an_output_that_the_signature_has_not_is_named(prediction):
    request = verify_request()
    request.output_filter.append("x")

    code, words = failure(prediction.Predict, request)

    assert code == "INVALID_ARGUMENT"
    assert words.startswith("output tensor alias not found in signature: x")


def test_a_tensor_whose_shape_and_values_differ_is_refused(prediction):
    request = verify_request([b"a", b"b"], [b"c", b"d"])
    request.inputs["photo_bytes"].tensor_shape.dim[0].size = 1

    assert failure(prediction.Predict, request) == ("INVALID_ARGUMENT", "tensor parsing error: photo_bytes")


def test_a_tensor_of_another_type_is_an_invalid_argument(prediction):
    request = verify_request()
    request.inputs["photo_bytes"].CopyFrom(tf.make_tensor_proto([1.5]))

    assert failure(prediction.Predict, request)[0] == "INVALID_ARGUMENT"


def test_classify_is_no_way_to_ask(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Nothing")

    assert failure(call, b"")[0] == "UNIMPLEMENTED"


# Status and metadata over gRPC


def test_status_lists_the_versions_and_their_state(management, version):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = MODEL
    request.model_spec.version.value = version

    [status] = management.GetModelStatus(request).model_version_status

    assert (status.version, status.state) == (version, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert (status.status.error_code, status.status.error_message) == (0, "")


def test_status_of_what_is_not_there_is_not_found(management):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "nope"
    assert failure(management.GetModelStatus, request) == ("NOT_FOUND", "Could not find any versions of model nope")

    request.model_spec.name = MODEL
    request.model_spec.version.value = 999
    assert failure(management.GetModelStatus, request) == (
        "NOT_FOUND",
        f"Could not find version 999 of model {MODEL}",
    )


def test_metadata_holds_the_signatures(prediction, version):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = MODEL

    response = prediction.GetModelMetadata(request)

    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == version
    assert {"encode", "verify", "compare", "score", "serving_default"} <= set(signatures.signature_def)
    assert set(signatures.signature_def["verify"].inputs) == {"original_bytes", "photo_bytes"}


def test_metadata_of_another_kind_is_refused(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["x"])
    request.model_spec.name = MODEL

    assert failure(prediction.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "Metadata field x is not supported",
    )


# REST

PREDICT = f"/v1/models/{MODEL}:predict"
BY_LABEL = f"/v1/models/{MODEL}/labels/stable:predict"


def test_rows_are_answered_as_rows(rest):
    row = {"original_bytes": b64(b"a"), "photo_bytes": b64(b"b")}

    response = rest.post(PREDICT, json={"signature_name": "verify", "instances": [row, row]})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    predictions = response.json()["predictions"]
    assert len(predictions) == 2 and set(predictions[0]) == VERDICT


def test_columns_are_answered_as_columns(rest):
    columns = {"original_bytes": [b64(b"a")], "photo_bytes": [b64(b"b")]}

    outputs = rest.post(BY_LABEL, json={"signature_name": "verify", "inputs": columns}).json()["outputs"]

    assert set(outputs) == VERDICT and len(outputs["similarity"]) == 1


def test_rest_and_grpc_answer_the_same(rest, prediction):
    columns = {"original_bytes": [b64(b"a")], "photo_bytes": [b64(b"b")]}

    outputs = rest.post(PREDICT, json={"signature_name": "verify", "inputs": columns}).json()["outputs"]
    answered = prediction.Predict(verify_request()).outputs

    for name in ("similarity", "distance", "probability", "accept_at", "reject_at"):
        assert outputs[name] == pytest.approx(list(answered[name].float_val), abs=1e-6)


def test_a_version_may_be_in_the_path(rest, version):
    body = {"instances": [b64(b"a")]}

    assert rest.post(f"/v1/models/{MODEL}/versions/{version}:predict", json=body).status_code == 200


@pytest.mark.parametrize(
    "path, status, words",
    [
        ("/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
        (f"/v1/models/{MODEL}/versions/999:predict", 404, f"Servable not found for request: Specific({MODEL}, 999)"),
        (f"/v1/models/{MODEL}/labels/x:predict", 400, "Unrecognized servable version label: x"),
        (f"/v1/models/{MODEL}/predict", 400, f"Malformed request: POST /v1/models/{MODEL}/predict"),
    ],
)
def test_rest_says_what_is_not_there_in_the_same_words(rest, path, status, words):
    response = rest.post(path, json={"instances": [b64(b"a")]})

    assert (response.status_code, response.json()) == (status, {"error": words})


def test_a_signature_that_is_not_there_is_a_bad_request(rest):
    response = rest.post(PREDICT, json={"signature_name": "x", "instances": [b64(b"a")]})

    assert response.status_code == 400
    assert response.json() == {"error": 'Serving signature name: "x" not found in signature def'}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"instances": 1}', b'{"instances": [{"b64": "?"}]}', b"\xff" * 99]
)
def test_a_body_that_is_no_request_is_a_bad_request(rest, body):
    response = rest.post(PREDICT, content=body)

    assert response.status_code == 400
    assert response.json()["error"]


def test_status_over_rest(rest, version):
    expected = {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    assert expected in rest.get(f"/v1/models/{MODEL}").json()["model_version_status"]
    assert rest.get(f"/v1/models/{MODEL}/versions/{version}").json() == {"model_version_status": [expected]}


def test_status_over_rest_of_what_is_not_there(rest):
    response = rest.get("/v1/models/nope")

    assert (response.status_code, response.json()) == (404, {"error": "Could not find any versions of model nope"})


def test_metadata_over_rest(rest, version):
    metadata = rest.get(f"/v1/models/{MODEL}/metadata").json()

    assert (metadata["model_spec"]["name"], metadata["model_spec"]["version"]) == (MODEL, str(version))
    verify = metadata["metadata"]["signature_def"]["signature_def"]["verify"]
    assert verify["inputs"]["photo_bytes"]["dtype"] == "DT_STRING"
    assert verify["method_name"] == "tensorflow/serving/predict"


def test_other_paths_are_not_found(rest):
    assert rest.get("/").status_code == 404


def test_a_gzip_body_is_read(rest):
    body = gzip.compress(json.dumps({"instances": [b64(b"a")]}).encode())

    assert rest.post(PREDICT, content=body, headers={"Content-Encoding": "gzip"}).status_code == 200


def test_a_chunked_body_is_read(rest):
    body = json.dumps({"instances": [b64(b"a" * 1000)]}).encode()

    response = rest.post(PREDICT, content=iter([body[:10], body[10:500], body[500:]]))

    assert response.status_code == 200


def test_a_caller_that_speaks_no_http_disturbs_nobody(addresses, rest):
    host, _, port = addresses[1].rpartition(":")
    for rubbish in (
        b"\0\xff" * 100,
        b"POST /v1/models/x:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello",
        b"POST /v1/models/x:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET " + b"/" * 100_000,
    ):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            assert not connection.recv(65536).startswith(b"HTTP/1.1 200")

    assert rest.get(f"/v1/models/{MODEL}").status_code == 200


def test_curl_is_answered(addresses):
    body = json.dumps({"instances": [b64(b"a" * 2_000_000)]})  # large enough that curl asks before it sends

    command = ["curl", "-s", "-d", "@-", f"http://{addresses[1]}{PREDICT}"]
    answer = subprocess.run(command, input=body, capture_output=True, text=True, check=True, timeout=30)

    assert "predictions" in json.loads(answer.stdout)
