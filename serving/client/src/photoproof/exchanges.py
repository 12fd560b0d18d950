"""What each of the client's questions asks of the server, in order, and what it makes of the answers.

A flow is a generator: it yields calls, is sent their answers (or has `Refused` thrown into it) and returns the result.
So the same steps serve `Verifier` and `AsyncVerifier`, gRPC and REST.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

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
from photoproof.pictures.prepare import PreparedPicture
from photoproof.signatures import SIGNATURES, missing
from photoproof.transport.calls import (
    Answer,
    AskStatus,
    Call,
    Describe,
    Described,
    Model,
    Predict,
    Predicted,
    Refused,
    Stated,
)
from photoproof.verdict import Embedding, ServerStatus, Verdict, decide

Result = TypeVar("Result")
Flow = Generator[Call, Answer, Result]


@dataclass(frozen=True)
class Asked:
    """Whom a flow asks: the server's address, for messages, and the model."""

    server: str
    model: Model


def verify(asked: Asked, original: PreparedPicture, photo: PreparedPicture) -> Flow[Verdict]:
    """The verdict on a pair; no call at all where the photo is a copy of the original."""
    copied = copy_reason(original, photo)
    if copied is not None:
        return _identical(asked, original.sha256, photo.sha256, copied)
    inputs = {"original_bytes": [original.image_bytes], "photo_bytes": [photo.image_bytes]}
    answer = yield from _predict(asked, "verify", inputs)
    if not _row(asked, answer, "decoded"):
        encoded = yield from _predict(asked, "encode", {"image_bytes": [original.image_bytes, photo.image_bytes]})
        decoded = encoded.outputs["decoded"]
        which = "original" if len(decoded) == 2 and decoded[1] and not decoded[0] else "photo"
        raise InvalidImage("the model can't decode it", which)
    return _verdict(asked, answer, original.sha256, photo.sha256)


def encode(asked: Asked, picture: PreparedPicture) -> Flow[Embedding]:
    """The embedding of one picture."""
    answer = yield from _predict(asked, "encode", {"image_bytes": [picture.image_bytes]})
    if not _row(asked, answer, "decoded"):
        raise InvalidImage("the model can't decode it")
    vector = answer.outputs["embedding"][0]
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise _no_answer(asked, "embedding")
    vector = np.array(vector, np.float32)
    vector.flags.writeable = False
    model_id = _model_id(asked, answer)
    return Embedding(vector, model_id, picture.sha256, picture.width, picture.height, picture.glance)


def compare(asked: Asked, embedding: Embedding, photo: PreparedPicture) -> Flow[Verdict]:
    """The verdict on an original encoded before; raises StaleEmbedding where another model serves now."""
    copied = copy_reason(embedding, photo)
    if copied is not None:
        return _identical(asked, embedding.sha256 or "", photo.sha256, copied)
    vector = np.asarray(embedding.vector, np.float32).reshape(1, -1)
    inputs = {"embedding": vector, "photo_bytes": [photo.image_bytes]}
    answer = yield from _predict(asked, "compare", inputs, embedding)
    model_id = _model_id(asked, answer)
    if model_id != embedding.model_id:
        raise StaleEmbedding(f"the embedding is of model {embedding.model_id}, but {model_id} serves: encode it again")
    if not _row(asked, answer, "decoded"):
        raise InvalidImage("the model can't decode it", "photo")
    return _verdict(asked, answer, embedding.sha256 or "", photo.sha256)


def status(asked: Asked) -> Flow[ServerStatus]:
    """What the server has of the model; raises ModelNotFound where it has nothing of that name."""
    try:
        stated = yield AskStatus(asked.model)
    except Refused as refused:
        if refused.code == "NOT_FOUND":
            raise ModelNotFound(f"{asked.server} has no model {asked.model.name}") from refused
        raise _told(asked, refused) from refused
    assert isinstance(stated, Stated)
    version, lacks = None, ()
    try:
        described = yield Describe(asked.model)
    except Refused as refused:
        if not _names_no_version(refused):
            raise _told(asked, refused) from refused
    else:
        assert isinstance(described, Described)
        version, lacks = described.version, missing(described.signatures)
    return ServerStatus(asked.server, asked.model.name, asked.model.label, version, stated.versions, lacks)


def _predict(
    asked: Asked, signature: str, inputs: Mapping[str, list[bytes] | np.ndarray], embedding: Embedding | None = None
) -> Flow[Predicted]:
    """One call of a signature, or the reason why there is no answer."""
    try:
        answer = yield Predict(asked.model, signature, inputs)
    except Refused as refused:
        reason = yield from _reason(asked, signature, refused, embedding)
        raise reason from refused
    assert isinstance(answer, Predicted)
    rows = len(next(iter(inputs.values())))
    wanted = tuple(SIGNATURES[signature].outputs)
    if any(name not in answer.outputs or answer.outputs[name].shape[:1] != (rows,) for name in wanted):
        reason = yield from _reason(asked, signature, Refused("DATA_LOSS", _lacking(answer, wanted)), embedding)
        raise reason
    return answer


