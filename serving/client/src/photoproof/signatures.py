"""What a Photoproof model offers, and what a given one lacks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from photoproof.transport.calls import SignatureSpec, TensorSpec

_ROWS = TensorSpec("float32", (None,))
_BYTES = TensorSpec("string", (None,))
_EMBEDDINGS = TensorSpec("float32", (None, None))
_SCORES = {
    **dict.fromkeys(("similarity", "distance", "probability", "accept_at", "reject_at"), _ROWS),
    "model_id": _BYTES,
}
_DECODED = {"decoded": TensorSpec("bool", (None,))}

SIGNATURES: Mapping[str, SignatureSpec] = {
    "verify": SignatureSpec({"original_bytes": _BYTES, "photo_bytes": _BYTES}, {**_SCORES, **_DECODED}),
    "encode": SignatureSpec({"image_bytes": _BYTES}, {"embedding": _EMBEDDINGS, "model_id": _BYTES, **_DECODED}),
    "compare": SignatureSpec({"embedding": _EMBEDDINGS, "photo_bytes": _BYTES}, {**_SCORES, **_DECODED}),
    "score": SignatureSpec({"original_embedding": _EMBEDDINGS, "photo_embedding": _EMBEDDINGS}, _SCORES),
}


def missing_parts(offered: Mapping[str, SignatureSpec], wanted: Iterable[str] = SIGNATURES) -> tuple[str, ...]:
    """What the offered signatures lack of the wanted ones, each in words such as "verify has no output decoded"."""
    missing: list[str] = []
    for name in wanted:
        if name not in offered:
            missing.append(f"it has no signature {name}")
            continue
        for kind, wanted_tensors, offered_tensors in (
            ("input", SIGNATURES[name].inputs, offered[name].inputs),
            ("output", SIGNATURES[name].outputs, offered[name].outputs),
        ):
            missing.extend(_missing_tensors(name, kind, wanted_tensors, offered_tensors))
            if kind == "input":
                extra = [key for key in offered_tensors if key not in wanted_tensors]
                missing.extend(f"{name} asks for an input {key} too" for key in extra)
    return tuple(missing)


def _missing_tensors(
    name: str, kind: str, wanted: Mapping[str, TensorSpec], offered: Mapping[str, TensorSpec]
) -> Iterable[str]:
    for key, tensor in wanted.items():
        if key not in offered:
            yield f"{name} has no {kind} {key}"
        elif offered[key].dtype != tensor.dtype:
            yield f"{name}'s {kind} {key} is {offered[key].dtype}, not {tensor.dtype}"
        elif not _may_have_shape(offered[key], tensor):
            yield f"{name}'s {kind} {key} has the shape {offered[key].shape}, not {tensor.shape}"


def _may_have_shape(offered: TensorSpec, wanted: TensorSpec) -> bool:
    if offered.shape is None or wanted.shape is None:
        return True
    return len(offered.shape) == len(wanted.shape)
