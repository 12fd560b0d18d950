"""What each of the client's questions asks of the server, in order, and what it makes of the answers.

An exchange is a generator: it yields calls, is sent their answers (or has `CallFailed` thrown into it) and returns the
result. So the same steps serve `Verifier` and `AsyncVerifier`, gRPC and REST.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from photoproof.errors import (
    DeadlineExceeded,
    InvalidImage,
    ModelNotFound,
    PhotoproofError,
    ServerError,
    ServerUnavailable,
    StaleEmbedding,
    UnfitModel,
)
from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import MIN_SIDE, PreparedPicture
from photoproof.signatures import SIGNATURES, missing_parts
from photoproof.transport.calls import (
    Answer,
    AskStatus,
    Call,
    CallFailed,
    Describe,
    Described,
    Model,
    Predict,
    Predicted,
    ReportedStatus,
)
from photoproof.verdict import Embedding, ServerStatus, Verdict, decide

Result = TypeVar("Result")
Exchange = Generator[Call, Answer, Result]


@dataclass(frozen=True)
class ServedModel:
    """Whom an exchange asks: the server's address, for messages, and the model."""

    server: str
    model: Model


def verify(served: ServedModel, original: PreparedPicture, photo: PreparedPicture) -> Exchange[Verdict]:
    """The verdict on a pair; no call at all where the photo is a copy of the original."""
    reason = copy_reason(original, photo)
    if reason is not None:
        return _identical(served, original.sha256, photo.sha256, reason)
    inputs = {"original_bytes": [original.image_bytes], "photo_bytes": [photo.image_bytes]}
    answer = yield from _predict(served, "verify", inputs)
    if not _row(served, answer, "decoded"):
        encoded = yield from _predict(served, "encode", {"image_bytes": [original.image_bytes, photo.image_bytes]})
        decoded = encoded.outputs["decoded"]
        role = "original" if len(decoded) == 2 and decoded[1] and not decoded[0] else "photo"
        raise InvalidImage("the model can't decode it", role)
    return _verdict(served, answer, original.sha256, photo.sha256)


def encode(served: ServedModel, picture: PreparedPicture) -> Exchange[Embedding]:
    """The embedding of one picture."""
    answer = yield from _predict(served, "encode", {"image_bytes": [picture.image_bytes]})
    if not _row(served, answer, "decoded"):
        raise InvalidImage("the model can't decode it")
    vector = answer.outputs["embedding"][0]
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise _invalid_output(served, "embedding")
    vector = np.array(vector, np.float32)
    vector.flags.writeable = False
    model_id = _model_id(served, answer)
    return Embedding(vector, model_id, picture.sha256, picture.width, picture.height, picture.thumbnail)


def compare(served: ServedModel, embedding: Embedding, photo: PreparedPicture) -> Exchange[Verdict]:
    """The verdict on an original encoded before; raises StaleEmbedding where another model serves now."""
    reason = copy_reason(embedding, photo)
    if reason is not None:
        return _identical(served, embedding.sha256 or "", photo.sha256, reason)
    vector = np.asarray(embedding.vector, np.float32).reshape(1, -1)
    inputs = {"embedding": vector, "photo_bytes": [photo.image_bytes]}
    answer = yield from _predict(served, "compare", inputs, embedding)
    model_id = _model_id(served, answer)
    if model_id != embedding.model_id:
        raise StaleEmbedding(f"the embedding is of model {embedding.model_id}, but {model_id} serves: encode it again")
    if not _row(served, answer, "decoded"):
        raise InvalidImage("the model can't decode it", "photo")
    return _verdict(served, answer, embedding.sha256 or "", photo.sha256)


def model_id(served: ServedModel) -> Exchange[str]:
    """The model_id of the model that serves. Only its answers carry that, so a blank picture is encoded."""
    answer = yield from _predict(served, "encode", {"image_bytes": [_blank_png()]})
    return _model_id(served, answer)


def status(served: ServedModel) -> Exchange[ServerStatus]:
    """What the server has of the model; raises ModelNotFound where it has nothing of that name."""
    try:
        answer = yield AskStatus(served.model)
    except CallFailed as failure:
        if failure.code == "NOT_FOUND":
            raise ModelNotFound(f"{served.server} has no model {served.model.name}") from failure
        raise _public_error(served, failure) from failure
    assert isinstance(answer, ReportedStatus)
    version, missing = None, ()
    try:
        described = yield Describe(served.model)
    except CallFailed as failure:
        if not _names_no_version(failure):
            raise _public_error(served, failure) from failure
    else:
        assert isinstance(described, Described)
        version, missing = described.version, missing_parts(described.signatures)
    return ServerStatus(served.server, served.model.name, served.model.label, version, answer.versions, missing)


def _blank_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (MIN_SIDE, MIN_SIDE), "white").save(buffer, "PNG")
    return buffer.getvalue()


