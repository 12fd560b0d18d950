"""A model server's address, with the token and certificates that it asks for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 443}


@dataclass(frozen=True)
class Server:
    """A server's address: scheme "grpc", "grpcs", "http" or "https", and host:port or unix:PATH.

    ca, cert and key are PEM files: the authority that signed the server's certificate, if that is not a
    well-known one, and for mutual TLS the client's own certificate and key.
    """

    scheme: str
    target: str
    path: str = ""
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return f"{self.scheme}://{self.target}{self.path}"

    @property
    def is_grpc(self) -> bool:
        """Whether it speaks gRPC; else REST."""
        return self.scheme in ("grpc", "grpcs")


def server_at(
    address: str,
    token: str | None = None,
    ca: str | Path | None = None,
    cert: str | Path | None = None,
    key: str | Path | None = None,
) -> Server:
    """Parses an address such as grpc://localhost:8500, https://gateway/photoproof or grpc://unix:/run/serving.

    Raises ValueError, for an invalid address, and for files that don't exist, can't be read or don't go together.
    """
    parts = urlsplit(address)
    if parts.scheme not in _PORTS or not parts.netloc:
        raise ValueError(f"{address!r} is not a server address: write grpc://HOST:PORT, grpcs://, http:// or https://")
    secure = parts.scheme in ("grpcs", "https")
    if not secure and (ca or cert or key):
        raise ValueError(f"{address} is not encrypted, so certificates can't be used: write grpcs:// or https://")
    if bool(cert) != bool(key):
        raise ValueError("a client certificate needs its key, and a key its certificate")
    for file in (ca, cert, key):
        if file and not Path(file).is_file():
            raise ValueError(f"no such file: {file}")
    _check_certificates(ca, cert, key)
    if token is not None and not (token.isascii() and token.isprintable() and token):
        raise ValueError("the token has characters that can't be sent")
    server = Server(
        parts.scheme,
        _target(address, parts.scheme, parts.netloc, parts.path),
        "" if parts.netloc == "unix:" else parts.path.rstrip("/"),
        token,
        Path(ca) if ca else None,
        Path(cert) if cert else None,
        Path(key) if key else None,
    )
    if not server.is_grpc:
        import httpx

        try:
            httpx.URL(str(server))
        except httpx.InvalidURL as error:
            raise ValueError(f"{address!r} is not a server address: {error}") from error
    return server


def _check_certificates(ca: str | Path | None, cert: str | Path | None, key: str | Path | None) -> None:
    """Loads the PEM files as the connection will: gRPC would only log an error, and then reach no server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        try:
            context.load_verify_locations(ca)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"{ca} can't be read as a PEM file of certificates: {error}") from error
    if cert and key:
        try:
            context.load_cert_chain(cert, key, password="")  # an encrypted key would be asked for at the terminal
        except OSError as error:
            raise ValueError(f"{cert} and {key} can't be read as PEM files of one identity: {error}") from error


def _target(address: str, scheme: str, netloc: str, path: str) -> str:
    if netloc == "unix:":
        if scheme in ("http", "https") or not path:
            raise ValueError(f"{address!r} is not a server address: a Unix socket is written grpc://unix:/PATH")
        return f"unix:{path}"
    if "@" in netloc:
        raise ValueError("a password has no place in the address; give a token")
    try:
        parts = urlsplit(f"//{netloc}")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{address!r} is not a server address: {error}") from error
    if not parts.hostname:
        raise ValueError(f"{address!r} is not a server address: it names no host")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{address!r} is not a server address: the host can't be looked up: {error}") from error
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or _PORTS[scheme]}"
