from hypothesis import given
from hypothesis import strategies as st

from photoproof.verdict import decide

SHARES = st.floats(0, 1, width=32)


@given(probability=SHARES, threshold=SHARES, other=SHARES)
def test_the_outcome_follows_from_where_the_probability_stands(probability, threshold, other):
    reject_at, accept_at = sorted((threshold, other))
    outcome, _ = decide(probability, accept_at, reject_at)
    assert (outcome == "match") == (probability >= accept_at)
    assert (outcome == "mismatch") == (probability < reject_at)
    assert outcome in ("match", "mismatch", "review")


def test_a_probability_at_a_threshold_passes_it():
    assert decide(0.9, 0.9, 0.5)[0] == "match"
    assert decide(0.5, 0.9, 0.5)[0] == "review"


def test_the_reason_tells_close_numbers_apart():
    assert decide(0.99999, 0.99998, 0.5) == ("match", "probability 0.99999 is at or above 0.99998")
    assert decide(0.25, 0.9, 0.5)[1] == "probability 0.250 is below 0.500"
