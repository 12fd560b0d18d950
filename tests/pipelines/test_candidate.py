"""The rules by which a version may challenge the champion, as a pure function."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.candidate import Decision, as_markdown, judge
from training.config import Candidate

GOOD = {
    "known.auc": "0.97",
    "known.eer": "0.05",
    "known.share_decided": "0.6",
    "new.auc": "0.8",
    "data_version": "d1",
}


def broken(tags, champion=None, **limits) -> list[str]:
    return [rule.name for rule in judge(tags, champion, Candidate(**limits))[0] if not rule.passed]


def test_a_good_first_model_breaks_no_rule():
    assert broken(GOOD) == []


def test_each_floor_refuses_what_is_below_it():
    assert broken(GOOD | {"known.auc": "0.84"}) == ["AUC of known products"]
    assert broken(GOOD | {"known.eer": "0.26"}) == ["EER of known products"]
    assert broken(GOOD | {"known.share_decided": "0.04"}) == ["share decided without a person"]
    assert broken(GOOD | {"new.auc": "0.5"}) == ["AUC of new products"]


def test_a_figure_that_was_not_measured_is_refused():
    tags = {key: value for key, value in GOOD.items() if key != "known.auc"}
    assert broken(tags) == ["AUC of known products"]


def test_a_catalogue_without_new_products_is_judged_on_the_known_ones():
    tags = {key: value for key, value in GOOD.items() if key != "new.auc"}
    rules, notes = judge(tags, None, Candidate())
    assert all(rule.passed for rule in rules)
    assert notes == ["No new products were measured."]


def test_a_model_that_decides_less_than_the_champion_is_refused():
    assert broken(GOOD, GOOD | {"known.share_decided": "0.63"}) == ["share decided beside the champion's"]


def test_a_model_within_the_margin_of_the_champion_is_accepted():
    assert broken(GOOD, GOOD | {"known.share_decided": "0.62"}) == []


def test_a_champion_of_another_data_version_is_not_compared():
    rules, notes = judge(GOOD, GOOD | {"known.share_decided": "0.9", "data_version": "d0"}, Candidate())
    assert all(rule.passed for rule in rules)
    assert "another data version" in notes[0]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_a_champion_never_refuses_its_equal_or_better(mine, theirs, margin):
    tags, champion = GOOD | {"known.share_decided": str(mine)}, GOOD | {"known.share_decided": str(theirs)}
    refused = "share decided beside the champion's" in broken(tags, champion, max_share_lost=margin)
    if mine >= theirs:
        assert not refused
    if mine < theirs - margin - 1e-5:
        assert refused


def test_the_report_shows_each_rule_with_its_number():
    rules, notes = judge(GOOD | {"known.eer": "0.3"}, None, Candidate())
    text = as_markdown(Decision(3, "abc", False, rules, notes))
    assert "version 3: refused" in text
    assert "| EER of known products | 0.3000 | at most 0.25 | **no** |" in text
    assert "| AUC of known products | 0.9700 | at least 0.85 | yes |" in text


def test_a_refusal_names_only_the_broken_rules():
    rules, notes = judge(GOOD | {"known.eer": "0.3"}, None, Candidate())
    said = str(Decision(3, "abc", False, rules, notes))
    assert said == "version 3 is not good enough: EER of known products 0.300 (at most 0.25)"
