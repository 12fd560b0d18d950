"""Models and model servers for every test of serving: a toy with the product's signatures, and a real exported one."""

import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MODEL_NAME = "product-encoder"
EMBEDDING_SIZE = 8
SERVING = Path(__file__).resolve().parents[2] / "serving/tensorflow_serving"


@dataclass
class RunningServer:
    """A model server as a process. `log` is what it printed so far."""

    process: subprocess.Popen
    grpc_port: int = 0
    rest_port: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def grpc_url(self) -> str:
        return f"grpc://localhost:{self.grpc_port}"

    @property
    def rest_url(self) -> str:
        return f"http://localhost:{self.rest_port}"

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int:
        """Ends the process; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def start_server(*flags: str, seconds: float = 150) -> RunningServer:
    """Starts the local model server on free ports and waits until it is ready, or has ended."""
    command = [sys.executable, "-m", "serving.model_server", "--port=0", "--rest_api_port=0", *flags]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    server = RunningServer(process)
    ready = threading.Event()

    def read() -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                server.lines.append(line)
                if match := re.search(r"gRPC ModelServer at 127\.0\.0\.1:(\d+)", line):
                    server.grpc_port = int(match[1])
                if match := re.search(r"HTTP/REST API at:localhost:(\d+)", line):
                    server.rest_port = int(match[1])
                    ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    if not ready.wait(seconds):
        process.kill()
        raise AssertionError(f"the model server was not ready after {seconds} s:\n{server.log}")
    return server


def export_model(folder: Path, model_id: str = "toy-1") -> Path:
    """Exports the small model: embeddings from hashes of the bytes, `decoded` false for b"bad". Returns the folder."""
    import tensorflow as tf

    class Toy(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rotation = tf.Variable(tf.eye(EMBEDDING_SIZE))

        def encode(self, image_bytes):
            hashes = [
                tf.strings.to_hash_bucket_fast(tf.strings.join([str(i), image_bytes]), 1000)
                for i in range(EMBEDDING_SIZE)
            ]
            raw = tf.cast(tf.stack(hashes, 1), tf.float32) / 500.0 - 1.0 + 1e-3
            return {
                "embedding": tf.math.l2_normalize(raw @ self.rotation, 1),
                "decoded": image_bytes != b"bad",
                "model_id": tf.fill(tf.shape(image_bytes), model_id),
            }

        def score(self, original_embedding, photo_embedding):
            similarity = tf.reduce_sum(original_embedding * photo_embedding, 1)
            return {
                "similarity": similarity,
                "distance": tf.norm(original_embedding - photo_embedding, axis=1),
                "probability": tf.sigmoid(8.0 * similarity),
                "accept_at": tf.fill(tf.shape(similarity), 0.9),
                "reject_at": tf.fill(tf.shape(similarity), 0.5),
                "model_id": tf.fill(tf.shape(similarity), model_id),
            }

        def judge(self, original, photo, decoded):
            outputs = self.score(original, photo)
            for name, value in {"similarity": -1.0, "distance": 2.0, "probability": 0.0}.items():
                outputs[name] = tf.where(decoded, outputs[name], value)
            return {**outputs, "decoded": decoded}

        def compare(self, embedding, photo_bytes):
            photo = self.encode(photo_bytes)
            return self.judge(embedding, photo["embedding"], photo["decoded"])

        def verify(self, original_bytes, photo_bytes):
            original, photo = self.encode(original_bytes), self.encode(photo_bytes)
            return self.judge(original["embedding"], photo["embedding"], original["decoded"] & photo["decoded"])

    def signature(method, **inputs):
        specs = [
            tf.TensorSpec([None, EMBEDDING_SIZE] if dtype == tf.float32 else [None], dtype, name)
            for name, dtype in inputs.items()
        ]
        return tf.function(method, specs)

    model = Toy()
    signatures = {
        "serving_default": signature(model.encode, image_bytes=tf.string),
        "encode": signature(model.encode, image_bytes=tf.string),
        "verify": signature(model.verify, original_bytes=tf.string, photo_bytes=tf.string),
        "compare": signature(model.compare, embedding=tf.float32, photo_bytes=tf.string),
        "score": signature(model.score, original_embedding=tf.float32, photo_embedding=tf.float32),
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model's SavedModel; copy it, do not change it."""
    return export_model(tmp_path_factory.mktemp("toy") / "saved_model")