def _lacking(answer: Predicted, wanted: tuple[str, ...]) -> str:
    lost = [name for name in wanted if name not in answer.outputs]
    return f"its answer has no {', '.join(lost)}" if lost else "its answer has another number of rows"


def _reason(asked: Asked, signature: str, refused: Refused, embedding: Embedding | None) -> Flow[PhotoproofError]:
    """The public error for a refused call, having asked the server what it has where that tells more."""
    if _names_no_version(refused):
        return (yield from _not_found(asked))
    if refused.code not in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "DATA_LOSS", "UNKNOWN", "INTERNAL"):
        return _told(asked, refused)
    try:
        described = yield Describe(asked.model)
    except Refused:
        return _told(asked, refused)
    assert isinstance(described, Described)
    lacks = missing(described.signatures, (signature,))
    if lacks:
        return UnfitModel(str(asked.model), lacks)
    if embedding is not None:
        shape = described.signatures["compare"].inputs["embedding"].shape
        if shape and shape[1] not in (None, embedding.vector.size):
            return StaleEmbedding(
                f"the embedding has {embedding.vector.size} numbers, but {asked.model} has {shape[1]}: encode it again"
            )
    return _told(asked, refused)


def _names_no_version(refused: Refused) -> bool:
    """Whether the server knows no such model, version or label: it says so in words, and with more than one code."""
    words = refused.message
    return "Servable not found" in words or "version label" in words or "Could not find any versions" in words


def _not_found(asked: Asked) -> Flow[ModelNotFound]:
    try:
        stated = yield AskStatus(asked.model)
    except Refused:
        return ModelNotFound(f"{asked.server} has no model {asked.model.name}")
    assert isinstance(stated, Stated)
    ready = [str(one.version) for one in stated.versions if one.state == "AVAILABLE"]
    has = f"versions there: {', '.join(ready)}" if ready else "no version of it is available"
    return ModelNotFound(f"{asked.server} has no {asked.model} ({has})")


def _told(asked: Asked, refused: Refused) -> PhotoproofError:
    words = " ".join(refused.message.split())[:500]
    if refused.code == "UNAVAILABLE":
        return ServerUnavailable(f"{asked.server} can't be reached: {words}")
    if refused.code == "RESOURCE_EXHAUSTED":
        return ServerUnavailable(f"{asked.server} is too busy: {words}")
    if refused.code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"{asked.server} gave no answer in time")
    if refused.code == "DATA_LOSS":
        return ServerError(f"{asked.server}: {words}")
    return ServerError(f"{asked.server} refused the call ({refused.code}): {words}")


def _verdict(asked: Asked, answer: Predicted, original_sha256: str, photo_sha256: str) -> Verdict:
    numbers = {
        name: _number(asked, answer, name)
        for name in ("similarity", "distance", "probability", "accept_at", "reject_at")
    }
    outcome, reason = decide(numbers["probability"], numbers["accept_at"], numbers["reject_at"])
    return Verdict(
        outcome=outcome,
        **numbers,
        model_name=asked.model.name,
        model_version=answer.version if answer.version is not None else asked.model.version,
        model_id=_model_id(asked, answer),
        original_sha256=original_sha256,
        photo_sha256=photo_sha256,
        reason=reason,
    )


def _identical(asked: Asked, original_sha256: str, photo_sha256: str, reason: str) -> Verdict:
    return Verdict(
        outcome="identical",
        similarity=None,
        distance=None,
        probability=None,
        accept_at=None,
        reject_at=None,
        model_name=asked.model.name,
        model_version=None,
        model_id=None,
        original_sha256=original_sha256,
        photo_sha256=photo_sha256,
        reason=reason,
    )


def _row(asked: Asked, answer: Predicted, name: str) -> object:
    """The first row of an output that has one value a row."""
    values = answer.outputs[name]
    if values.ndim != 1:
        raise _no_answer(asked, name)
    return values[0]


def _number(asked: Asked, answer: Predicted, name: str) -> float:
    value = _row(asked, answer, name)
    if not isinstance(value, np.floating) or not np.isfinite(value):
        raise _no_answer(asked, name)
    # The shortest decimal of a float32, which is what REST shows: both protocols give equal numbers.
    return float(str(np.float32(value)))


def _model_id(asked: Asked, answer: Predicted) -> str:
    value = _row(asked, answer, "model_id")
    if not isinstance(value, bytes):
        raise _no_answer(asked, "model_id")
    return value.decode("utf-8", "replace")


def _no_answer(asked: Asked, output: str) -> ServerError:
    return ServerError(f"{asked.server} answered with an output {output} that is none of a Photoproof model")
