"""The rules by which a version may challenge the champion, as pure functions of what was measured."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.candidate.comparison import compare_evidence, measure_error_rates
from pipelines.candidate.decision import REFUSED, CandidateDecision, at_most
from pipelines.candidate.report import decision_as_markdown
from pipelines.candidate.rules import check_comparison, check_floors
from pipelines.registry.evidence import Evidence, common_pairs
from pipelines.registry.versions import ModelVersion
from pipelines.workspace.params import Candidate

GOOD = {"known.auc": "0.97", "known.eer": "0.05", "known.share_decided": "0.6", "new.auc": "0.8"}
LIMITS = Candidate(bootstrap=300, min_photos=10, min_category_photos=10)
PRODUCTS, PHOTOS = 12, 6


def evidence(decided: float = 0.8, seed: int = 1, **changes) -> Evidence:
    """Every product's photos against every product; `decided` of the genuine pairs are accepted, no impostor is."""
    rows = [
        {
            "photo_id": f"p{product}-{photo}",
            "claimed_product_id": f"p{claimed}",
            "product_id": f"p{product}",
            "category": "even" if product % 2 == 0 else "odd",
            "known": product > 2,
            "genuine": claimed == product,
            "probability": 0.1,
            "photo_sha256": f"photo {product}-{photo}",
            "original_sha256": f"original {claimed}",
        }
        for product in range(PRODUCTS)
        for photo in range(PHOTOS)
        for claimed in range(PRODUCTS)
    ]
    pairs = pd.DataFrame(rows)
    sure = np.random.default_rng(seed).random(len(pairs)) < decided
    pairs.loc[pairs.genuine, "probability"] = np.where(sure[pairs.genuine], 0.99, 0.7)
    return dataclasses.replace(Evidence(pairs, frozenset(), 0.9, 0.5, 0.01, 0.01, 0.95), **changes)


def find_broken_rules(
    model: Evidence, champion: Evidence, newer: bool = True, limits: Candidate = LIMITS
) -> tuple[list[str], bool]:
    """The rules that are broken, and whether the model is better."""
    rules, better = check_comparison(
        compare_evidence(model, champion, limits), measure_error_rates(model, limits), limits, newer
    )
    return [str(rule) for rule in rules if not rule.passed], better


def broken(tags, **limits) -> list[str]:
    return [rule.name for rule in check_floors(tags, Candidate(**limits))[0] if not rule.passed]


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


def test_a_catalogue_without_new_products_is_decided_by_the_known_ones():
    rules, notes = check_floors({key: value for key, value in GOOD.items() if key != "new.auc"}, Candidate())
    assert all(rule.passed for rule in rules)
    assert notes == ["No new products were measured."]


def test_a_model_that_decides_more_is_better():
    assert find_broken_rules(evidence(0.95), evidence(0.5)) == ([], True)


def test_the_champions_equal_is_as_good():
    assert find_broken_rules(evidence(), evidence()) == ([], False)


def test_a_model_that_is_only_as_good_must_be_newer():
    assert find_broken_rules(evidence(), evidence(), newer=False)[0] == [
        "newer than the champion not measured (an older version must be better)"
    ]


def test_a_better_model_may_be_older():
    assert find_broken_rules(evidence(0.95), evidence(0.5), newer=False) == ([], True)


def test_a_model_that_may_decide_less_than_the_margin_allows_is_refused():
    (line,), better = find_broken_rules(
        evidence(0.7), evidence(0.8), limits=dataclasses.replace(LIMITS, max_category_lost=1.0)
    )
    assert "lower bound of the difference" in line
    assert not better


def test_a_wider_margin_accepts_it():
    wide = dataclasses.replace(LIMITS, max_share_lost=0.5, max_category_lost=0.5)
    assert find_broken_rules(evidence(0.7), evidence(0.8), limits=wide) == ([], False)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0, 0.2), st.integers(1, 99))
def test_the_lower_bound_lies_below_the_difference(decided, more, seed):
    share = compare_evidence(evidence(decided + more, seed), evidence(decided, seed), LIMITS).share_decided
    assert share is not None
    assert share.low <= share.difference + 1e-9


def test_a_photo_that_the_model_trained_on_refuses_it():
    (first, second), _ = find_broken_rules(evidence(trained=frozenset({"photo 3-1"})), evidence())
    assert first == "held-out photos that either trained on (p3-1) 1 (at most 0)"
    assert "neither trained on" in second


