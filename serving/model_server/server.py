"""Builds the server that the flags ask for, says when it is ready, and ends it without losing a call."""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import grpc
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server import grpc_service, servable
from serving.model_server.batching import Batcher
from serving.model_server.batching_parameters import parameters
from serving.model_server.flags import Options, channel_arguments
from serving.model_server.models import LoadOptions, Models
from serving.model_server.monitoring import PROMETHEUS_PATH, Monitor
from serving.model_server.protos import (
    BatchingParameters,
    M,
    MonitoringConfig,
    SSLConfig,
    TextFormatError,
    read_text_proto,
)
from serving.model_server.rest import RestServer, RestSettings
from serving.model_server.status import StatusError, invalid_argument
from serving.model_server.warmup import warm_up

log = logging.getLogger("model_server")

MOST_MESSAGE_BYTES = 256 * 2**20
"""Of a gRPC message and of a REST body; `grpc.max_receive_message_length` in --grpc_channel_arguments changes both."""
GRACE_SECONDS = 5.0
CANNOT_START = 255


def serve(options: Options) -> NoReturn:
    """Runs until SIGTERM or SIGINT, then ends the process with its exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname).1s model_server] %(message)s"
    )
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    gc.freeze()  # what TensorFlow's import made stays; collecting after a version went is then short
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    starter = _Starter(options, stop)
    starter.thread.start()
    stop.wait()
    if starter.failure is not None:
        print(f"Failed to start server. Error: {starter.failure}", flush=True)
        code = CANNOT_START
    else:
        starter.end()
        log.info("Stopped")
        code = 0
    sys.stderr.flush()
    os._exit(code)  # threads inside TensorFlow would make an orderly end wait for a graph that hangs


class _Starter:
    """The parts of a running server; started in a thread so that signals are heard while models load."""

    def __init__(self, options: Options, stop: threading.Event):
        self.options = options
        self.stop = stop
        self.failure: StatusError | None = None
        self.models: Models | None = None
        self.grpc: grpc.Server | None = None
        self.rest: RestServer | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._start()
        except StatusError as error:
            self.failure = error
            self.stop.set()
        except Exception as error:
            log.exception("Unexpected error")
            self.failure = StatusError(grpc.StatusCode.INTERNAL, str(error))
            self.stop.set()

    def _start(self) -> None:
        options, monitor = self.options, Monitor()
        config = model_config_of(options)
        arguments = channel_arguments(options.grpc_channel_arguments)
        most_bytes = dict(arguments).get("grpc.max_receive_message_length", MOST_MESSAGE_BYTES)
        prometheus_path = _prometheus_path(options)
        self.models = models = Models(_loading(options, monitor))
        if options.file_system_poll_wait_seconds:
            _every(options.file_system_poll_wait_seconds, models.poll)
        models.reload(config)
        if options.model_config_file and options.model_config_file_poll_wait_seconds:
            _every(options.model_config_file_poll_wait_seconds, lambda: _reload(models, options.model_config_file))
        self.grpc = grpc_service.build(
            models,
            monitor,
            options.grpc_max_threads,
            [
                ("grpc.max_receive_message_length", most_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                *arguments,
            ],
            options.enable_grpc_healthcheck_service,
            options.enable_serialization_as_tensor_content,
        )
        port = _bind(self.grpc, options)
        if options.rest_api_port is not None:
            settings = RestSettings(
                timeout_ms=options.rest_api_timeout_in_ms,
                threads=options.rest_api_num_threads,
                max_bytes=int(most_bytes) if int(most_bytes) >= 0 else sys.maxsize,
                cors=options.rest_api_enable_cors_support,
                prometheus_path=prometheus_path,
            )
            try:
                self.rest = RestServer(options.rest_api_port, models, monitor, settings)
            except OSError as error:
                raise invalid_argument(
                    f"Failed to start HTTP Server at localhost:{options.rest_api_port}: {error.strerror}"
                ) from error
        self.grpc.start()
        log.info("Running gRPC ModelServer at 127.0.0.1:%d ...", port)
        if options.grpc_socket_path:
            log.info("Running gRPC ModelServer at UNIX socket %s ...", options.grpc_socket_path)
        if self.rest is not None:
            threading.Thread(target=self.rest.serve_forever, args=(0.1,), daemon=True).start()
            log.info("Exporting HTTP/REST API at:localhost:%d ...", self.rest.server_address[1])

    def end(self) -> None:
        """Takes no new calls and waits for those that run, up to the grace."""
        deadline = time.monotonic() + GRACE_SECONDS
        stopped = self.grpc.stop(GRACE_SECONDS) if self.grpc else None
        if self.rest:
            self.rest.closing = True
            self.rest.shutdown()
            self.rest.server_close()
        if self.models:
            self.models.stop(max(0.0, deadline - time.monotonic()))
        if stopped:
            stopped.wait(max(0.0, deadline - time.monotonic()))
        if self.rest:
            self.rest.wait_idle(max(0.0, deadline - time.monotonic()))


def model_config_of(options: Options) -> model_server_config_pb2.ModelServerConfig:
    """The configuration at the start: the file's, or one model's. Raises StatusError."""
    if options.model_config_file:
        return _read(options.model_config_file, model_server_config_pb2.ModelServerConfig())
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=options.model_name, base_path=options.model_base_path, model_platform="tensorflow"
    )
    return config


def _reload(models: Models, file: str) -> None:
    try:
        config = read_text_proto(file, model_server_config_pb2.ModelServerConfig())
    except StatusError as error:
        if isinstance(error.__cause__, TextFormatError):
            log.error("%s", error.__cause__)
        log.error("Failed to read ModelServerConfig file: %s", error.message)
        return
    try:
        models.reload(config)
    except StatusError as error:
        log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)


def _read(path: str, message: M) -> M:
    try:
        return read_text_proto(path, message)
    except StatusError as error:
        if isinstance(error.__cause__, TextFormatError):
            log.error("%s", error.__cause__)
        raise


def _loading(options: Options, monitor: Monitor) -> LoadOptions:
    session = config_pb2.ConfigProto()
    if options.tensorflow_session_config_file:
        _read(options.tensorflow_session_config_file, session)
    same = options.tensorflow_session_parallelism
    session.intra_op_parallelism_threads = options.tensorflow_intra_op_parallelism or same
    session.inter_op_parallelism_threads = options.tensorflow_inter_op_parallelism or same

    batcher = _batcher(options, monitor)

    def load(name: str, number: int, folder: Path) -> servable.Servable:
        loaded = servable.load(name, number, folder, session)
        if options.enable_model_warmup:
            warm_up(loaded, folder, options.num_request_iterations_for_warmup or 1)
        return batcher.attach(loaded) if batcher else loaded

    return LoadOptions(
        load=load,
        retries=options.max_num_load_retries,
        retry_seconds=max(0, options.load_retry_interval_micros) / 1e6,
        load_threads=options.num_load_threads,
        unload_threads=options.num_unload_threads,
        labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
    )


def _batcher(options: Options, monitor: Monitor) -> Batcher | None:
    if not options.enable_batching:
        return None
    message = BatchingParameters()
    if options.batching_parameters_file:
        _read(options.batching_parameters_file, message)
    return Batcher(parameters(message), monitor)


def _prometheus_path(options: Options) -> str | None:
    if not options.monitoring_config_file:
        return None
    config = _read(options.monitoring_config_file, MonitoringConfig()).prometheus_config
    return (config.path or PROMETHEUS_PATH) if config.enable else None


def _bind(server: grpc.Server, options: Options) -> int:
    """Opens the ports; the TCP port, chosen where it was 0. Loopback only: nobody else can reach a stand-in."""
    credentials = None
    if options.ssl_config_file:
        ssl = _read(options.ssl_config_file, SSLConfig())
        credentials = grpc.ssl_server_credentials(
            [(ssl.server_key.encode(), ssl.server_cert.encode())],
            root_certificates=ssl.custom_ca.encode() or None,
            require_client_auth=ssl.client_verify,
        )
    addresses = [f"127.0.0.1:{options.port}"]
    if options.grpc_socket_path:
        addresses.append(f"unix:{options.grpc_socket_path}")
    ports = []
    for address in addresses:
        try:
            ports.append(
                server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise invalid_argument(f"Failed to BuildAndStart gRPC server: {address} can't be used") from error
    return ports[0]


def _every(seconds: float, function: Callable[[], None]) -> None:
    def run() -> None:
        while True:
            time.sleep(seconds)
            try:
                function()
            except Exception:  # the next round may go well; the server goes on
                log.exception("Unexpected error")

    threading.Thread(target=run, daemon=True).start()
