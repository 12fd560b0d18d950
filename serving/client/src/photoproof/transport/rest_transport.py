"""Sends calls over TensorFlow Serving's REST API, once with threads and once in asyncio."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from photoproof.transport import rest_format
from photoproof.transport.address import Server
from photoproof.transport.calls import MAX_ANSWER_BYTES, Answer, Call, CallFailed

_CONNECTIONS = httpx.Limits(max_connections=256, max_keepalive_connections=64)


class RestTransport:
    """One pool of HTTP connections, for any number of threads."""

    def __init__(self, server: Server):
        self._client = httpx.Client(**_settings(server))

    def send(self, call: Call, timeout: float) -> Answer:
        """The answer within `timeout` seconds, longer only where a server drips its headers; raises CallFailed."""
        end = time.monotonic() + timeout
        method, path, content = rest_format.encode(call)
        try:
            with self._client.stream(
                method, path, content=content, extensions={"timeout": _RemainingTime(end)}
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > end:  # a step such as this one may take several reads
                        raise CallFailed("DEADLINE_EXCEEDED", "the answer came too slowly")
                    _check_size(body)
                return rest_format.decode(call, response.status_code, bytes(body))
        except httpx.HTTPError as error:
            raise _call_failed(error) from error

    def close(self) -> None:
        """Closes all connections."""
        self._client.close()


class _RemainingTime(Mapping[str, float]):
    """The timeouts of one call, which httpx looks up at each step: what is left until `end`, for all steps together."""

    def __init__(self, end: float):
        self._end = end

    def __getitem__(self, step: str) -> float:
        return max(0.001, self._end - time.monotonic())

    def __iter__(self) -> Iterator[str]:
        return iter(("connect", "read", "write", "pool"))

    def __len__(self) -> int:
        return 4


class AsyncRestTransport:
    """One pool of HTTP connections in asyncio."""

    def __init__(self, server: Server):
        self._client = httpx.AsyncClient(**_settings(server))

    async def send(self, call: Call, timeout: float) -> Answer:
        """The answer within `timeout` seconds; raises CallFailed."""
        try:
            return await asyncio.wait_for(self._send(call, timeout), timeout)
        except asyncio.TimeoutError:
            raise CallFailed("DEADLINE_EXCEEDED", "the answer came too slowly") from None
        except httpx.HTTPError as error:
            raise _call_failed(error) from error

    async def _send(self, call: Call, timeout: float) -> Answer:
        method, path, content = rest_format.encode(call)
        async with self._client.stream(method, path, content=content, timeout=timeout) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                _check_size(body)
            return rest_format.decode(call, response.status_code, bytes(body))

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()


def _settings(server: Server) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    if server.token:
        headers["authorization"] = f"Bearer {server.token}"
    settings: dict[str, Any] = {"base_url": str(server), "headers": headers, "limits": _CONNECTIONS}
    if server.scheme == "https":
        context = ssl.create_default_context(cafile=str(server.ca) if server.ca else None)
        if server.cert:
            context.load_cert_chain(server.cert, server.key)
        settings["verify"] = context
    else:
        settings["verify"] = False  # nothing to verify, and loading the authorities takes 20 ms
    return settings


def _check_size(body: bytearray) -> None:
    if len(body) > MAX_ANSWER_BYTES:
        raise CallFailed("DATA_LOSS", f"its answer has more than {MAX_ANSWER_BYTES // 1024**2} MiB")


def _call_failed(error: httpx.HTTPError) -> CallFailed:
    message = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return CallFailed("DEADLINE_EXCEEDED", message)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.NetworkError | httpx.RemoteProtocolError):
        return CallFailed("UNAVAILABLE", message)
    return CallFailed("DATA_LOSS", message)
