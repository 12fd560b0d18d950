import numpy as np
import pandas as pd
import pytest

from training.decision.decision import Decision
from training.decision.log_ratio import LogRatio
from training.evaluation.pairs import Pairs
from training.evaluation.slices import LEAST, cuts, slice_figures

DECISION = Decision(1.0, 0.0, LogRatio(0.05, 0.95), 0.5, 0.9, 0.1, 0.01, 0.01, None)


def some_pairs(tea: int = 30, soap: int = LEAST - 1, seed: int = 0) -> Pairs:
    """Photos of two products, one a category, of rising light; tea is told from soap, soap is not."""
    count = tea + soap
    photos = pd.DataFrame(
        {
            "product_id": ["tea"] * tea + ["soap"] * soap,
            "category": ["Drinks"] * tea + ["Care"] * soap,
            "known": True,
            "width": 300,
            "height": np.where(np.arange(count) % 2, 200, 2000),
            "light_mean": np.linspace(0.2, 0.8, count),
        }
    )
    originals = pd.DataFrame(
        {"product_id": ["soap", "tea"], "category": ["Care", "Drinks"], "width": [1024, 255], "height": [1500, 900]}
    )
    scores = np.tile([-9.0, 9.0], (count, 1))
    return Pairs(photos, originals, scores.astype(np.float32), scores)


def test_a_slice_has_its_photos_and_the_figures_that_they_have():
    drinks = slice_figures(some_pairs(), DECISION)["category"]["Drinks"]["known"]
    assert drinks == {"photos": 30, "products": 1, "auc": 1, "tar_at_far_1pct": 1, "share_decided": 1}


def test_a_small_slice_states_only_how_many_photos_it_has():
    care = slice_figures(some_pairs(), DECISION)["category"]["Care"]
    assert care == {"known": {"photos": LEAST - 1, "products": 1}}


def test_sizes_are_cut_by_the_shorter_side():
    slices = cuts(some_pairs())
    assert {name: int(which.sum()) for name, which in slices["photo size"]} == {
        "under 256 px": 24,
        "256 to 511 px": 25,
    }
    assert {name: int(which.sum()) for name, which in slices["original size"]} == {
        "under 256 px": 30,
        "1,024 px and more": LEAST - 1,
    }


def test_light_is_cut_into_thirds_that_hold_every_photo_once():
    thirds = [which for _, which in cuts(some_pairs(20, 40))["light"]]
    assert [int(which.sum()) for which in thirds] == [20, 20, 20]
    assert (np.sum(thirds, axis=0) == 1).all()


def test_what_was_not_measured_is_not_cut():
    pairs = some_pairs()
    bare = Pairs(
        pairs.photos.filter(["product_id", "category", "known"]), pairs.originals, pairs.similarity, pairs.log_ratio
    )
    assert set(cuts(bare)) == {"category", "original size"}


@pytest.mark.parametrize("column", ["category"])
def test_photos_without_a_category_are_in_no_slice(column):
    pairs = some_pairs()
    pairs.photos[column] = ""
    assert column not in cuts(pairs)
