from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from training.decision.log_ratio import Cohort, Judging
from training.evaluation.pairs import Pairs, compare
from training.evaluation.temperature import GRID, USUAL, choose_temperature

JUDGING = Judging(temperature=1.0, own_copy_cosine=0.95)
PRODUCTS = pd.DataFrame({"product_id": ["a", "b", "c"]})


def scored(scores) -> Pairs:
    scores = np.asarray(scores, float)
    return Pairs(pd.DataFrame({"product_id": ["a"] * len(scores)}), PRODUCTS, scores.astype(np.float32), scores)


@pytest.mark.parametrize("best", GRID)
def test_the_temperature_at_which_most_genuine_photos_pass_is_taken(best):
    def by(judging):
        return scored([[0.9 if judging.temperature == best else 0.1, 0.5, 0.2], [0.9, 0.5, 0.2]])

    assert choose_temperature(by, JUDGING, false_accept_rate=0.01) == replace(JUDGING, temperature=best)


def test_where_all_do_as_well_the_usual_one_is_taken():
    assert choose_temperature(lambda judging: scored([[0.9, 0.5, 0.2]]), JUDGING, 0.01).temperature == USUAL


def test_the_choice_stands_on_known_and_new_products_together():
    generator = np.random.default_rng(0)
    originals = generator.normal(size=(3, 8))
    photos = originals[[0, 1, 2] * 20] + generator.normal(size=(60, 8))
    rows = pd.DataFrame({"product_id": ["a", "b", "c"] * 20, "known": [True, True, False] * 20})
    originals, photos = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (originals, photos))
    seen = []

    cohort = Cohort(originals, np.array([True, True, False]), np.array(["a", "b", "c"]))

    def by(judging):
        seen.append(judging.temperature)
        return compare(rows, PRODUCTS, photos, originals, cohort, judging)

    assert choose_temperature(by, JUDGING, 0.1).temperature in GRID
    assert seen == list(GRID)
