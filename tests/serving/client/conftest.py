"""Pictures made on the spot, and servers that answer as a test scripts them."""

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image, ImageDraw

from photoproof.transport._proto import wire_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
DESCRIBE = "/tensorflow.serving.PredictionService/GetModelMetadata"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def draw_scene(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    """A picture of coloured shapes, another one for each seed, with something in every corner to tell turns by."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(width // 8, width // 2), rng.integers(height // 8, height // 2)
        pen.ellipse((int(x), int(y), int(x + w), int(y + h)), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def encode_image(image: Image.Image, name: str = "JPEG", **options) -> bytes:
    """A picture's bytes in a format."""
    buffer = io.BytesIO()
    image.save(buffer, name, **({"quality": 92} if name == "JPEG" else {}) | options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def scene() -> Callable[..., Image.Image]:
    """`draw_scene`."""
    return draw_scene


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """`encode_image`."""
    return encode_image


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An original and a photo, as files."""
    folder = tmp_path_factory.mktemp("pair")
    files = folder / "original.jpg", folder / "photo.jpg"
    for seed, file in enumerate(files):
        file.write_bytes(encode_image(draw_scene(seed)))
    return files


class ScriptedServer:
    """A gRPC server that answers each method with what `answers` says: bytes, or a status code; counts the calls."""

    def __init__(self, port: int = 0, credentials: grpc.ServerCredentials | None = None):
        self.answers: dict[str, Callable[[bytes], bytes | grpc.StatusCode]] = {}
        self.calls: dict[str, int] = {}
        self.metadata: list[dict[str, str]] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(16)
        # Without SO_REUSEPORT a port that is taken is an error, as it is for a real server that restarts.
        self._server = grpc.server(self._threads, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([_Handler(self)])
        address = f"127.0.0.1:{port}"
        self.port = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )
        self._server.start()

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        reply = self.answers[method](request) if method in self.answers else grpc.StatusCode.UNIMPLEMENTED
        if isinstance(reply, grpc.StatusCode):
            context.abort(reply, f"scripted to answer {reply.name}")
        return reply

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._threads.shutdown()


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: ScriptedServer):
        self._server = server

    def service(self, handler_call_details):
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(lambda request, ctx: self._server.answer(method, request, ctx))


def predicted(**changes: object) -> bytes:
    """A good answer to `verify`, with outputs changed, or left out where None."""
    outputs: dict[str, object] = {
        "similarity": 0.5,
        "distance": 1.0,
        "probability": 0.75,
        "accept_at": 0.9,
        "reject_at": 0.5,
        "decoded": True,
        "model_id": b"scripted",
        **changes,
    }
    response = wire_pb2.PredictResponse()
    response.model_spec.name = "product-encoder"
    response.model_spec.version.value = 3
    for name, value in outputs.items():
        if value is None:
            continue
        tensor = response.outputs[name]
        tensor.tensor_shape.dim.add(size=1)
        if isinstance(value, bytes):
            tensor.dtype, tensor.string_val[:] = wire_pb2.DT_STRING, [value]
        elif isinstance(value, bool):
            tensor.dtype, tensor.bool_val[:] = wire_pb2.DT_BOOL, [value]
        elif isinstance(value, float):
            tensor.dtype, tensor.float_val[:] = wire_pb2.DT_FLOAT, [value]
    return response.SerializeToString()


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """A gRPC server that answers Predict well until a test scripts it otherwise."""
    server = ScriptedServer()
    server.answers[PREDICT] = lambda request: predicted()
    yield server
    server.stop()
