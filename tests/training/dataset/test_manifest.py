import itertools
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.dataset.draws import hash_to_unit
from training.dataset.manifest import SCHEMA, manifest_writer, read_manifest, write_manifest
from training.dataset.splits import assign_splits, scene_of
from training.stage.errors import BadInput
from training.stage.params import Split


def pictures(products: int, photos: int) -> pd.DataFrame:
    """An original of each product and photos of it, four of each in a scene that two products share."""
    rows = []
    for product in range(products):
        rows.append({"role": "original", "picture_id": f"p{product}", "product_id": f"p{product}", "scene": None})
        for photo in range(photos):
            rows.append(
                {
                    "role": "photo",
                    "picture_id": f"p{product}-{photo}",
                    "product_id": f"p{product}",
                    "scene": f"shelf {product // 2}, visit {photo // 4}",
                }
            )
    return pd.DataFrame(rows)


def test_a_picture_is_in_the_same_split_in_every_data_version() -> None:
    smaller, larger = pictures(30, 40), pictures(60, 80)
    then = assign_splits(smaller, Split()).set_index("picture_id")
    now = assign_splits(larger, Split()).set_index("picture_id").loc[then.index]
    assert (then.split == now.split).all()
    assert (then.known == now.known).all()


def test_the_photos_of_a_scene_stay_together_whatever_they_show() -> None:
    out = assign_splits(pictures(30, 40), Split())
    known = out[out.known & (out.role == "photo")]
    assert (known.groupby("scene").split.nunique() == 1).all()


def test_a_new_product_trains_with_nothing_of_it() -> None:
    out = assign_splits(pictures(60, 40), Split())
    new = out[~out.known]
    assert set(new.split) == {"validation", "test"}
    assert (new.groupby("product_id").split.nunique() == 1).all()
    assert (out[out.known & (out.role == "original")].split == "train").all()


def test_shares_are_about_what_params_say() -> None:
    out = assign_splits(pictures(2000, 1).assign(scene=None), Split(validation=0.15, test=0.2, new_products=0.25))
    products = out[out.role == "original"]
    photos = out[out.known & (out.role == "photo")]
    assert 1 - products.known.mean() == pytest.approx(0.25, abs=0.03)
    assert (photos.split == "test").mean() == pytest.approx(0.2, abs=0.03)
    assert (photos.split == "validation").mean() == pytest.approx(0.15, abs=0.03)


def test_another_salt_is_another_split() -> None:
    one, other = (assign_splits(pictures(60, 40), Split(salt=salt)) for salt in ("one", "other"))
    assert (one.known != other.known).any()


def test_an_empty_split_names_the_salt() -> None:
    with pytest.raises(BadInput, match=r"has no photo of a .* product: choose another split\.salt than 'photoproof'"):
        assign_splits(pictures(2, 4), Split())


def test_no_new_products_are_asked_for_where_their_share_is_zero() -> None:
    assert assign_splits(pictures(10, 80), Split(new_products=0.0)).known.all()


@pytest.mark.parametrize(
    ("photo_id", "scene", "expected"),
    [
        ("IMG_0017", None, "IMG_#2"),
        ("IMG_0017.jpg", None, "IMG_#2"),
        ("IMG_0017", "aisle 3", "aisle 3"),
        ("IMG_0017", "", "IMG_#2"),
        ("kitchen", None, "kitchen"),
        ("a1-b08", None, "a1-b#1"),
    ],
)
def test_a_scene_is_what_is_given_or_a_run_of_numbers(photo_id: str, scene: str | None, expected: str) -> None:
    assert scene_of(photo_id, scene, 8) == expected


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_hash_is_in_the_unit_interval_and_depends_on_where_words_end(words: list[str]) -> None:
    assert 0 <= hash_to_unit(*words) < 1
    assert hash_to_unit(*words) == hash_to_unit(*words)
    assert hash_to_unit("ab", "c") != hash_to_unit("a", "bc")


def rows() -> list[dict]:
    empty = dict.fromkeys(SCHEMA.names)
    texts = {"product_id": "p", "name": "", "category": "", "sha256": "0" * 64}
    return [
        empty | texts | {"role": role, "picture_id": name, "path": f"{name}.jpg"}
        for role, name in (("photo", "b"), ("original", "p"), ("photo", "a"))
    ]


def test_the_same_rows_in_any_order_are_the_same_bytes(tmp_path: Path) -> None:
    for name, given_rows in (("one", rows()), ("other", rows()[::-1])):
        write_manifest(pa.Table.from_pylist(given_rows, SCHEMA), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert list(read_manifest(tmp_path / "one").picture_id) == ["p", "a", "b"]


@given(cuts=st.lists(st.integers(0, 25), max_size=5))
def test_rows_in_any_pieces_are_the_same_bytes(cuts: list[int]) -> None:
    texts = {"product_id": "p", "name": "", "category": "", "sha256": "0" * 64, "path": "", "role": "photo"}
    given_rows = [dict.fromkeys(SCHEMA.names) | texts | {"picture_id": f"{number:02}"} for number in range(25)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.dataset.manifest.ROW_GROUP", 4)
        whole, pieces = Path(folder, "whole"), Path(folder, "pieces")
        write_manifest(pa.Table.from_pylist(given_rows, SCHEMA), whole)
        with manifest_writer(pieces) as write:
            for start, end in itertools.pairwise([0, *sorted(cuts), 25]):
                write(given_rows[start:end])
        assert whole.read_bytes() == pieces.read_bytes()
        assert pq.ParquetFile(whole).num_row_groups == 7


def test_a_manifest_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half-way"), manifest_writer(tmp_path / "manifest.parquet") as write:
        write([])
        raise ValueError("half-way")
    assert not (tmp_path / "manifest.parquet").exists()


def test_a_missing_manifest_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"photoproof ingest.*dvc pull data\.dvc"):
        read_manifest(tmp_path / "manifest.parquet")