@pytest.fixture(scope="session")
def launch():
    """`start_server`, for tests that need a server with flags of their own; they stop it themselves."""
    return start_server


@pytest.fixture(scope="session")
def export():
    """`export_model`, for tests that need another model_id."""
    return export_model


@pytest.fixture(scope="session")
def model_server(toy_model: Path, tmp_path_factory: pytest.TempPathFactory):
    """A server of the small model as `product-encoder` version 1, labelled `stable`; shared, so leave it as it is."""
    folder = tmp_path_factory.mktemp("served")
    (folder / MODEL_NAME).mkdir()
    (folder / MODEL_NAME / "1").symlink_to(toy_model)
    config = folder / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "{MODEL_NAME}" base_path: "{folder / MODEL_NAME}" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    server = start_server(
        f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models", "--grpc_max_threads=64"
    )
    yield server
    server.stop()


@dataclass(frozen=True)
class Served:
    """A real exported model behind a running server, and pictures to ask it about: files of originals and of photos."""

    server: RunningServer
    model: Path
    config: Path
    originals: list[Path]
    photos: list[Path]

    def publish(self, stable: int, *versions: int) -> None:
        """Change which versions are served (by default the stable one), and which of them is labelled `stable`."""
        publish(self.config, stable, *versions)


def publish(config: Path, stable: int, *versions: int) -> None:
    """Write models.config by rename."""
    served = " ".join(f"versions: {version}" for version in versions or (stable,))
    config.with_suffix(".new").write_text(
        f'model_config_list {{ config {{ name: "{MODEL_NAME}" base_path: "{config.parent / MODEL_NAME}" '
        f'model_platform: "tensorflow" model_version_policy {{ specific {{ {served} }} }} '
        f'version_labels {{ key: "stable" value: {stable} }} }} }}'
    )
    config.with_suffix(".new").rename(config)


@pytest.fixture
def serve_photoproof(evaluated, tmp_path_factory: pytest.TempPathFactory):
    """Starts a server of the exported model with the committed configuration; it is stopped after the test."""
    servers: list[RunningServer] = []

    def start(*flags: str) -> Served:
        served = serve_exported(evaluated.root, tmp_path_factory.mktemp("photoproof"), *flags)
        servers.append(served.server)
        return served

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def photoproof(evaluated, tmp_path_factory: pytest.TempPathFactory):
    """The exported model, served as version 1 and `stable`; shared, so leave it as it is."""
    served = serve_exported(evaluated.root, tmp_path_factory.mktemp("photoproof"))
    yield served
    served.server.stop()


def serve_exported(root: Path, folder: Path, *flags: str) -> Served:
    """Serves the workspace's exported model with the batching and monitoring that are committed for a real server."""
    model = root / "models/saved_model"
    (folder / MODEL_NAME).mkdir()
    for version in ("1", "2"):
        (folder / MODEL_NAME / version).symlink_to(model)
    originals, photos = (sorted((root / "data" / role).iterdir()) for role in ("originals", "photos"))
    config = folder / "models.config"
    publish(config, stable=1)
    server = start_server(
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models",
        "--enable_batching",
        f"--batching_parameters_file={SERVING / 'batching.config'}",
        f"--monitoring_config_file={SERVING / 'monitoring.config'}",
        "--grpc_max_threads=128",
        *flags,
    )
    return Served(server, model, config, originals, photos)
