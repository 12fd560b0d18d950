"""Which photos give themselves away, compared with every two of them."""

import random

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dataset.splits import SPLITS, splits_of
from training.stage.params import Split
from training.validation.leakage import relate
from training.validation.near_duplicates import hash_values, near_pairs

SPLIT = Split(salt="x", validation=0.3, test=0.3, new_products=0.3, scene_run=1)


def drawn(seed: int, count: int) -> pd.DataFrame:
    """Pictures of five products whose hashes lie around a few, one in eight without any."""
    generator = random.Random(seed)
    centres = [generator.getrandbits(64) for _ in range(3)]
    rows = []
    for number in range(count):
        flipped = generator.choice(centres)
        for bit in generator.sample(range(64), generator.randint(0, 5)):
            flipped ^= 1 << bit
        product = f"p{number % 5}"
        hashed = None if generator.random() < 0.125 else f"{flipped:016x}"
        role, picture_id = ("original", product) if number < 5 else ("photo", f"{product}_{number}")
        rows.append([role, picture_id, product, None, f"bytes {number}", hashed])
    columns = ["role", "picture_id", "product_id", "scene", "sha256", "perceptual_hash"]
    return pd.DataFrame(rows, columns=columns)


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(0, 80))
@settings(max_examples=80, deadline=None)
def test_near_pairs_are_those_that_comparing_every_two_gives(seed: int, distance: int, count: int) -> None:
    values = hash_values(drawn(seed, count).perceptual_hash.dropna())
    wanted = {
        (a, b) for b in range(len(values)) for a in range(b) if int(values[a] ^ values[b]).bit_count() <= distance
    }
    assert set(map(tuple, near_pairs(values, distance).T.tolist())) == wanted


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(5, 60))
@settings(max_examples=60, deadline=None)
def test_what_leaks_is_what_comparing_every_two_gives(seed: int, distance: int, count: int) -> None:
    pictures = splits_of(drawn(seed, count), SPLIT)
    related = relate(pictures, SPLIT, distance)
    rows = related.assign(split=pictures.split).to_dict("records")
    for row in rows:
        if row["role"] == "original":
            assert row["near_original"] is None and row["in_other_split"] is None
            continue
        near = [other for other in rows if other is not row and differing(row, other) <= distance]
        originals = {other["picture_id"] for other in near if other["role"] == "original"}
        later = {
            f"{other['picture_id']} of {other['split']}"
            for other in near
            if other["role"] == "photo" and SPLITS.index(other["split"]) > SPLITS.index(row["split"])
        }
        assert row["near_original"] in (originals or {None})
        assert row["in_other_split"] in (later or {None})


def differing(row: dict, other: dict) -> int:
    """Bits in which two hashes differ; 64 where a hash is missing."""
    hashes = [picture["perceptual_hash"] for picture in (row, other)]
    if not all(isinstance(each, str) for each in hashes):
        return 64
    return (int(hashes[0], 16) ^ int(hashes[1], 16)).bit_count()


def test_of_two_equal_photos_the_one_that_trains_goes_and_the_one_that_is_measured_on_stays() -> None:
    pictures = splits_of(drawn(3, 60), SPLIT)
    train, test = (
        pictures.index[(pictures.role == "photo") & (pictures.split == name)][0] for name in ("train", "test")
    )
    pictures.loc[train, "perceptual_hash"] = pictures.loc[test, "perceptual_hash"] = "0123456789abcdef"
    related = relate(pictures, SPLIT, 0)
    assert related.in_other_split[train] == f"{pictures.picture_id[test]} of test"
    assert related.in_other_split[test] is None
