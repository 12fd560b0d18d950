"""Servers that are not there, hang, are busy, come back, answer rubbish, or hold another model."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import grpc
import pytest

from photoproof import (
    AsyncVerifier,
    DeadlineExceeded,
    InvalidImage,
    ServerError,
    ServerUnavailable,
    UnfitModel,
    Verdict,
    Verifier,
)
from photoproof.transport._proto import wire_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
DESCRIBE = "/tensorflow.serving.PredictionService/GetModelMetadata"
SCHEMES = ["grpc", "http"]


@contextmanager
def raw_server(answer: bytes | list[bytes] | None, pause: float = 0.0):
    """A socket that answers every connection with the same bytes, or with nothing ever (None); yields its port.

    Of a list, each part comes after a pause in seconds.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()
    connections: list[socket.socket] = []

    def serve() -> None:
        while not done.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            if answer is not None:
                threading.Thread(target=talk, args=(connection, answer), daemon=True).start()

    def talk(connection: socket.socket, words: bytes | list[bytes]) -> None:
        try:
            connection.recv(65536)
            for part in words if isinstance(words, list) else [words]:
                if done.wait(pause):
                    return
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


def refuse_first(count: int, code: grpc.StatusCode, then: bytes):
    """Answers with the code so often, then with the bytes."""
    lock, left = threading.Lock(), [count]

    def answer(request: bytes):
        with lock:
            left[0] -= 1
            return code if left[0] >= 0 else then

    return answer


@pytest.fixture
def good(scripted_server) -> bytes:
    return scripted_server.answers[PREDICT](b"")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nobody_at_the_address_is_server_unavailable(scheme, pair):
    with (
        Verifier(f"{scheme}://127.0.0.1:1", timeout=0.6) as verifier,
        pytest.raises(ServerUnavailable, match=":1 can't"),
    ):
        verifier.verify(*pair)


def test_few_retries_give_up_before_the_time_is_up(pair):
    start = time.monotonic()
    with Verifier("grpc://127.0.0.1:1", timeout=60, retries=1) as verifier, pytest.raises(ServerUnavailable):
        verifier.verify(*pair)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_hangs_is_deadline_exceeded_in_time(scheme, pair):
    with raw_server(None) as port, Verifier(f"{scheme}://127.0.0.1:{port}", timeout=0.7) as verifier:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="did not answer in time"):
            verifier.verify(*pair)
        assert 0.5 < time.monotonic() - start < 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_hangs_is_deadline_exceeded_in_asyncio_too(scheme, pair):
    async def ask(port: int) -> None:
        async with AsyncVerifier(f"{scheme}://127.0.0.1:{port}", timeout=0.7) as verifier:
            with pytest.raises(DeadlineExceeded):
                await verifier.verify(*pair)

    with raw_server(None) as port:
        asyncio.run(ask(port))


def test_an_answer_that_trickles_in_ends_with_the_deadline(pair):
    words = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", *[b"x"] * 1000]
    with raw_server(words, 0.02) as port, Verifier(f"http://127.0.0.1:{port}", timeout=1) as verifier:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            verifier.verify(*pair)
        assert time.monotonic() - start < 3


def test_the_steps_of_a_call_over_rest_share_its_time(pair):
    """The headers take most of it, so that little is left for the body."""
    words = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"x"]
    with raw_server(words, 1.4) as port, Verifier(f"http://127.0.0.1:{port}", timeout=2) as verifier:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            verifier.verify(*pair)
        assert 1.9 < time.monotonic() - start < 2.6


RUBBISH = {
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a list": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "no outputs": b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"outputs\": {}}",
    "one unnamed output": b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"outputs\": [0.5]}",
    "ragged rows": b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{\"outputs\": {\"a\": [[1], [1, 2]]}}",
    "a broken compression": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nrubb",
    "an error page": b"HTTP/1.1 500 Oh\r\nContent-Length: 13\r\n\r\n<html></html>",
    "another address": b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "a refusal": b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_over_rest_is_server_error(kind, pair):
    with raw_server(RUBBISH[kind]) as port, Verifier(f"http://127.0.0.1:{port}", timeout=5) as verifier:
        with pytest.raises(ServerError) as refused:
            verifier.verify(*pair)
        assert f"127.0.0.1:{port}" in str(refused.value)


def test_noise_instead_of_grpc_is_server_unavailable(pair):
    noise = b"\0\1\2 this is no HTTP/2 at all\r\n" * 10
    with (
        raw_server(noise) as port,
        Verifier(f"grpc://127.0.0.1:{port}", timeout=1) as verifier,
        pytest.raises(ServerUnavailable),
    ):
        verifier.verify(*pair)


def test_rubbish_over_grpc_is_server_error(scripted_server, pair):
    scripted_server.answers[PREDICT] = lambda request: b"\xff\xff rubbish"
    with (
        Verifier(scripted_server.url, timeout=5) as verifier,
        pytest.raises(ServerError, match="its answer is invalid"),
    ):
        verifier.verify(*pair)


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": None},
        {"probability": float("nan")},
        {"probability": b"0.5"},
        {"decoded": None},
        {"model_id": 0.5},
    ],
    ids=str,
)
def test_an_answer_that_is_no_verdict_is_server_error(scripted_server, pair, changes):
    response = wire_pb2.PredictResponse.FromString(scripted_server.answers[PREDICT](b""))
    for name, value in changes.items():
        del response.outputs[name]
        if isinstance(value, float):
            response.outputs[name].CopyFrom(wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, float_val=[value]))
            response.outputs[name].tensor_shape.dim.add(size=1)
        elif isinstance(value, bytes):
            response.outputs[name].CopyFrom(wire_pb2.TensorProto(dtype=wire_pb2.DT_STRING, string_val=[value]))
            response.outputs[name].tensor_shape.dim.add(size=1)
    scripted_server.answers[PREDICT] = lambda request: response.SerializeToString()
    with Verifier(scripted_server.url, timeout=5) as verifier, pytest.raises(ServerError):
        verifier.verify(*pair)


