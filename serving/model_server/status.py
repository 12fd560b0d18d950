"""Errors as TensorFlow Serving has them: a canonical code and a message, over gRPC and over HTTP."""

from http import HTTPStatus
from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError
from tensorflow.python.framework.errors_impl import OpError  # tf.errors.OpError, but known to type checkers

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""Canonical number -> grpc.StatusCode."""

_HTTP = {
    "OK": 200,
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


class StatusError(Exception):
    """What a call ends with when it is not answered; `str()` reads as absl's Status does, "NOT_FOUND: message"."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message

    @property
    def number(self) -> int:
        """The canonical code as a number."""
        return self.code.value[0]

    @property
    def http(self) -> int:
        """The HTTP status that TensorFlow Serving answers for this code; 500 where it has no better one."""
        return _HTTP.get(self.code.name, HTTPStatus.INTERNAL_SERVER_ERROR)


def invalid_argument(message: str) -> StatusError:
    """The caller's fault."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    """Nothing by that name, version or label."""
    return StatusError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> StatusError:
    """Not in this state."""
    return StatusError(grpc.StatusCode.FAILED_PRECONDITION, message)


def deadline_exceeded() -> StatusError:
    """What TensorFlow's session says after its timeout."""
    return StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")


def from_exception(error: BaseException) -> StatusError:
    """The status of whatever loading or running a SavedModel raised."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, OpError):
        return StatusError(CODES.get(int(error.error_code), grpc.StatusCode.UNKNOWN), str(error.message))
    if isinstance(error, OSError):
        return not_found(str(error))
    if isinstance(error, DecodeError):
        return StatusError(grpc.StatusCode.DATA_LOSS, f"Can't parse the SavedModel as binary proto: {error}")
    return StatusError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def raise_status(error: BaseException) -> NoReturn:
    """Raises what `from_exception` makes of an error."""
    raise from_exception(error) from error