def test_a_photo_that_the_champion_trained_on_refuses_the_model_too():
    assert "either trained on" in find_broken_rules(evidence(), evidence(trained=frozenset({"photo 3-1"})))[0][0]


def test_a_product_that_is_new_to_one_of_both_counts_as_trained_on():
    champion = evidence()
    champion.pairs.known = True
    assert compare_evidence(evidence(), champion, LIMITS).trained_on


def test_only_pairs_whose_bytes_both_have_measured_are_compared():
    champion = evidence()
    champion.pairs.loc[champion.pairs.photo_id.str.startswith("p1-"), "photo_sha256"] = "another upload"
    of_model, of_champion = common_pairs(evidence(), champion)
    assert len(of_model.pairs) == len(of_champion.pairs) == (PRODUCTS - 1) * PHOTOS * PRODUCTS


def test_a_photo_whose_original_has_changed_is_left_out():
    champion = evidence()
    champion.pairs.loc[champion.pairs.claimed_product_id == "p5", "original_sha256"] = "another original"
    of_model, _ = common_pairs(evidence(), champion)
    assert not of_model.pairs.product_id.eq("p5").any()


def test_too_few_common_photos_refuse_the_comparison():
    champion = evidence()
    champion = dataclasses.replace(champion, pairs=champion.pairs[champion.pairs.product_id.isin(["p4"])])
    assert "held-out photos that both have measured 6 (at least 10)" in find_broken_rules(evidence(), champion)[0]


def test_no_common_photo_refuses_it_with_its_reason():
    champion = evidence()
    champion.pairs.photo_id += " of another catalogue"
    lines, better = find_broken_rules(evidence(), champion)
    assert lines[0] == "held-out photos that both have measured 0 (at least 10)"
    assert not better


def test_a_category_that_gets_worse_refuses_a_model_that_is_good_on_the_whole():
    model = evidence(0.9)
    model.pairs.loc[model.pairs.genuine & (model.pairs.category == "odd"), "probability"] = 0.7
    model.pairs.loc[model.pairs.genuine & (model.pairs.category == "even"), "probability"] = 0.99
    limits = dataclasses.replace(LIMITS, max_share_lost=1.0)
    (line,), _ = find_broken_rules(model, evidence(0.5), limits=limits)
    assert line.startswith("decided rightly in the worst category against the champion (odd, 36 photos)")


def test_a_small_category_is_not_compared_by_itself():
    limits = dataclasses.replace(LIMITS, min_category_photos=37)
    assert compare_evidence(evidence(), evidence(), limits).categories == ()


def test_false_accepts_beyond_their_interval_refuse_it():
    model = evidence()
    model.pairs.loc[~model.pairs.genuine & (model.pairs.claimed_product_id == "p7"), "probability"] = 0.95
    (line,), _ = find_broken_rules(model, evidence())
    assert line.startswith("false accepts observed 0.083 (at most 0.01 within its interval, which begins at 0.0")


def test_a_few_false_rejects_keep_the_stated_rate_within_their_interval():
    model = evidence()
    first = model.pairs.index[model.pairs.genuine][0]
    model.pairs.loc[first, "probability"] = 0.2
    _, rate = measure_error_rates(model, LIMITS)
    assert rate.observed > rate.stated >= rate.low
    assert find_broken_rules(model, evidence())[0] == []


def test_the_report_shows_each_rule_with_its_number_and_how_all_versions_stand():
    rules, notes = check_floors(GOOD | {"known.eer": "0.3"}, Candidate())
    versions = [ModelVersion(2, {"candidate": "better", "known.share_decided": "0.7"}, ("champion",))]
    text = decision_as_markdown(CandidateDecision(3, "abc", REFUSED, rules, notes), versions)
    assert "version 3: refused" in text
    assert "| EER of known products | 0.300 | at most 0.25 | **no** |" in text
    assert "| AUC of known products | 0.970 | at least 0.85 | yes |" in text
    assert "| 2 | champion | better |  | 0.7 |  |" in text


def test_a_refusal_names_only_the_broken_rules():
    rules, notes = check_floors(GOOD | {"known.eer": "0.3"}, Candidate())
    line = str(CandidateDecision(3, "abc", REFUSED, rules, notes))
    assert line == "version 3 is not good enough: EER of known products 0.300 (at most 0.25)"


@pytest.mark.parametrize(("value", "text"), [(36, "36"), (0.5, "0.500"), (4.8e-7, "4.8e-07"), (0.0, "0")])
def test_a_rules_number_is_written_as_people_read_it(value, text):
    assert at_most("a rule", value, 1).value_text == text
