"""What is asked of a model server and what it answers, before either is gRPC or REST.

A transport sends one call and returns its answer: the only seam between this package and the two protocols. Whatever
goes wrong is raised as `CallFailed`, with gRPC's name for it from either protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

MAX_ANSWER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Model:
    """A model by name and one of version, label or, with neither, the newest version."""

    name: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name} version {self.version}"
        return f"{self.name} with label '{self.label}'" if self.label else self.name


@dataclass(frozen=True)
class Predict:
    """One call of a signature; an input is a list of byte strings, string [N], or a float32 array [N, D]."""

    model: Model
    signature: str
    inputs: Mapping[str, list[bytes] | np.ndarray]


@dataclass(frozen=True)
class Describe:
    """Which signatures a model has."""

    model: Model


@dataclass(frozen=True)
class AskStatus:
    """Which versions of a model the server has, regardless of the model's version or label."""

    model: Model


Call = Predict | Describe | AskStatus


@dataclass(frozen=True)
class Predicted:
    """Outputs by name, each [N, ...] of float32, int64, bool or (object) bytes; the version is None over REST."""

    outputs: Mapping[str, np.ndarray]
    version: int | None


@dataclass(frozen=True)
class TensorSpec:
    """A signature's input or output: dtype "string", "float32", "bool", ... and shape with None for any length."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class SignatureSpec:
    """The inputs and outputs of one function of a model."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class Described:
    """A model's signatures by name, and the version that answered the call."""

    signatures: Mapping[str, SignatureSpec]
    version: int | None


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model on the server; state is "AVAILABLE", "LOADING", "END" and so on."""

    version: int
    state: str
    error: str


@dataclass(frozen=True)
class ReportedStatus:
    """All versions of a model that the server knows, the newest first."""

    versions: tuple[VersionStatus, ...]


Answer = Predicted | Described | ReportedStatus


class CallFailed(Exception):
    """A call without an answer; `code` is gRPC's name, such as "UNAVAILABLE", for both protocols."""

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code = code
        self.message = message


class Transport(Protocol):
    """Sends one call, once; safe to use from several threads."""

    def send(self, call: Call, timeout: float) -> Answer:
        """The answer within `timeout` seconds; raises CallFailed."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


class AsyncTransport(Protocol):
    """The same in asyncio."""

    async def send(self, call: Call, timeout: float) -> Answer:
        """The answer within `timeout` seconds; raises CallFailed."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
