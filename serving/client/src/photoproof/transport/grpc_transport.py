"""Sends calls over gRPC, once with threads and once in asyncio."""

from __future__ import annotations

from typing import Any

import grpc

from photoproof.transport import grpc_format
from photoproof.transport.address import Server
from photoproof.transport.calls import MAX_ANSWER_BYTES, Answer, Call, CallFailed

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    # A dead peer is noticed while a call waits, not only when its time is up. Servers by default treat pings of an
    # idle connection as abuse, so there are none.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # A server that restarts is found again soon: gRPC's own way is to wait up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Each Verifier has a connection of its own, so that closing one never ends another's calls.
    ("grpc.use_local_subchannel_pool", 1),
]


class GrpcTransport:
    """One gRPC channel, for any number of threads."""

    def __init__(self, server: Server):
        self._channel = (
            grpc.secure_channel(server.target, _credentials(server), options=_OPTIONS)
            if server.scheme == "grpcs"
            else grpc.insecure_channel(server.target, options=_OPTIONS)
        )
        self._metadata = _metadata(server)
        self._closed = False

    def send(self, call: Call, timeout: float) -> Answer:
        """The answer within `timeout` seconds; raises CallFailed."""
        path, request = grpc_format.encode(call)
        try:
            message = self._channel.unary_unary(path)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _call_failed(error, self._closed) from error
        return grpc_format.decode(call, message)

    def close(self) -> None:
        """Closes the channel."""
        self._closed = True
        self._channel.close()


class AsyncGrpcTransport:
    """One gRPC channel in asyncio."""

    def __init__(self, server: Server):
        self._channel = (
            grpc.aio.secure_channel(server.target, _credentials(server), options=_OPTIONS)
            if server.scheme == "grpcs"
            else grpc.aio.insecure_channel(server.target, options=_OPTIONS)
        )
        self._metadata = _metadata(server)
        self._closed = False

    async def send(self, call: Call, timeout: float) -> Answer:
        """The answer within `timeout` seconds; raises CallFailed."""
        path, request = grpc_format.encode(call)
        try:
            message = await self._channel.unary_unary(path)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _call_failed(error, self._closed) from error
        return grpc_format.decode(call, message)

    async def close(self) -> None:
        """Closes the channel."""
        self._closed = True
        await self._channel.close()


def _credentials(server: Server) -> grpc.ChannelCredentials:
    ca, cert, key = (file.read_bytes() if file else None for file in (server.ca, server.cert, server.key))
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


def _metadata(server: Server) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {server.token}"),) if server.token else ()


def _call_failed(error: Any, closed: bool) -> CallFailed:
    code, message = error.code().name, error.details() or ""
    if code == "CANCELLED" and not closed:  # not by us: a server that stops drops its calls so
        return CallFailed("UNAVAILABLE", message or "the server dropped the call")
    return CallFailed(code, message)
