"""What a Photoproof model offers, and what a given one lacks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from photoproof.transport.calls import Signature, Tensor

_ROWS = Tensor("float32", (None,))
_BYTES = Tensor("string", (None,))
_EMBEDDINGS = Tensor("float32", (None, None))
_SCORES = {
    **dict.fromkeys(("similarity", "distance", "probability", "accept_at", "reject_at"), _ROWS),
    "model_id": _BYTES,
}
_DECODED = {"decoded": Tensor("bool", (None,))}

SIGNATURES: Mapping[str, Signature] = {
    "verify": Signature({"original_bytes": _BYTES, "photo_bytes": _BYTES}, {**_SCORES, **_DECODED}),
    "encode": Signature({"image_bytes": _BYTES}, {"embedding": _EMBEDDINGS, "model_id": _BYTES, **_DECODED}),
    "compare": Signature({"embedding": _EMBEDDINGS, "photo_bytes": _BYTES}, {**_SCORES, **_DECODED}),
    "score": Signature({"original_embedding": _EMBEDDINGS, "photo_embedding": _EMBEDDINGS}, _SCORES),
}


def missing(offered: Mapping[str, Signature], wanted: Iterable[str] = SIGNATURES) -> tuple[str, ...]:
    """What the offered signatures lack of the wanted ones, each as words such as "verify has no output decoded"."""
    lacks: list[str] = []
    for name in wanted:
        if name not in offered:
            lacks.append(f"it has no signature {name}")
            continue
        for kind, want, have in (
            ("input", SIGNATURES[name].inputs, offered[name].inputs),
            ("output", SIGNATURES[name].outputs, offered[name].outputs),
        ):
            lacks.extend(_lacks(name, kind, want, have))
            if kind == "input":
                lacks.extend(f"{name} asks for an input {extra} too" for extra in have if extra not in want)
    return tuple(lacks)


def _lacks(name: str, kind: str, want: Mapping[str, Tensor], have: Mapping[str, Tensor]) -> Iterable[str]:
    for key, tensor in want.items():
        if key not in have:
            yield f"{name} has no {kind} {key}"
        elif have[key].dtype != tensor.dtype:
            yield f"{name}'s {kind} {key} is {have[key].dtype}, not {tensor.dtype}"
        elif not _may_have_shape(have[key], tensor):
            yield f"{name}'s {kind} {key} has the shape {have[key].shape}, not {tensor.shape}"


def _may_have_shape(have: Tensor, want: Tensor) -> bool:
    if have.shape is None or want.shape is None:
        return True
    return len(have.shape) == len(want.shape)
