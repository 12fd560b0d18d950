"""Text files of flags, and the messages for them that `tensorflow-serving-api` does not ship."""

from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from google.protobuf.message import Message

from serving.model_server.status import invalid_argument, not_found

M = TypeVar("M", bound=Message)

_PACKAGE = "tensorflow.serving"
_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "string": _FIELD.TYPE_STRING,
}

# name -> {field: (number, type)}; as in tensorflow/serving's session_bundle_config.proto, monitoring_config.proto and
# ssl_config.proto
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, ".google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, ".google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, ".google.protobuf.Int64Value"),
        "num_batch_threads": (4, ".google.protobuf.Int64Value"),
        "thread_pool_name": (5, ".google.protobuf.StringValue"),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, ".google.protobuf.BoolValue"),
        "max_execution_batch_size": (9, ".google.protobuf.Int64Value"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, ".tensorflow.serving.PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
}


def _declare() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()  # a pool of its own: another package may register the same names
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"photoproof/{_PACKAGE}.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            repeated, _, plain = kind.rpartition(" ")
            message.field.add(
                name=field,
                number=number,
                label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
                type=_KINDS.get(plain, _FIELD.TYPE_MESSAGE),
                type_name=plain if plain.startswith(".") else None,
            )
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _declare()
BatchingParameters: Any = _CLASSES["BatchingParameters"]
MonitoringConfig: Any = _CLASSES["MonitoringConfig"]
SSLConfig: Any = _CLASSES["SSLConfig"]


class TextFormatError(ValueError):
    """Where a text-format file is wrong, in protobuf's words."""


def read_text_proto(path: str, message: M) -> M:
    """The message in a text-format file, as TensorFlow Serving's flags name them.

    Raises StatusError: NOT_FOUND for no such file, INVALID_ARGUMENT "Invalid protobuf file: '...'" (its cause, a
    TextFormatError, says where).
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise not_found(f"{path}; {error.strerror}") from error
    try:
        return text_format.Parse(text, message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        where = TextFormatError(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {error}")
        raise invalid_argument(f"Invalid protobuf file: '{path}'") from where
