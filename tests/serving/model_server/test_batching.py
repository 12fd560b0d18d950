from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2

from serving.model_server import servable
from serving.model_server.batching import Batcher
from serving.model_server.batching_parameters import parameters
from serving.model_server.monitoring import Monitor
from serving.model_server.protos import BatchingParameters
from serving.model_server.status import StatusError


@pytest.fixture
def merged(toy_model):
    """A function: batching parameters -> (version whose calls are merged, its monitor)."""
    opened = []

    def make(text):
        monitor = Monitor()
        version = servable.load("toy", 1, toy_model, config_pb2.ConfigProto())
        opened.append(version)
        Batcher(parameters(text_format.Parse(text, BatchingParameters())), monitor).attach(version)
        return version, monitor

    yield make
    for version in opened:
        version.close()


def encode(version, *values, timeout_ms=0):
    array = np.empty(len(values), object)
    array[:] = values
    signature = version.signatures["encode"]
    return version.run(signature, ["image_bytes"], sorted(signature.outputs), [array], timeout_ms)


def runs(monitor):
    return monitor.values().get("/tensorflow/serving/batching_session/wrapped_run_count", 0)


def test_calls_that_come_together_are_one_run_and_get_their_own_rows(merged):
    version, monitor = merged("max_batch_size { value: 8 } batch_timeout_micros { value: 5000000 }")
    pictures = [[b"bad"], [b"a", b"bad"], [b"b"], [b"c", b"d", b"bad", b"e"]]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda values: encode(version, *values), pictures))

    assert runs(monitor) == 1
    assert [answer["decoded"].tolist() for answer in answers] == [[v != b"bad" for v in p] for p in pictures]
    alone = version.run_alone(
        version.signatures["encode"], ["image_bytes"], ["embedding"], [np.array([b"b"], object)], 0
    )
    np.testing.assert_allclose(answers[2]["embedding"], alone["embedding"], atol=1e-6)


def test_a_call_alone_waits_no_longer_than_the_timeout(merged):
    version, monitor = merged("max_batch_size { value: 8 } batch_timeout_micros { value: 1000 }")

    assert encode(version, b"a")["decoded"].tolist() == [True]
    assert runs(monitor) == 1


def test_a_call_over_the_batch_size_is_refused(merged):
    version, _ = merged("max_batch_size { value: 2 }")

    with pytest.raises(StatusError, match="Task size 3 is larger than maximum input batch size 2"):
        encode(version, b"a", b"b", b"c")


def test_a_large_call_is_split_where_that_is_enabled(merged):
    version, monitor = merged(
        "max_batch_size { value: 64 } enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 4 }"
    )
    values = [str(i).encode() for i in range(10)]

    answer = encode(version, *values)

    assert runs(monitor) == 3
    alone = version.run_alone(
        version.signatures["encode"], ["image_bytes"], ["embedding"], [np.array(values, object)], 0
    )
    np.testing.assert_allclose(answer["embedding"], alone["embedding"], atol=1e-6)


def test_batches_are_filled_up_to_an_allowed_size_and_the_filling_is_not_answered(merged):
    version, _ = merged("max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8")

    assert encode(version, b"a", b"bad", b"c")["decoded"].tolist() == [True, False, True]


def test_a_full_queue_is_unavailable(merged):
    version, _ = merged(
        "max_batch_size { value: 1 } batch_timeout_micros { value: 0 } max_enqueued_batches { value: 1 } "
        "num_batch_threads { value: 1 }"
    )

    def ask(number):
        try:
            encode(version, b"x" * 1000)
        except StatusError as error:
            return error
        return None

    with ThreadPoolExecutor(64) as pool:
        refused = [error for error in pool.map(ask, range(2000)) if error]

    assert refused
    assert {error.code.name for error in refused} == {"UNAVAILABLE"}
    assert "queue to which this task was submitted is full" in refused[0].message


def test_a_call_that_waits_too_long_is_given_up(merged):
    version, _ = merged("max_batch_size { value: 8 } batch_timeout_micros { value: 60000000 }")

    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        encode(version, b"a", timeout_ms=50)


def test_an_error_of_the_run_is_everyones_and_the_next_run_is_well(merged):
    version, _ = merged("max_batch_size { value: 2 } batch_timeout_micros { value: 5000000 }")
    signature = version.signatures["score"]

    def score(size):
        vectors = np.ones((1, size), np.float32)
        names = ["original_embedding", "photo_embedding"]
        return version.run(signature, names, sorted(signature.outputs), [vectors, vectors], 0)

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(score, size) for size in (8, 3)]
        for call in calls:
            with pytest.raises(StatusError, match="different shapes and padding is turned off"):
                call.result()
        assert [len(call.result()["similarity"]) for call in [pool.submit(score, 8), pool.submit(score, 8)]] == [1, 1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 2", "Last entry in allowed_batch_sizes must match"),
        ("pad_variable_length_inputs: true", "not supported by the local model server"),
        (
            "max_batch_size { value: 2 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 4 }",
            "must be greater than or equal to max_execution_batch_size",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(text, message):
    with pytest.raises(StatusError, match=message):
        parameters(text_format.Parse(text, BatchingParameters()))
