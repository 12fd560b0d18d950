"""Calls and answers as TensorFlow Serving's REST API has them: JSON, with {"b64": ...} for bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

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

_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    412: "FAILED_PRECONDITION",
    413: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_DTYPES = {
    "DT_STRING": "string",
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_BOOL": "bool",
}


def encode(call: Call) -> tuple[str, str, bytes | None]:
    """HTTP method, path below the server's address, and the request's JSON."""
    if isinstance(call, Predict):
        body = {
            "signature_name": call.signature,
            "inputs": {name: _value(value) for name, value in call.inputs.items()},
        }
        return "POST", f"{_path(call.model)}:predict", json.dumps(body).encode()
    if isinstance(call, Describe):
        return "GET", f"{_path(call.model)}/metadata", None
    return "GET", _path(Model(call.model.name)), None


def decode(call: Call, status: int, body: bytes) -> Answer:
    """The answer in a response; raises CallFailed where the server refused or the answer is invalid."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not 200 <= status < 300:
        raise CallFailed(_CODES.get(status, "INTERNAL" if status >= 500 else "UNKNOWN"), _message(status, answer))
    try:
        if isinstance(call, Predict):
            return Predicted(_outputs(call, answer), None)
        if isinstance(call, Describe):
            return _described(answer)
        assert isinstance(call, AskStatus)
        return _reported_status(answer)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CallFailed("DATA_LOSS", f"its answer is invalid ({type(error).__name__}: {error})") from error


def _path(model: Model) -> str:
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        return f"{path}/versions/{model.version}"
    return f"{path}/labels/{quote(model.label, safe='')}" if model.label else path


def _value(value: list[bytes] | np.ndarray) -> object:
    if isinstance(value, list):
        return [{"b64": base64.b64encode(item).decode("ascii")} for item in value]
    return value.tolist()


def _message(status: int, answer: Any) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return answer["error"]
    return f"HTTP status {status}"


def _outputs(call: Predict, answer: Any) -> dict[str, np.ndarray]:
    outputs = answer["outputs"]
    if not isinstance(outputs, dict):
        raise ValueError(f"the outputs of {call.signature} have no names")
    return {name: _array(value) for name, value in outputs.items()}


def _array(value: Any) -> np.ndarray:
    """JSON knows neither float32 nor int64: numbers become float32, texts bytes."""
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return np.asarray([str(text).encode() for text in array.ravel()], object).reshape(array.shape)
    return array if array.dtype == np.bool_ else array.astype(np.float32)


def _described(answer: Any) -> Described:
    definitions = answer["metadata"]["signature_def"]["signature_def"]
    signatures = {
        name: SignatureSpec(_tensors(definition.get("inputs", {})), _tensors(definition.get("outputs", {})))
        for name, definition in definitions.items()
    }
    version = answer.get("model_spec", {}).get("version")
    return Described(signatures, int(version) if version else None)


def _tensors(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(_DTYPES.get(info["dtype"], str(info["dtype"])), _shape(info.get("tensor_shape", {})))
        for name, info in infos.items()
    }


def _shape(shape: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    if shape.get("unknown_rank"):
        return None
    sizes = (int(dim["size"]) for dim in shape.get("dim", []))
    return tuple(None if size < 0 else size for size in sizes)


def _reported_status(answer: Any) -> ReportedStatus:
    versions = [
        VersionStatus(int(entry["version"]), str(entry["state"]), str(entry.get("status", {}).get("error_message", "")))
        for entry in answer["model_version_status"]
    ]
    return ReportedStatus(tuple(sorted(versions, key=lambda version: -version.version)))
