"""The model server as a process: its start, its configuration on disk, its end."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.flags import parse
from serving.model_server.server import model_config_of
from serving.model_server.status import StatusError


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return result


def states(server, model):
    response = httpx.get(f"http://127.0.0.1:{server.rest_port}/v1/models/{model}", timeout=20)
    return {int(v["version"]): v["state"] for v in response.json().get("model_version_status", [])}


def predict(server, model, where="", values=(b"a",), timeout=20):
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{model}{where}:predict"
    return httpx.post(url, json={"instances": [value.decode() for value in values]}, timeout=timeout)


def text_config(*models):
    """models.config for (name, folder, specific versions, labels)."""
    entries = []
    for name, folder, versions, labels in models:
        specific = " ".join(f"versions: {version}" for version in versions)
        labelled = " ".join(f'version_labels {{ key: "{label}" value: {v} }}' for label, v in labels.items())
        entries.append(
            f'config {{ name: "{name}" base_path: "{folder}" model_platform: "tensorflow" '
            f"model_version_policy {{ specific {{ {specific} }} }} {labelled} }}"
        )
    return f"model_config_list {{ {' '.join(entries)} }}"


def publish(file: Path, text: str) -> None:
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)


class Slow(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def call(self, image_bytes):
        """Takes as many seconds as the first value says."""
        end = tf.timestamp() + tf.strings.to_number(image_bytes[0], tf.float64)
        now = tf.while_loop(lambda now: now < end, lambda _: tf.timestamp(), [tf.timestamp()])[0]
        return {"late": tf.fill(tf.shape(image_bytes), now >= end)}


@pytest.fixture(scope="module")
def polled(launch, toy_model, tmp_path_factory):
    """A server that polls models.config and folders each second, with versions 1 of the model `toy`; its folder."""
    folder = tmp_path_factory.mktemp("polled")
    for version in (1, 2):
        shutil.copytree(toy_model, folder / "toy" / str(version))
    publish(folder / "models.config", text_config(("toy", folder / "toy", [1], {"stable": 1})))
    server = launch(
        f"--model_config_file={folder / 'models.config'}",
        "--model_config_file_poll_wait_seconds=1",
        "--file_system_poll_wait_seconds=1",
        "--max_num_load_retries=0",
        "--allow_version_labels_for_unavailable_models",
    )
    yield server, folder
    assert server.stop() == 0


@pytest.fixture(scope="module")
def equipped(launch, toy_model, tmp_path_factory):
    """A server with batching, monitoring, health, a socket, CORS and limits: 2 calls at a time, 2 s, 100 kB."""
    folder = tmp_path_factory.mktemp("equipped")
    shutil.copytree(toy_model, folder / "toy" / "1")
    tf.saved_model.save(slow := Slow(), str(folder / "slow" / "1"), signatures={"serving_default": slow.call})
    publish(
        folder / "models.config",
        text_config(("toy", folder / "toy", [1], {}), ("slow", folder / "slow", [1], {})),
    )
    (folder / "batching").write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 1000 }")
    (folder / "monitoring").write_text('prometheus_config { enable: true path: "/metrics" }')
    server = launch(
        f"--model_config_file={folder / 'models.config'}",
        "--enable_batching",
        f"--batching_parameters_file={folder / 'batching'}",
        f"--monitoring_config_file={folder / 'monitoring'}",
        "--enable_grpc_healthcheck_service",
        f"--grpc_socket_path={folder / 'socket'}",
        "--grpc_channel_arguments=grpc.max_receive_message_length=100000",
        "--grpc_max_threads=2",
        "--rest_api_timeout_in_ms=2000",
        "--rest_api_enable_cors_support",
        "--tensorflow_session_parallelism=1",
    )
    assert predict(server, "toy").status_code == 200  # the first run of a graph takes longer
    yield server, folder
    server.stop()


# Models.config and folders


def test_deploying_a_version_and_rolling_back_fails_no_call(polled):
    server, folder = polled
    config = folder / "models.config"
    stop, failed = threading.Event(), []

    def call():
        while not stop.is_set():
            response = predict(server, "toy", "/labels/stable")
            if response.status_code != 200:
                failed.append(response.text)

    def states_of(wanted):
        return until(lambda: {n: s for n, s in states(server, "toy").items() if s == "AVAILABLE"}.keys() == wanted)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        publish(config, text_config(("toy", folder / "toy", [1, 2], {"stable": 1})))
        states_of({1, 2})
        publish(config, text_config(("toy", folder / "toy", [1, 2], {"stable": 2})))
        time.sleep(1.5)  # a label has no state to wait for
        publish(config, text_config(("toy", folder / "toy", [2], {"stable": 2})))
        states_of({2})
        publish(config, text_config(("toy", folder / "toy", [1, 2], {"stable": 2})))
        states_of({1, 2})
        publish(config, text_config(("toy", folder / "toy", [1, 2], {"stable": 1})))
        time.sleep(1.5)
    finally:
        stop.set()
        caller.join()

    assert not failed


def test_a_models_config_that_does_not_parse_is_logged_and_the_old_state_kept(polled):
    server, folder = polled
    good = (folder / "models.config").read_text()

    publish(folder / "models.config", "model_config_list { config { nonsense: 1 } }")
    until(lambda: "Failed to read ModelServerConfig file: Invalid protobuf file: '" in server.log)

    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:30" in server.log
    assert predict(server, "toy", "/labels/stable").status_code == 200
    publish(folder / "models.config", good)


def test_a_half_copied_version_is_reported_and_takes_nothing_down(polled):
    server, folder = polled
    (folder / "toy" / "3").mkdir()
    (folder / "toy" / "3" / "saved_model.pb").write_bytes(b"\x08\x01\x12\xff rubbish")
    good = (folder / "models.config").read_text()

    publish(folder / "models.config", text_config(("toy", folder / "toy", [1, 2, 3], {"stable": 1})))

    until(lambda: states(server, "toy").get(3) == "END")
    assert predict(server, "toy", "/labels/stable").status_code == 200
    publish(folder / "models.config", good)


def test_a_configuration_may_come_over_grpc(polled):
    server, folder = polled
    request = model_management_pb2.ReloadConfigRequest()
    for name in ("toy", "other"):
        entry = request.config.model_config_list.config.add()
        entry.name, entry.base_path, entry.model_platform = name, str(folder / "toy"), "tensorflow"
        entry.model_version_policy.specific.versions.append(1)
    entry = request.config.model_config_list.config[0]
    entry.version_labels["stable"] = 1
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        assert stub.HandleReloadConfigRequest(request).status.error_code == 0
        entry.version_labels["stable"] = 999
        with pytest.raises(grpc.RpcError) as refused:
            stub.HandleReloadConfigRequest(request)

    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "Request to assign label to version 999" in str(refused.value.details())


# Flags that change how calls are answered


def grpc_request(model, value):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([value]))
    return request


def test_calls_over_grpc_max_threads_are_resource_exhausted(equipped):
    server, _ = equipped
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [stub.Predict.future(grpc_request("slow", b"1")) for _ in range(8)]
        codes = [call.exception().code().name if call.exception() else "OK" for call in calls]

    assert codes.count("OK") >= 2
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}


def test_a_call_whose_deadline_passes_is_ended(equipped):
    server, _ = equipped
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as ended:
            stub.Predict(grpc_request("slow", b"2"), timeout=0.2)

    assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_rest_call_over_its_time_is_a_gateway_timeout(equipped):
    response = predict(equipped[0], "slow", values=[b"9"])

    assert (response.status_code, response.json()) == (504, {"error": "Timed out waiting for notification"})


def test_a_body_over_the_size_limit_is_refused_unread(equipped):
    response = predict(equipped[0], "toy", values=[b"x" * 200_000])

    assert response.status_code == 413
    assert "larger than 100000 bytes" in response.json()["error"]


def test_a_message_over_the_size_limit_is_refused(equipped):
    server, _ = equipped
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Predict(grpc_request("toy", b"x" * 200_000))

    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_are_merged_and_the_monitoring_page_counts_them(equipped):
    server, _ = equipped
    with ThreadPoolExecutor(8) as pool:
        for response in pool.map(lambda _: predict(server, "toy"), range(16)):
            assert response.status_code == 200
    predict(server, "nope")

    page = httpx.get(f"http://127.0.0.1:{server.rest_port}/metrics").text

    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert ':tensorflow:serving:request_count{model_name="nope",status="NOT_FOUND"} 1' in page
    latency = ':tensorflow:serving:request_latency_{}{{model_name="toy",API="predict",entrypoint="REST"'
    assert latency.format("bucket") + ',le="+Inf"} 17' in page
    assert latency.format("count") + "} 17" in page
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} " in page


def test_health_is_answered_where_that_is_enabled(equipped, model_server):
    def check(server):
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return stub.Check(health_pb2.HealthCheckRequest(service="PredictionService")).status

    assert check(equipped[0]) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        check(model_server)


def test_the_socket_answers_as_the_port_does(equipped):
    _, folder = equipped
    with grpc.insecure_channel(f"unix:{folder / 'socket'}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        assert stub.Predict(grpc_request("toy", b"a")).model_spec.version.value == 1


def test_a_browser_may_ask_where_cors_is_enabled(equipped):
    server, _ = equipped
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/toy:predict"

    response = httpx.options(url, headers={"Origin": "http://example.org"})

    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "*")


def test_it_listens_on_loopback_alone(equipped):
    server, _ = equipped
    table = "".join(Path(f"/proc/{server.process.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))

    local = [line.split()[1] for line in table.splitlines() if " 0A " in line]

    for port in (server.grpc_port, server.rest_port):
        [address] = [address for address in local if address.endswith(f":{port:04X}")]
        assert address.split(":")[0] in ("0100007F", "0000000000000000FFFF00000100007F")  # 127.0.0.1, in IPv6 too


# The end


def test_sigterm_lets_a_call_finish_and_ends_with_code_0(equipped):
    """Runs last of those that use `equipped`: pytest keeps the order of a file."""
    server, _ = equipped
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        call = stub.Predict.future(grpc_request("slow", b"1.5"))
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)

        assert tf.make_ndarray(call.result().outputs["late"]).tolist() == [True]
    assert server.process.wait(10) == 0


# The start


def test_labels_without_the_flag_that_allows_them_end_the_start(launch, toy_model, tmp_path):
    shutil.copytree(toy_model, tmp_path / "toy" / "1")
    publish(tmp_path / "models.config", text_config(("toy", tmp_path / "toy", [1], {"stable": 1})))

    server = launch(f"--model_config_file={tmp_path / 'models.config'}")

    assert server.stop() == 255
    assert (
        "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to version 1 of model toy, which "
        "is not currently available for inference" in server.log
    )
    assert "Traceback" not in server.log


def test_a_models_config_that_does_not_parse_ends_the_start(tmp_path):
    (tmp_path / "models.config").write_text("model_config_list: {{")

    with pytest.raises(StatusError) as ended:
        model_config_of(parse([f"--model_config_file={tmp_path / 'models.config'}"]))

    assert str(ended.value) == f"INVALID_ARGUMENT: Invalid protobuf file: '{tmp_path / 'models.config'}'"


def test_the_version_is_printed():
    process = subprocess.run(
        [sys.executable, "-m", "serving.model_server", "--version"], capture_output=True, text=True
    )
    output, code = process.stdout, process.returncode

    assert code == 0
    assert "TensorFlow ModelServer: " in output and f"TensorFlow Library: {tf.__version__}" in output
