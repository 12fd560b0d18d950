import dataclasses

import pytest

from photoproof.signatures import SIGNATURES, missing
from photoproof.transport.calls import Signature, Tensor

INPUTS, OUTPUTS = dict(SIGNATURES["verify"].inputs), dict(SIGNATURES["verify"].outputs)


def test_a_model_with_all_signatures_lacks_nothing():
    assert missing(SIGNATURES) == ()


def test_a_fixed_embedding_size_and_more_outputs_are_no_lack():
    encode = SIGNATURES["encode"]
    outputs = {**encode.outputs, "embedding": Tensor("float32", (None, 64)), "more": Tensor("int64", None)}
    assert missing({**SIGNATURES, "encode": dataclasses.replace(encode, outputs=outputs)}) == ()


@pytest.mark.parametrize(
    ("verify", "lack"),
    [
        (None, "it has no signature verify"),
        (Signature({}, OUTPUTS), "verify has no input original_bytes"),
        (Signature(INPUTS, {}), "verify has no output decoded"),
        (
            Signature(INPUTS, OUTPUTS | {"decoded": Tensor("int64", None)}),
            "verify's output decoded is int64, not bool",
        ),
        (
            Signature(INPUTS, OUTPUTS | {"decoded": Tensor("bool", ())}),
            "verify's output decoded has the shape (), not (None,)",
        ),
        (
            Signature(INPUTS | {"size": Tensor("int32", ())}, OUTPUTS),
            "verify asks for an input size too",
        ),
    ],
)
def test_what_a_model_lacks_is_named(verify, lack):
    offered = {name: signature for name, signature in {**SIGNATURES, "verify": verify}.items() if signature}
    assert lack in missing(offered)
