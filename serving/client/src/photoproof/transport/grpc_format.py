"""Calls and answers as the bytes of TensorFlow Serving's gRPC API."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from google.protobuf.message import DecodeError

from photoproof.transport._proto import wire_pb2
from photoproof.transport.calls import (
    Answer,
    AskStatus,
    Call,
    CallFailed,
    Describe,
    Described,
    Model,
    Predict,
    Predicted,
    ReportedStatus,
    SignatureSpec,
    TensorSpec,
    VersionStatus,
)

_DTYPES: dict[int, tuple[str, type, str]] = {
    wire_pb2.DT_FLOAT: ("float32", np.float32, "float_val"),
    wire_pb2.DT_DOUBLE: ("float64", np.float64, "double_val"),
    wire_pb2.DT_INT32: ("int32", np.int32, "int_val"),
    wire_pb2.DT_INT64: ("int64", np.int64, "int64_val"),
    wire_pb2.DT_BOOL: ("bool", np.bool_, "bool_val"),
}


def encode(call: Call) -> tuple[str, bytes]:
    """The gRPC method's path and the request's bytes, the same for the same call."""
    if isinstance(call, Predict):
        request = wire_pb2.PredictRequest(
            model_spec=_spec(call.model, call.signature),
            inputs={name: to_tensor_proto(value) for name, value in call.inputs.items()},
        )
        path = "/tensorflow.serving.PredictionService/Predict"
    elif isinstance(call, Describe):
        request = wire_pb2.GetModelMetadataRequest(model_spec=_spec(call.model), metadata_field=["signature_def"])
        path = "/tensorflow.serving.PredictionService/GetModelMetadata"
    else:
        request = wire_pb2.GetModelStatusRequest(model_spec=_spec(Model(call.model.name)))
        path = "/tensorflow.serving.ModelService/GetModelStatus"
    return path, request.SerializeToString(deterministic=True)


def decode(call: Call, message: bytes) -> Answer:
    """The answer in a response's bytes; raises CallFailed where they can't be read."""
    try:
        if isinstance(call, Predict):
            response = wire_pb2.PredictResponse.FromString(message)
            outputs = {name: to_array(value) for name, value in response.outputs.items()}
            return Predicted(outputs, _version(response.model_spec))
        if isinstance(call, Describe):
            return _described(wire_pb2.GetModelMetadataResponse.FromString(message))
        assert isinstance(call, AskStatus)
        return _reported_status(wire_pb2.GetModelStatusResponse.FromString(message))
    except (DecodeError, ValueError, KeyError) as error:
        raise CallFailed("DATA_LOSS", f"its answer is invalid ({error})") from error


def to_tensor_proto(value: list[bytes] | np.ndarray) -> wire_pb2.TensorProto:
    """The tensor that tf.make_tensor_proto makes of a list of byte strings or of a float32 array."""
    if isinstance(value, list):
        shape = wire_pb2.TensorShapeProto(dim=[wire_pb2.TensorShapeProto.Dim(size=len(value))])
        return wire_pb2.TensorProto(dtype=wire_pb2.DT_STRING, tensor_shape=shape, string_val=value)
    if value.dtype != np.float32:
        raise TypeError(f"a tensor of {value.dtype} can't be sent")
    shape = wire_pb2.TensorShapeProto(dim=[wire_pb2.TensorShapeProto.Dim(size=side) for side in value.shape])
    if value.size > 1:
        content = np.ascontiguousarray(value, "<f4").tobytes()
        return wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape=shape, tensor_content=content)
    return wire_pb2.TensorProto(dtype=wire_pb2.DT_FLOAT, tensor_shape=shape, float_val=value.ravel().tolist())


def to_array(message: wire_pb2.TensorProto) -> np.ndarray:
    """A tensor's values in its shape, strings as an object array of bytes; raises ValueError where they don't fit."""
    shape = [dim.size for dim in message.tensor_shape.dim]
    if message.dtype == wire_pb2.DT_STRING:
        return np.array(list(message.string_val), object).reshape(shape)
    if message.dtype not in _DTYPES:
        raise ValueError(f"a tensor of type {message.dtype}")
    _, dtype, field = _DTYPES[message.dtype]
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, np.dtype(dtype).newbyteorder("<")).reshape(shape)
    values = np.array(list(getattr(message, field)), dtype)
    size = math.prod(shape)
    if 0 < len(values) < size <= 2**20:  # TensorFlow leaves out equal values at the end
        values = np.concatenate([values, np.full(size - len(values), values[-1], dtype)])
    return values.reshape(shape)


def _spec(model: Model, signature: str = "") -> wire_pb2.ModelSpec:
    spec = wire_pb2.ModelSpec(name=model.name, signature_name=signature)
    if model.version is not None:
        spec.version.value = model.version
    elif model.label:
        spec.version_label = model.label
    return spec


def _version(spec: wire_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _described(response: wire_pb2.GetModelMetadataResponse) -> Described:
    definitions = wire_pb2.SignatureDefMap.FromString(response.metadata["signature_def"].value)
    signatures = {
        name: SignatureSpec(_tensors(definition.inputs), _tensors(definition.outputs))
        for name, definition in definitions.signature_def.items()
    }
    return Described(signatures, _version(response.model_spec))


def _tensors(infos: Mapping[str, wire_pb2.TensorInfo]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(_dtype(info.dtype), _shape(info.tensor_shape)) for name, info in infos.items()}


def _dtype(number: int) -> str:
    if number == wire_pb2.DT_STRING:
        return "string"
    return _DTYPES[number][0] if number in _DTYPES else f"type {number}"


def _shape(shape: wire_pb2.TensorShapeProto) -> tuple[int | None, ...] | None:
    return None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def _reported_status(response: wire_pb2.GetModelStatusResponse) -> ReportedStatus:
    versions = [
        VersionStatus(entry.version, wire_pb2.ModelVersionStatus.State.Name(entry.state), entry.status.error_message)
        for entry in response.model_version_status
    ]
    return ReportedStatus(tuple(sorted(versions, key=lambda version: -version.version)))
