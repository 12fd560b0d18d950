"""Which uploads are one picture."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.auditing.duplicates import find_duplicates, group_alike


@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(2, 60))
@settings(max_examples=60, deadline=None)
def test_groups_are_those_that_comparing_every_two_gives(seed: int, distance: int, count: int) -> None:
    generator = random.Random(seed)
    hashes: list[int] = [generator.getrandbits(64) for _ in range(3)]
    for _ in range(count):
        flipped = generator.choice(hashes)
        for bit in generator.sample(range(64), generator.randint(0, 7)):
            flipped ^= 1 << bit
        hashes.append(flipped)
    sums = [str(generator.randint(0, 4 * count)) for _ in hashes]
    group = list(range(len(hashes)))
    for a in range(len(hashes)):
        for b in range(a):
            if sums[a] == sums[b] or (hashes[a] ^ hashes[b]).bit_count() <= distance:
                group = [group[b] if name == group[a] else name for name in group]
    wanted = {frozenset(place for place, other in enumerate(group) if other == name) for name in group}
    groups = group_alike(sums, [f"{value:016x}" for value in hashes], distance)
    assert {frozenset(places) for places in groups} == {places for places in wanted if len(places) > 1}


def test_photos_without_a_hash_are_alike_by_their_bytes_alone():
    assert group_alike(["a", "b", "a"], [None, None, None], 4) == [[0, 2]]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_one_photo_for_two_claims_is_found_also_saved_again(claimed, copy_of):
    claimed.add_photo("second upload", "p7", claimed.photo(3, 0))
    claimed.add_photo("resaved", "p8", copy_of(claimed.photo(4, 0)))
    claimed.audit()
    with claimed.engine.begin() as connection:
        groups = {group.photo_ids: group for group in find_duplicates(connection, distance=4)}
    assert groups["photo-3-0", "second upload"].same_bytes and groups["photo-3-0", "second upload"].products == 2
    assert not groups["photo-4-0", "resaved"].same_bytes


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_photo_is_alike_by_the_bytes_that_it_has_now(claimed, copy_of):
    claimed.add_photo("resaved", "p8", copy_of(claimed.photo(4, 0)))
    claimed.audit()
    claimed.change_photo("resaved", image_bytes=claimed.photo(7, 7))
    claimed.audit()
    with claimed.engine.begin() as connection:
        assert not any("resaved" in group.photo_ids for group in find_duplicates(connection, distance=4))
