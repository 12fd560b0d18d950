import numpy as np
import pandas as pd
import pytest

from training.pairs import Pairs, compare
from training.temperature import GRID, USUAL, choose_temperature

PRODUCTS = pd.DataFrame({"product_id": ["a", "b", "c"]})


def scored(scores) -> Pairs:
    scores = np.asarray(scores, float)
    return Pairs(pd.DataFrame({"product_id": ["a"] * len(scores)}), PRODUCTS, scores.astype(np.float32), scores)


@pytest.mark.parametrize("best", GRID)
def test_the_temperature_at_which_most_genuine_photos_pass_is_taken(best):
    def at(temperature):
        return scored([[0.9 if temperature == best else 0.1, 0.5, 0.2], [0.9, 0.5, 0.2]])

    assert choose_temperature(at, false_accept_rate=0.01) == best


def test_where_all_do_as_well_the_usual_one_is_taken():
    assert choose_temperature(lambda temperature: scored([[0.9, 0.5, 0.2]]), 0.01) == USUAL


def test_the_choice_stands_on_known_and_new_products_together():
    generator = np.random.default_rng(0)
    originals = generator.normal(size=(3, 8))
    photos = originals[[0, 1, 2] * 20] + generator.normal(size=(60, 8))
    rows = pd.DataFrame({"product_id": ["a", "b", "c"] * 20, "known": [True, True, False] * 20})
    originals, photos = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (originals, photos))
    seen = []

    def at(temperature):
        seen.append(temperature)
        return compare(rows, PRODUCTS, photos, originals, originals, temperature, 0.95)

    assert choose_temperature(at, 0.1) in GRID
    assert seen == list(GRID)
