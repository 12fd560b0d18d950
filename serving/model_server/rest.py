"""The REST API: predict, status, metadata and the monitoring page."""

import logging
import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.model_server import json_tensors
from serving.model_server.grpc_service import model_metadata, model_status
from serving.model_server.models import Models
from serving.model_server.monitoring import Monitor
from serving.model_server.predict import run
from serving.model_server.status import StatusError, from_exception, invalid_argument
from training.saved_model.loading import DEFAULT_SIGNATURE

log = logging.getLogger(__name__)

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION_OR_LABEL}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION_OR_LABEL}(?:/(?P<metadata>metadata))?", re.IGNORECASE)


@dataclass(frozen=True)
class RestSettings:
    """How the REST server works. `max_bytes`: a body of more is refused with 413."""

    timeout_ms: int
    threads: int
    max_bytes: int
    cors: bool = False
    prometheus_path: str | None = None


class RestServer(ThreadingHTTPServer):
    """One thread a connection; at most `threads` requests are worked on at a time."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, models: Models, monitor: Monitor, settings: RestSettings):
        self.models = models
        self.monitor = monitor
        self.settings = settings
        self.closing = False
        self._running = 0
        self._changed = threading.Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One of the `threads` requests that may run at a time."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < self.settings.threads)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def wait_idle(self, seconds: float) -> None:
        """Returns when no request runs, or after that time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._running, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is nobody's error."""
        log.debug("connection of %s ended", client_address, exc_info=True)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and JSON for a request under /v1/."""
        start = time.perf_counter()
        model, api, status = "", "", "OK"
        try:
            match = (_PREDICT if method == "POST" else _STATUS).fullmatch(path)
            if match is None or method not in ("GET", "POST"):
                raise invalid_argument(f"Malformed request: {method} {path}")
            spec = _model_spec(match)
            model = spec.name
            if method == "GET":
                return 200, self._metadata(spec) if match["metadata"] else self._status(spec)
            api = match["method"].lower()
            if api != "predict":
                raise StatusError(grpc.StatusCode.UNIMPLEMENTED, f"The local model server does not {api}")
            return 200, self._predict(spec, body)
        except Exception as error:  # whatever it is, it is this call's
            failure = from_exception(error)
            if failure.code == grpc.StatusCode.INTERNAL and not isinstance(error, StatusError):
                log.error("Unexpected error in a call", exc_info=error)
            status = failure.code.name
            return failure.http, json_tensors.write_error(failure.message)
        finally:
            self.monitor.request(model, status, api, "REST", time.perf_counter() - start)

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        document = json_tensors.parse(body)
        with self.models.lease(spec) as servable:
            name = document.get("signature_name", "") or DEFAULT_SIGNATURE
            if name not in servable.signatures:
                raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
            signature = servable.signatures[name]
            if not signature.inputs:
                raise invalid_argument(f"Failed to get input map for signature: {name}")
            form, arrays = json_tensors.read(document, signature.inputs)
            return json_tensors.write(form, run(servable, signature, arrays, (), self.settings.timeout_ms))

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        response = model_status(self.models, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
        text = json_format.MessageToJson(
            response, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
        )
        return text.encode()

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        response = model_metadata(
            self.models,
            get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"]),
        )
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        model, definitions = (
            json_format.MessageToJson(
                message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
            )
            for message in (response.model_spec, signatures)
        )
        return f'{{\n"model_spec":{model},\n"metadata": {{"signature_def": {definitions}}}\n}}\n'.encode()


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"] or ""))
    if match["version"]:
        version = int(match["version"])
        if version >= 2**63:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = version
    if match["label"]:
        spec.version_label = unquote(match["label"])
    return spec


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RestServer  # type: ignore[assignment]

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_OPTIONS(self) -> None:
        self._handle("OPTIONS")

    def _handle(self, method: str) -> None:
        path = self.path.partition("?")[0]
        settings = self.server.settings
        try:
            body = self._body(settings.max_bytes)
        except _Refused as refused:
            self.close_connection = True  # what the caller still sends is not read
            return self._reply(refused.status, json_tensors.write_error(refused.message))
        with self.server.turn():
            if path == settings.prometheus_path:
                self._reply(200, self.server.monitor.prometheus().encode(), "text/plain")
            elif not path.lower().startswith("/v1/"):
                self._reply(404, b"")
            elif method == "OPTIONS":
                if re.match("https?://", self.headers.get("Origin", "")):
                    self._reply(200, b"")
                else:
                    self._reply(400, json_tensors.write_error("Origin header is missing in CORS preflight"))
            else:
                self._reply(*self.server.answer(method, path, body))

    def _body(self, max_bytes: int) -> bytes:
        too_large = _Refused(413, f"The body is larger than {max_bytes} bytes")
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = b""
            while size := _chunk_size(self.rfile.readline(32)):
                if len(body) + size > max_bytes:
                    raise too_large
                body += self.rfile.read(size)
                self.rfile.readline(8)
            while self.rfile.readline(65537).strip():
                pass
        else:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit():
                raise _Refused(400, f"Content-Length is {length!r}")
            if int(length) > max_bytes:
                raise too_large
            body = self.rfile.read(int(length))
        if self.headers.get("Content-Encoding", "").lower() == "gzip":
            stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                body = stream.decompress(body, max_bytes + 1)
            except zlib.error as error:
                raise _Refused(400, f"The body is not gzip: {error}") from None
            if len(body) > max_bytes:
                raise too_large
        return body

    def _reply(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.server.settings.cors:
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Methods", "POST, GET")
            self.send_header("Access-Control-Allow-Headers", "Content-Type")
        self.close_connection = self.close_connection or self.server.closing
        if self.close_connection:
            self.send_header("Connection", "close")
        self._headers_buffer.append(b"\r\n")  # type: ignore[attr-defined]
        self._headers_buffer.append(body)  # type: ignore[attr-defined]
        self.flush_headers()  # headers and body in one packet

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged, as in TensorFlow Serving."""
        log.debug(format, *args)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", digits):
        raise _Refused(400, "A chunk of the body has no size")
    return int(digits, 16)


class _Refused(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message
