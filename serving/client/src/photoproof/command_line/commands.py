"""The client's own commands: verify, encode, status."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from photoproof.verdict import ServerStatus, Verdict
    from photoproof.verifier import Verifier

EXIT_CODES = {"match": 0, "mismatch": 3, "review": 4, "identical": 5}
TIMEOUT, RETRIES = 10.0, 4  # four take about a second: a person who gave no timeout gets an answer soon

_Server = Annotated[
    str, typer.Option("--server", envvar="PHOTOPROOF_SERVER", help="grpc://HOST:PORT, grpcs://, http:// or https://")
]
_Model = Annotated[str, typer.Option("--model", help="The served model's name.")]
_Label = Annotated[str, typer.Option("--label", help="Which version answers; '' for the newest.")]
_Version = Annotated[int | None, typer.Option("--model-version", help="A version by number, instead of a label.")]
_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        help="Seconds to wait for the answer, and for a server that is away.",
        show_default="10, about 1 for a server that is away",
    ),
]
_Ca = Annotated[
    Path | None, typer.Option("--ca", envvar="PHOTOPROOF_CA", help="PEM file of the server's certificate authority.")
]
_Cert = Annotated[
    Path | None, typer.Option("--cert", envvar="PHOTOPROOF_CERT", help="PEM file of your certificate (mutual TLS).")
]
_Key = Annotated[Path | None, typer.Option("--key", envvar="PHOTOPROOF_KEY", help="PEM file of its key.")]
_Token = Annotated[
    str | None,
    typer.Option("--token", envvar="PHOTOPROOF_TOKEN", help="Bearer token; better given by the variable."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_DEFAULT_SERVER = "grpc://localhost:8500"
_DEFAULT_MODEL = "product-encoder"


def verify(
    original: Annotated[str, typer.Argument(metavar="ORIGINAL", help="The product's original picture.")],
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="The camera photo.")],
    report: Annotated[
        Path | None, typer.Option("--report", help="Draw the verdict: both pictures, the score, the model.")
    ] = None,
    as_json: _Json = False,
    server: _Server = _DEFAULT_SERVER,
    model: _Model = _DEFAULT_MODEL,
    label: _Label = "stable",
    model_version: _Version = None,
    timeout: _Timeout = None,
    token: _Token = None,
    ca: _Ca = None,
    cert: _Cert = None,
    key: _Key = None,
) -> int:
    """Say whether PHOTO shows the product of ORIGINAL.

    Exit code 0: match, 3: mismatch, 4: a person should look, 5: the photo is a copy of the original.
    """
    with _verifier(server, model, label, model_version, timeout, token, ca, cert, key) as verifier:
        verdict = verifier.verify(original, photo)
    typer.echo(json.dumps(dataclasses.asdict(verdict)) if as_json else _verdict_text(verdict))
    if report is not None:
        from photoproof.command_line.verdict_sheet import draw

        draw(verdict, original, photo, report)
        if not as_json:
            typer.echo(f"report: {report}")
    return EXIT_CODES[verdict.outcome]


def encode(
    picture: Annotated[str, typer.Argument(metavar="PICTURE", help="The picture.")],
    as_json: _Json = False,
    server: _Server = _DEFAULT_SERVER,
    model: _Model = _DEFAULT_MODEL,
    label: _Label = "stable",
    model_version: _Version = None,
    timeout: _Timeout = None,
    token: _Token = None,
    ca: _Ca = None,
    cert: _Cert = None,
    key: _Key = None,
) -> None:
    """Print the embedding of PICTURE."""
    with _verifier(server, model, label, model_version, timeout, token, ca, cert, key) as verifier:
        embedding = verifier.encode(picture)
    numbers = [float(str(number)) for number in embedding.vector]
    if as_json:
        typer.echo(json.dumps({"vector": numbers, "model_id": embedding.model_id, "sha256": embedding.sha256}))
    else:
        typer.echo(f"{len(numbers)} numbers of model {embedding.model_id}:")
        typer.echo(" ".join(f"{number:.4f}" for number in numbers))


def status(
    as_json: _Json = False,
    server: _Server = _DEFAULT_SERVER,
    model: _Model = _DEFAULT_MODEL,
    label: _Label = "stable",
    model_version: _Version = None,
    timeout: _Timeout = None,
    token: _Token = None,
    ca: _Ca = None,
    cert: _Cert = None,
    key: _Key = None,
) -> int:
    """Say what the server serves, and whether it can answer.

    Exit code 7 where the version asked for is not available or the model is not a Photoproof model.
    """
    with _verifier(server, model, label, model_version, timeout, token, ca, cert, key) as verifier:
        answer = verifier.status()
    typer.echo(json.dumps(dataclasses.asdict(answer)) if as_json else _status_text(answer))
    return 7 if answer.version is None or answer.missing else 0


def _verifier(
    server: str,
    model: str,
    label: str,
    model_version: int | None,
    timeout: float | None,
    token: str | None,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
) -> Verifier:
    from photoproof.verifier import Verifier

    options: dict[str, Any] = {"model": model, "label": label or None, "version": model_version, "token": token}
    patience = {"timeout": TIMEOUT, "retries": RETRIES} if timeout is None else {"timeout": timeout}
    try:
        return Verifier(server, ca=ca, cert=cert, key=key, **patience, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _verdict_text(verdict: Verdict) -> str:
    lines = [f"{verdict.outcome}: {verdict.reason}"]
    if verdict.similarity is not None:
        version = f" version {verdict.model_version}" if verdict.model_version is not None else ""
        lines.append(
            f"similarity {verdict.similarity:.3f}, distance {verdict.distance:.3f}; "
            f"{verdict.model_name}{version}, model {verdict.model_id}"
        )
    return "\n".join(lines)


def _status_text(status: ServerStatus) -> str:
    lines = [f"{status.server} serves {status.model_name}"]
    for version in status.versions:
        answers = f"  <- {status.label or 'answers'}" if version.version == status.version else ""
        error = f": {version.error}" if version.error else ""
        lines.append(f"  version {version.version}  {version.state}{error}{answers}")
    if status.version is None:
        lines.append(
            f"no version has the label '{status.label}'" if status.label else "the version asked for is not available"
        )
    elif status.missing:
        lines.append("this is not a Photoproof model: " + "; ".join(status.missing))
    else:
        lines.append("it can verify, encode, compare and score")
    return "\n".join(lines)