def _predict(
    served: ServedModel,
    signature: str,
    inputs: Mapping[str, list[bytes] | np.ndarray],
    embedding: Embedding | None = None,
) -> Exchange[Predicted]:
    """The answer to one call of a signature; raises a PhotoproofError where there is none."""
    try:
        answer = yield Predict(served.model, signature, inputs)
    except CallFailed as failure:
        error = yield from _explain_failure(served, signature, failure, embedding)
        raise error from failure
    assert isinstance(answer, Predicted)
    rows = len(next(iter(inputs.values())))
    wanted = tuple(SIGNATURES[signature].outputs)
    if any(name not in answer.outputs or answer.outputs[name].shape[:1] != (rows,) for name in wanted):
        failure = CallFailed("DATA_LOSS", _describe_lack(answer, wanted))
        raise (yield from _explain_failure(served, signature, failure, embedding))
    return answer


def _describe_lack(answer: Predicted, wanted: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in answer.outputs]
    return f"its answer has no {', '.join(missing)}" if missing else "its answer has another number of rows"


def _explain_failure(
    served: ServedModel, signature: str, failure: CallFailed, embedding: Embedding | None
) -> Exchange[PhotoproofError]:
    """The public error for a failed call, after asking the server what it has where that tells more."""
    if _names_no_version(failure):
        return (yield from _not_found(served))
    if failure.code not in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "DATA_LOSS", "UNKNOWN", "INTERNAL"):
        return _public_error(served, failure)
    try:
        described = yield Describe(served.model)
    except CallFailed:
        return _public_error(served, failure)
    assert isinstance(described, Described)
    missing = missing_parts(described.signatures, (signature,))
    if missing:
        return UnfitModel(str(served.model), missing)
    if embedding is not None:
        shape = described.signatures["compare"].inputs["embedding"].shape
        if shape and shape[1] not in (None, embedding.vector.size):
            return StaleEmbedding(
                f"the embedding has {embedding.vector.size} numbers, but {served.model} has {shape[1]}: encode it again"
            )
    return _public_error(served, failure)


def _names_no_version(failure: CallFailed) -> bool:
    """Whether the server knows no such model, version or label: its message says so, with more than one code."""
    signs = ("Servable not found", "version label", "Could not find any versions")
    return any(sign in failure.message for sign in signs)


def _not_found(served: ServedModel) -> Exchange[ModelNotFound]:
    try:
        answer = yield AskStatus(served.model)
    except CallFailed:
        return ModelNotFound(f"{served.server} has no model {served.model.name}")
    assert isinstance(answer, ReportedStatus)
    available = [str(version.version) for version in answer.versions if version.state == "AVAILABLE"]
    rest = f"available versions: {', '.join(available)}" if available else "no version of it is available"
    return ModelNotFound(f"{served.server} has no {served.model} ({rest})")


def _public_error(served: ServedModel, failure: CallFailed) -> PhotoproofError:
    message = " ".join(failure.message.split())[:500]
    if failure.code == "UNAVAILABLE":
        return ServerUnavailable(f"{served.server} can't be reached: {message}")
    if failure.code == "RESOURCE_EXHAUSTED":
        return ServerUnavailable(f"{served.server} is too busy: {message}")
    if failure.code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{served.server} did not answer in time")
    if failure.code == "DATA_LOSS":
        return ServerError(f"{served.server}: {message}")
    return ServerError(f"{served.server} refused the call ({failure.code}): {message}")


def _verdict(served: ServedModel, answer: Predicted, original_sha256: str, photo_sha256: str) -> Verdict:
    numbers = {
        name: _number(served, answer, name)
        for name in ("similarity", "distance", "probability", "accept_at", "reject_at")
    }
    outcome, reason = decide(numbers["probability"], numbers["accept_at"], numbers["reject_at"])
    return Verdict(
        outcome=outcome,
        **numbers,
        model_name=served.model.name,
        model_version=answer.version if answer.version is not None else served.model.version,
        model_id=_model_id(served, answer),
        original_sha256=original_sha256,
        photo_sha256=photo_sha256,
        reason=reason,
    )


def _identical(served: ServedModel, original_sha256: str, photo_sha256: str, reason: str) -> Verdict:
    return Verdict(
        outcome="identical",
        similarity=None,
        distance=None,
        probability=None,
        accept_at=None,
        reject_at=None,
        model_name=served.model.name,
        model_version=None,
        model_id=None,
        original_sha256=original_sha256,
        photo_sha256=photo_sha256,
        reason=reason,
    )


def _row(served: ServedModel, answer: Predicted, name: str) -> object:
    """The first row of an output that has one value a row."""
    values = answer.outputs[name]
    if values.ndim != 1:
        raise _invalid_output(served, name)
    return values[0]


def _number(served: ServedModel, answer: Predicted, name: str) -> float:
    value = _row(served, answer, name)
    if not isinstance(value, np.floating) or not np.isfinite(value):
        raise _invalid_output(served, name)
    # The shortest decimal of a float32, which is what REST shows: both protocols give equal numbers.
    return float(str(np.float32(value)))


def _model_id(served: ServedModel, answer: Predicted) -> str:
    value = _row(served, answer, "model_id")
    if not isinstance(value, bytes):
        raise _invalid_output(served, "model_id")
    return value.decode("utf-8", "replace")


def _invalid_output(served: ServedModel, output: str) -> ServerError:
    return ServerError(f"{served.server} answered with an output {output} that is not a Photoproof model's")