BUSY = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED]


@pytest.mark.parametrize("code", BUSY, ids=str)
def test_a_busy_server_is_asked_again(scripted_server, pair, good, code):
    scripted_server.answers[PREDICT] = refuse_first(3, code, good)
    with Verifier(scripted_server.url, timeout=30) as verifier:
        assert verifier.verify(*pair).model_id == "scripted"
    assert scripted_server.calls[PREDICT] == 4


def test_a_busy_server_is_asked_again_in_asyncio_too(scripted_server, pair, good):
    scripted_server.answers[PREDICT] = refuse_first(3, grpc.StatusCode.UNAVAILABLE, good)

    async def ask() -> Verdict:
        async with AsyncVerifier(scripted_server.url, timeout=30) as verifier:
            return await verifier.verify(*pair)

    assert asyncio.run(ask()).model_id == "scripted"
    assert scripted_server.calls[PREDICT] == 4


def test_a_server_that_stays_busy_is_server_unavailable_within_the_time(scripted_server, pair):
    scripted_server.answers[PREDICT] = lambda request: grpc.StatusCode.RESOURCE_EXHAUSTED
    start = time.monotonic()
    with Verifier(scripted_server.url, timeout=1) as verifier, pytest.raises(ServerUnavailable, match="too busy"):
        verifier.verify(*pair)
    assert time.monotonic() - start < 3
    assert scripted_server.calls[PREDICT] > 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
    ],
    ids=str,
)
def test_any_other_refusal_is_never_tried_again(scripted_server, pair, code):
    scripted_server.answers[PREDICT] = lambda request: code
    with Verifier(scripted_server.url, timeout=10) as verifier, pytest.raises(ServerError, match=code.name):
        verifier.verify(*pair)
    assert scripted_server.calls[PREDICT] == 1


def test_a_model_of_another_kind_is_refused_with_what_is_missing(scripted_server, pair):
    definitions = wire_pb2.SignatureDefMap()
    definitions.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response = wire_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].value = definitions.SerializeToString()
    scripted_server.answers[PREDICT] = lambda request: grpc.StatusCode.INVALID_ARGUMENT
    scripted_server.answers[DESCRIBE] = lambda request: response.SerializeToString()
    with Verifier(scripted_server.url, timeout=10) as verifier, pytest.raises(UnfitModel) as refused:
        verifier.verify(*pair)
    assert refused.value.missing == ("it has no signature verify",)


def test_a_photo_that_the_model_cannot_decode_is_named(scripted_server, pair):
    verify = wire_pb2.PredictResponse.FromString(scripted_server.answers[PREDICT](b""))
    verify.outputs["decoded"].bool_val[:] = [False]
    encode = wire_pb2.PredictResponse()
    encode.outputs["decoded"].CopyFrom(wire_pb2.TensorProto(dtype=wire_pb2.DT_BOOL, bool_val=[False, True]))
    encode.outputs["model_id"].CopyFrom(wire_pb2.TensorProto(dtype=wire_pb2.DT_STRING, string_val=[b"scripted"] * 2))
    encode.outputs["embedding"].CopyFrom(wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, float_val=[0.0] * 2))
    for output in encode.outputs.values():
        output.tensor_shape.dim.add(size=2)
    encode.outputs["embedding"].tensor_shape.dim.add(size=1)
    answers = {"verify": verify, "encode": encode}

    def answer(request: bytes) -> bytes:
        name = wire_pb2.PredictRequest.FromString(request).model_spec.signature_name
        return answers[name].SerializeToString()

    scripted_server.answers[PREDICT] = answer
    with (
        Verifier(scripted_server.url, timeout=10) as verifier,
        pytest.raises(InvalidImage, match=r"^original: the model"),
    ):
        verifier.verify(*pair)


def test_a_server_that_dies_and_comes_back_loses_no_pair(scripted_server, pair, good):
    """`verify_many` while the server is stopped and started again on its port: each pair is answered once."""
    port = scripted_server.port
    waiting = threading.Event()

    def slowly(request: bytes) -> bytes:
        waiting.set()
        time.sleep(0.01)
        return good

    scripted_server.answers[PREDICT] = slowly
    successor = []

    def restart() -> None:
        waiting.wait(10)
        scripted_server.stop()
        time.sleep(0.3)
        successor.append(type(scripted_server)(port))
        successor[0].answers[PREDICT] = lambda request: good

    thread = threading.Thread(target=restart)
    with Verifier(scripted_server.url, timeout=60) as verifier:
        thread.start()
        answers = list(verifier.verify_many([pair] * 200, concurrency=8))
        thread.join()
    successor[0].stop()
    assert [type(answer) for answer in answers] == [Verdict] * 200
    assert successor[0].calls[PREDICT] > 0


def test_a_closed_verifier_answers_no_more(scripted_server, pair):
    verifier = Verifier(scripted_server.url, timeout=5)
    assert verifier.verify(*pair).model_id == "scripted"
    verifier.close()
    with pytest.raises(ValueError, match="closed"):
        verifier.verify(*pair)
