"""Which uploads are one picture."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.auditing.duplicates import alike, find_duplicates


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
                group = [group[b] if one == group[a] else one for one in group]
    wanted = {frozenset(at for at, one in enumerate(group) if one == name) for name in group}
    found = alike(sums, [f"{one:016x}" for one in hashes], distance)
    assert {frozenset(one) for one in found} == {one for one in wanted if len(one) > 1}


def test_photos_without_a_hash_are_alike_by_their_bytes_alone():
    assert alike(["a", "b", "a"], [None, None, None], 4) == [[0, 2]]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_one_photo_for_two_claims_is_found_also_saved_again(claimed, copy_of):
    claimed.add_photo("again", "p7", claimed.photo(3, 0))
    claimed.add_photo("resaved", "p8", copy_of(claimed.photo(4, 0)))
    claimed.audit()
    with claimed.engine.begin() as connection:
        found = {one.photo_ids: one for one in find_duplicates(connection, distance=4)}
    assert found["again", "photo-3-0"].same_bytes and found["again", "photo-3-0"].products == 2
    assert not found["photo-4-0", "resaved"].same_bytes


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_photo_is_alike_by_the_bytes_that_it_has_now(claimed, copy_of):
    claimed.add_photo("resaved", "p8", copy_of(claimed.photo(4, 0)))
    claimed.audit()
    claimed.change_photo("resaved", image_bytes=claimed.photo(7, 7))
    claimed.audit()
    with claimed.engine.begin() as connection:
        assert not any("resaved" in one.photo_ids for one in find_duplicates(connection, distance=4))
