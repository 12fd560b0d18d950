"""Connects to a server by the protocol that its address names; the other protocol's library is not imported."""

from photoproof.transport.address import Server
from photoproof.transport.calls import AsyncTransport, Transport


def connect(server: Server) -> Transport:
    """A connection, made when it is first used."""
    if server.is_grpc:
        from photoproof.transport.grpc_transport import GrpcTransport

        return GrpcTransport(server)
    from photoproof.transport.rest_transport import RestTransport

    return RestTransport(server)


def connect_async(server: Server) -> AsyncTransport:
    """The same for asyncio."""
    if server.is_grpc:
        from photoproof.transport.grpc_transport import AsyncGrpcTransport

        return AsyncGrpcTransport(server)
    from photoproof.transport.rest_transport import AsyncRestTransport

    return AsyncRestTransport(server)
