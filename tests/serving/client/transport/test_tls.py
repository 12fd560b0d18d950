"""TLS, mutual TLS and tokens, against servers with certificates made for the test."""

import datetime
import http.server
import ipaddress
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from photoproof import ServerUnavailable, Verifier

PREDICT = "/tensorflow.serving.PredictionService/Predict"
VERDICT = (
    b'{"outputs": {"similarity": [0.5], "distance": [1.0], "probability": [0.75], "accept_at": [0.9], '
    b'"reject_at": [0.5], "decoded": [true], "model_id": ["scripted"]}}'
)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Papers:
    """An authority's certificate, and the server's and a client's identity by it."""

    ca: Path
    server: Identity
    client: Identity


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("tls")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test's authority")])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: x509.Name, public_key, is_authority: bool) -> x509.Certificate:
        address = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(address, critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        return builder.sign(authority_key, hashes.SHA256())

    def write(name: str, key: ec.EllipticCurvePrivateKey, is_authority: bool = False) -> Identity:
        subject = authority_name if is_authority else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
        made = certificate(subject, key.public_key(), is_authority)
        identity.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return identity

    def new_key() -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    ca = write("authority", authority_key, is_authority=True).cert
    return Papers(ca, write("server", new_key()), write("client", new_key()))


@pytest.fixture
def secure_grpc(papers, scripted_server):
    """A gRPC server that wants a client's certificate."""
    credentials = grpc.ssl_server_credentials(
        [(papers.server.key.read_bytes(), papers.server.cert.read_bytes())],
        root_certificates=papers.ca.read_bytes(),
        require_client_auth=True,
    )
    server = type(scripted_server)(credentials=credentials)
    server.answers[PREDICT] = scripted_server.answers[PREDICT]
    yield server
    server.stop()


@pytest.fixture
def secure_rest(papers):
    """A REST gateway that wants a client's certificate; yields its port and the headers of each call."""
    headers: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            headers.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
            self.send_response(200)
            self.send_header("content-length", str(len(VERDICT)))
            self.end_headers()
            self.wfile.write(VERDICT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address) -> None:
            pass  # a client without a certificate is turned away

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.server.cert, papers.server.key)
    context.load_verify_locations(papers.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1], headers
    server.shutdown()
    thread.join()
    server.server_close()


def test_mutual_tls_and_a_token_over_grpc(secure_grpc, papers, pair):
    with Verifier(
        f"grpcs://localhost:{secure_grpc.port}",
        ca=papers.ca,
        cert=papers.client.cert,
        key=papers.client.key,
        token="open-sesame",
    ) as verifier:
        assert verifier.verify(*pair).model_id == "scripted"
    assert secure_grpc.metadata[0]["authorization"] == "Bearer open-sesame"


def test_mutual_tls_and_a_token_over_rest_through_a_gateways_path(secure_rest, papers, pair):
    port, headers = secure_rest
    with Verifier(
        f"https://localhost:{port}/gateway/photoproof/",
        ca=papers.ca,
        cert=papers.client.cert,
        key=papers.client.key,
        token="open-sesame",
    ) as verifier:
        assert verifier.verify(*pair).model_id == "scripted"
    assert headers[0]["authorization"] == "Bearer open-sesame"
    assert headers[0]["path"] == "/gateway/photoproof/v1/models/product-encoder/labels/stable:predict"


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_server_of_an_unknown_authority_is_not_trusted(scheme, secure_grpc, secure_rest, papers, pair):
    port = secure_grpc.port if scheme == "grpcs" else secure_rest[0]
    verifier = Verifier(
        f"{scheme}://localhost:{port}", timeout=1, cert=papers.client.cert, key=papers.client.key, token="open-sesame"
    )
    with verifier, pytest.raises(ServerUnavailable):
        verifier.verify(*pair)
    assert secure_grpc.metadata == [] and secure_rest[1] == []


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_client_without_its_certificate_is_not_let_in(scheme, secure_grpc, secure_rest, papers, pair):
    port = secure_grpc.port if scheme == "grpcs" else secure_rest[0]
    verifier = Verifier(f"{scheme}://localhost:{port}", timeout=1, ca=papers.ca)
    with verifier, pytest.raises(ServerUnavailable):
        verifier.verify(*pair)
    assert secure_grpc.metadata == [] and secure_rest[1] == []


def test_a_key_that_is_not_the_certificates_or_is_encrypted_is_refused_at_once(papers, tmp_path):
    with pytest.raises(ValueError, match=r"client\.pem and .*server\.key can't be read"):
        Verifier("grpcs://localhost", cert=papers.client.cert, key=papers.server.key)
    key = serialization.load_pem_private_key(papers.client.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match=r"locked\.key can't be read"):
        Verifier("grpcs://localhost", cert=papers.client.cert, key=locked)


def test_a_token_goes_with_every_call_over_plain_grpc_too(scripted_server, pair):
    with Verifier(scripted_server.url, token="open-sesame") as verifier:
        verifier.verify(*pair)
    assert scripted_server.metadata[0]["authorization"] == "Bearer open-sesame"
