"""A Predict call against a loaded version: what is checked, in TensorFlow Serving's order and words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving.model_server import tensors
from serving.model_server.servable import Servable
from serving.model_server.status import failed_precondition, invalid_argument
from training.saved_model.loading import DEFAULT_SIGNATURE, Signature


def predict(
    servable: Servable, request: predict_pb2.PredictRequest, timeout_ms: int = 0, as_content: bool = False
) -> predict_pb2.PredictResponse:
    """Answers a request. Raises StatusError."""
    signature = find_signature(servable, request.model_spec.signature_name)
    arrays = {}
    _check_names(signature, request.inputs)
    for name, proto in request.inputs.items():
        try:
            arrays[name] = tensors.to_array(proto)
        except (ValueError, TypeError, IndexError) as error:
            raise invalid_argument(f"tensor parsing error: {name}") from error
    outputs = run(servable, signature, arrays, list(request.output_filter), timeout_ms)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = signature.name
    response.model_spec.version.value = servable.number
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tensors.from_array(array, as_content))
    return response


def find_signature(servable: Servable, name: str) -> Signature:
    """The signature by that name, `serving_default` for none. Raises StatusError FAILED_PRECONDITION."""
    name = name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    return servable.signatures[name]


def run(
    servable: Servable,
    signature: Signature,
    arrays: Mapping[str, np.ndarray],
    output_filter: Sequence[str] = (),
    timeout_ms: int = 0,
) -> dict[str, np.ndarray]:
    """Outputs by name, those of the filter or all. Raises StatusError."""
    _check_names(signature, arrays)
    seen: set[str] = set()
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{_braces(signature.outputs)}."
            )
        if name in seen:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
        seen.add(name)
    inputs = sorted(arrays)
    outputs = list(output_filter) or sorted(signature.outputs)
    return servable.run(signature, inputs, outputs, [arrays[name] for name in inputs], timeout_ms)


def _check_names(signature: Signature, given: Iterable[str]) -> None:
    sent, wanted = set(given), set(signature.inputs)
    if len(sent) != len(wanted):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_braces(sent)}) != "
            f"len({_braces(wanted)}). Sent extra: {_braces(sent - wanted)}. "
            f"Missing but required: {_braces(wanted - sent)}."
        )
    for name in sorted(sent - wanted):
        raise invalid_argument(
            f"input tensor alias not found in signature: {name}. Inputs expected to be in the set {_braces(wanted)}."
        )


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
