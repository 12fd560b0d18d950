import dataclasses

import pytest

from photoproof.signatures import SIGNATURES, missing_parts
from photoproof.transport.calls import SignatureSpec, TensorSpec

INPUTS, OUTPUTS = dict(SIGNATURES["verify"].inputs), dict(SIGNATURES["verify"].outputs)


def test_a_model_with_all_signatures_lacks_nothing():
    assert missing_parts(SIGNATURES) == ()


def test_a_fixed_embedding_size_and_more_outputs_are_no_lack():
    encode = SIGNATURES["encode"]
    outputs = {**encode.outputs, "embedding": TensorSpec("float32", (None, 64)), "more": TensorSpec("int64", None)}
    assert missing_parts({**SIGNATURES, "encode": dataclasses.replace(encode, outputs=outputs)}) == ()


@pytest.mark.parametrize(
    ("verify", "lack"),
    [
        (None, "it has no signature verify"),
        (SignatureSpec({}, OUTPUTS), "verify has no input original_bytes"),
        (SignatureSpec(INPUTS, {}), "verify has no output decoded"),
        (
            SignatureSpec(INPUTS, OUTPUTS | {"decoded": TensorSpec("int64", None)}),
            "verify's output decoded is int64, not bool",
        ),
        (
            SignatureSpec(INPUTS, OUTPUTS | {"decoded": TensorSpec("bool", ())}),
            "verify's output decoded has the shape (), not (None,)",
        ),
        (
            SignatureSpec(INPUTS | {"size": TensorSpec("int32", ())}, OUTPUTS),
            "verify asks for an input size too",
        ),
    ],
)
def test_what_a_model_lacks_is_named(verify, lack):
    offered = {name: signature for name, signature in {**SIGNATURES, "verify": verify}.items() if signature}
    assert lack in missing_parts(offered)
