"""PredictionService, ModelService and the health service, over gRPC."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.models import Models
from serving.model_server.monitoring import Monitor
from serving.model_server.predict import predict
from serving.model_server.status import StatusError, deadline_exceeded, from_exception, invalid_argument

log = logging.getLogger(__name__)
T = TypeVar("T")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; Classify, Regress and MultiInference answer UNIMPLEMENTED."""

    def __init__(self, models: Models, monitor: Monitor, as_content: bool = False):
        self._models = models
        self._monitor = monitor
        self._as_content = as_content

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Any:
        """As TensorFlow Serving's; a call whose deadline passed while it waited is not run."""
        start = time.perf_counter()
        status = "OK"
        try:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            remaining = context.time_remaining()
            if remaining is not None and remaining <= 0:
                raise deadline_exceeded()
            with self._models.lease(request.model_spec) as servable:
                return predict(servable, request, _timeout_ms(remaining), self._as_content)
        except Exception as error:  # whatever it is, it is this call's
            failure = _reported(error)
            status = failure.code.name
            context.abort(failure.code, failure.message)
        finally:
            seconds = time.perf_counter() - start
            self._monitor.request(request.model_spec.name, status, "Predict", "GRPC", seconds)

    def GetModelMetadata(self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Any) -> Any:
        """The signatures."""
        return _answer(context, lambda: model_metadata(self._models, request))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: Models, monitor: Monitor):
        self._models = models
        self._monitor = monitor

    def GetModelStatus(self, request: get_model_status_pb2.GetModelStatusRequest, context: Any) -> Any:
        """The state of each version."""
        return _answer(context, lambda: model_status(self._models, request))

    def HandleReloadConfigRequest(self, request: model_management_pb2.ReloadConfigRequest, context: Any) -> Any:
        """Takes a new configuration, as polling the file does."""

        def reload() -> model_management_pb2.ReloadConfigResponse:
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid_argument(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                    "Only ModelConfigList is currently supported"
                )
            before = self._monitor.values()
            try:
                self._models.reload(request.config)
            except StatusError as error:
                log.error("ReloadConfig failed: %s", error.message)
                raise
            after = self._monitor.values()
            response = model_management_pb2.ReloadConfigResponse()
            response.status.error_code = 0  # type: ignore[assignment]
            for name in request.metric_names:
                response.metric.add(name=name, int64_value_increase=after.get(name, 0) - before.get(name, 0))
            return response

        return _answer(context, reload)


def model_status(
    models: Models, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """What GetModelStatus answers. Raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in models.states(request.model_spec):
        entry = response.model_version_status.add(version=version.number, state=int(version.state))  # type: ignore[arg-type]
        error = version.error
        entry.status.error_code = error.number if error else 0  # type: ignore[assignment]
        entry.status.error_message = error.message if error else ""
    return response


def model_metadata(
    models: Models, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """What GetModelMetadata answers. Raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != "signature_def":
            raise invalid_argument(f"Metadata field {name} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    with models.lease(request.model_spec) as servable:
        for name, definition in servable.definitions.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.number
    response.metadata["signature_def"].Pack(signatures)
    return response


def health_service() -> health.HealthServicer:
    """`grpc.health.v1.Health`: the whole server, ModelService and PredictionService are serving."""
    servicer = health.HealthServicer()
    for service in ("", "ModelService", "PredictionService"):
        servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def build(
    models: Models,
    monitor: Monitor,
    max_threads: int,
    arguments: list[tuple[str, int | str]],
    answer_health: bool = False,
    as_content: bool = False,
) -> grpc.Server:
    """A server with every service, not started. More than `max_threads` calls at once: RESOURCE_EXHAUSTED."""
    server = grpc.server(
        ThreadPoolExecutor(max_threads, thread_name_prefix="grpc"),
        options=arguments,
        maximum_concurrent_rpcs=max_threads,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models, monitor, as_content), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models, monitor), server)
    if answer_health:
        health_pb2_grpc.add_HealthServicer_to_server(health_service(), server)
    return server


def _timeout_ms(remaining: float | None) -> int:
    return 0 if remaining is None or remaining > 86_400 else int(remaining * 1000) + 1


def _answer(context: grpc.ServicerContext, function: Callable[[], T]) -> T:
    try:
        return function()
    except Exception as error:  # whatever it is, it is this call's
        failure = _reported(error)
        context.abort(failure.code, failure.message)


def _reported(error: Exception) -> StatusError:
    failure = from_exception(error)
    if failure.code == grpc.StatusCode.INTERNAL and not isinstance(error, StatusError):
        log.error("Unexpected error in a call", exc_info=error)
    return failure
