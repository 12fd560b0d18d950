"""serving/tensorflow_serving: what a real TensorFlow Serving is given, as far as a machine without Docker can tell."""

import re
import shutil
import subprocess
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
import yaml
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from photoproof import Verdict, Verifier
from pipelines.deployment.models_config import Served, read_config

FOLDER = Path(__file__).resolve().parents[2] / "serving/tensorflow_serving"
FILLED = {
    "POSTGRES_PASSWORD": "secret1",
    "AWS_ACCESS_KEY_ID": "secret2",
    "AWS_SECRET_ACCESS_KEY": "secret3",
    "MLFLOW_ADMIN_PASSWORD": "secret4-is-long",
    "MLFLOW_SECRET_KEY": "secret5",
    "PHOTOPROOF_SERVING": "/srv/photoproof",
}


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_docker_compose_parses_the_file(tmp_path):
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not on this machine")
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in FILLED.items()))
    words = [docker, "compose", "--env-file", str(tmp_path / ".env"), "-f", str(FOLDER / "compose.yaml"), "config"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {"model-server", "postgres", "store", "mlflow", "prefect"}


def test_nothing_is_published_on_all_interfaces(compose):
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == 6
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any("network_mode" in service for service in compose["services"].values())


def test_every_image_is_pinned_and_every_service_has_a_healthcheck(compose):
    for name, service in compose["services"].items():
        assert re.search(r":v?\d+\.\d+[\w.-]*$", service["image"]), name
        assert service["healthcheck"]["test"][0] == "CMD", name


def test_every_volume_that_is_named_is_used(compose):
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    used = {mount.split(":")[0] for mount in mounts if not mount.startswith((".", "$"))}
    assert used == set(compose["volumes"])


def test_secrets_come_from_the_environment_and_the_example_has_none(compose):
    text = (FOLDER / "compose.yaml").read_text()
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == set(FILLED)
    assert set(re.findall(r"\$\{(\w+)", text)) == needed | {"MLFLOW_ALLOWED_HOSTS"}
    example = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert set(example) == needed | {"MLFLOW_ALLOWED_HOSTS"}
    assert [name for name in needed if example[name]] == []


def test_the_file_that_holds_secrets_is_ignored_by_git():
    done = subprocess.run(["git", "check-ignore", "--quiet", str(FOLDER / ".env")], cwd=FOLDER)
    assert done.returncode == 0


def test_a_models_config_is_what_deploy_writes(compose):
    assert read_config(FOLDER / "models.config.example") == Served(frozenset({6, 7}), {"stable": 6, "canary": 7})


@pytest.mark.parametrize("rows", [1, 7, 32, 33, 4096])
def test_score_takes_one_photo_against_many_originals(photoproof, evaluated, rows):
    size = evaluated.params.train.latent_size
    vectors = np.random.default_rng(rows).normal(size=(2, rows, size)).astype(np.float32)
    vectors[1] = vectors[1, :1]
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "product-encoder", "score"
    for name, values in zip(("original_embedding", "photo_embedding"), vectors, strict=True):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(f"127.0.0.1:{photoproof.server.grpc_port}") as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    similarity = np.array(answer.outputs["similarity"].float_val)
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.testing.assert_allclose(similarity, (unit[0] * unit[1]).sum(axis=1), atol=1e-5)


def test_verify_takes_more_pairs_than_a_run(photoproof):
    pairs = list(zip(photoproof.originals * 4, photoproof.photos[:40], strict=True))
    with Verifier(photoproof.server.grpc_url, timeout=60) as verifier:
        verdicts = list(verifier.verify_many(pairs, concurrency=4))
    one_by_one = [verdict.probability for verdict in verdicts if isinstance(verdict, Verdict)]
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "product-encoder", "verify"
    for name, paths in zip(("original_bytes", "photo_bytes"), zip(*pairs, strict=True), strict=True):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([path.read_bytes() for path in paths]))
    with grpc.insecure_channel(f"127.0.0.1:{photoproof.server.grpc_port}") as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert list(answer.outputs["probability"].float_val) == pytest.approx(one_by_one, abs=1e-5)


def test_prometheus_finds_its_page_where_the_configuration_says(photoproof):
    path = re.findall(r'path: "(.*?)"', (FOLDER / "monitoring.config").read_text())[0]
    page = httpx.get(f"http://127.0.0.1:{photoproof.server.rest_port}{path}").text
    assert ":tensorflow:serving:request_count" in page
