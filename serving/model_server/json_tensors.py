"""JSON bodies of REST predict, row form (`instances`) and column form (`inputs`), as TensorFlow Serving has them.

After its util/json_tensor.cc, whose words the errors have.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from serving.model_server.status import StatusError, invalid_argument

Form = Literal["instances", "inputs"]

_DEBUG_CHARACTERS = 256
_decoder = json.JSONDecoder()


def parse(body: bytes) -> dict[str, Any]:
    """The object of a request's body. Raises StatusError."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        text = body.decode().lstrip(" \t\r\n")
        document, _ = _decoder.raw_decode(text)  # what follows the document is not looked at
    except json.JSONDecodeError as error:
        raise invalid_argument(f"JSON Parse error: Invalid value. at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise invalid_argument(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: Terminate parsing due to Handler error.") from None
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise _format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return document


def read(
    document: dict[str, Any], inputs: Mapping[str, tuple[tf.DType, tf.TensorShape]]
) -> tuple[Form, dict[str, np.ndarray]]:
    """The form of a request and its arrays by input name. Raises StatusError."""
    if "instances" in document and "inputs" in document:
        raise _format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    try:
        if "instances" in document:
            return "instances", _read_rows(document, inputs)
        if "inputs" in document:
            return "inputs", _read_columns(document["inputs"], inputs)
    except RecursionError:
        raise invalid_argument("JSON Parse error: Terminate parsing due to Handler error.") from None
    raise _format_error(document, "Missing 'inputs' or 'instances' key")


def _read_rows(document: dict[str, Any], inputs: Mapping[str, tuple[tf.DType, Any]]) -> dict[str, np.ndarray]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise _format_error(document, "Expecting 'instances' to be an list/array")
    if not rows:
        raise _format_error(document, "No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    objects = _is_object(rows[0])
    first_input = next(iter(inputs))
    values: dict[str, list[Any]] = {name: [] for name in inputs}
    shapes: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        if objects != _is_object(row):
            raise invalid_argument(
                f"Expecting {'object but got list' if objects else 'value/list but got object'} at item {position} "
                "of input list"
            )
        for name, value in row.items() if objects else [(first_input, row)]:
            prefix = (
                f"Failed to process element: {position} key: {name}"
                if objects
                else f"Failed to process element: {position}"
            )
            try:
                _add_row(value, name, inputs, values, shapes)
            except StatusError as error:
                raise invalid_argument(f"{prefix} of 'instances' list. Error: {error}") from None
        if objects and set(row) != set(inputs):
            raise invalid_argument(
                f"Failed to process element: {position} of 'instances' list. JSON object: {_debug(row)} keys must be "
                f"equal to: {','.join(sorted(inputs))}"
            )
    return {name: _array(flat, [len(rows), *shapes[name]], inputs[name][0]) for name, flat in values.items()}


def _add_row(value: Any, name: str, inputs: Mapping, values: dict[str, list], shapes: dict[str, list[int]]) -> None:
    if name not in inputs:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    before = len(values[name])
    _fill(value, shape, 0, inputs[name][0], values[name])
    size = len(values[name]) - before
    expected = shapes.setdefault(name, shape)
    if shape != expected:
        if size != np.prod(expected, dtype=int):
            raise invalid_argument(f"Expecting tensor size: {np.prod(expected, dtype=int)} but got: {size}")
        raise invalid_argument(f"Expecting shape {_listed(expected)} but got: {_listed(shape)}")


def _read_columns(value: Any, inputs: Mapping[str, tuple[tf.DType, Any]]) -> dict[str, np.ndarray]:
    if not _is_object(value):
        if len(inputs) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {next(iter(inputs)): value}
    arrays = {}
    for name, (dtype, _) in inputs.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        flat: list[Any] = []
        shape = _shape(value[name])
        _fill(value[name], shape, 0, dtype, flat)
        arrays[name] = _array(flat, shape, dtype)
    return arrays


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _fill(value: Any, shape: list[int], level: int, dtype: tf.DType, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {_debug(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_value(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _fill(item, shape, level + 1, dtype, flat)


def _value(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, dict):
            return _unbase64(value)
    elif dtype == tf.bool:
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass
    elif dtype.is_floating:
        if isinstance(value, int | float):
            return value
    elif dtype.is_integer and isinstance(value, int):
        wide = tf.int32 if dtype.size < 4 else dtype  # as TensorFlow Serving: small integers wrap
        if wide.min <= value <= wide.max:
            return value
    raise invalid_argument(f"JSON Value: {_debug(value)} Type: {_type(value)} is not of expected type: {dtype.name}")


def _unbase64(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise _format_error(value, "not formatted correctly for base64 data")
    text = value["b64"]
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:
        pass
    try:  # white space and missing padding are allowed
        text = "".join(text.split()).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise invalid_argument("Unable to base64 decode") from None


def _array(values: list[Any], shape: list[int], dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        array = np.empty(len(values), object)
        array[:] = values
    elif dtype.is_integer:
        array = np.array(values, np.uint64 if dtype == tf.uint64 else np.int64).astype(dtype.as_numpy_dtype)
    else:
        array = np.array(values, dtype.as_numpy_dtype)
    return array.reshape(shape)


def write(form: Form, arrays: Mapping[str, np.ndarray]) -> bytes:
    """The body that answers a request of that form. Raises StatusError where rows don't fit together."""
    if form == "inputs":
        columns = {name: _plain(name, array) for name, array in arrays.items()}
        return _dump({"outputs": columns if len(columns) > 1 else next(iter(columns.values()))})
    sizes = {name: array.shape[0] if array.ndim else None for name, array in arrays.items()}
    for name, size in sizes.items():
        if size is None:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if size != (expected := next(iter(sizes.values()))):
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {size} expecting: {expected}")
    columns = {name: _plain(name, array) for name, array in arrays.items()}
    if len(columns) == 1:
        return _dump({"predictions": next(iter(columns.values()))})
    return _dump({"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]})


def write_error(message: str) -> bytes:
    """The body of a failed call."""
    return _dump({"error": message})


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        as_base64 = name.endswith("_bytes")
        return _nested(
            [
                {"b64": base64.b64encode(value).decode()} if as_base64 else value.decode("utf-8", "surrogateescape")
                for value in array.ravel()
            ],
            array.shape,
        )
    if array.dtype == np.float32:
        return _nested(_short_floats(array.ravel()), array.shape)
    return array.tolist()


def _short_floats(values: np.ndarray) -> list[float]:
    """Six digits where they give the same float32 again, nine else, so that 0.2 is not 0.20000000298."""
    short = [float(f"{value:g}") for value in values.tolist()]
    same = np.array(short, np.float32) == values
    return [
        rounded if fits else float(f"{value:.9g}")
        for rounded, fits, value in zip(short, same.tolist(), values.tolist(), strict=True)
    ]


def _nested(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)] if size else [[]] * shape[0]
    return flat


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    return {type(None): "Null", dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def _debug(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value[:_DEBUG_CHARACTERS])
    if isinstance(value, dict):
        value = {name: item[:_DEBUG_CHARACTERS] if isinstance(item, str) else item for name, item in value.items()}
    return "".join(islice(json.JSONEncoder(indent=4).iterencode(value), _DEBUG_CHARACTERS))[:_DEBUG_CHARACTERS]


def _listed(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _format_error(value: Any, problem: str) -> StatusError:
    return invalid_argument(f"JSON Value: {_debug(value)} {problem}")
