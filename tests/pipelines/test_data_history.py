import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import data_history, versions
from pipelines.workspace import Workspace
from training.errors import BadInput
from training.manifest import SCHEMA, read_manifest, write_manifest


def write_data(workspace: Workspace, originals: dict[str, str], photos: dict[str, tuple[str, str]]) -> None:
    """data/ with files and a manifest; originals: product -> content, photos: id -> (product, content)."""
    rows = []
    for role, found in (("original", {k: (k, v) for k, v in originals.items()}), ("photo", photos)):
        for picture_id, (product, content) in found.items():
            path = f"{role}s/{picture_id}-{content}.jpg"
            (workspace.data / path).parent.mkdir(parents=True, exist_ok=True)
            (workspace.data / path).write_text(content)
            row = dict.fromkeys(SCHEMA.names) | {"role": role, "picture_id": picture_id, "product_id": product}
            rows.append(row | {"name": "", "category": "", "path": path, "sha256": content})
    kept = {row["path"] for row in rows}
    for file in workspace.data.glob("*s/*.jpg"):
        if str(file.relative_to(workspace.data)) not in kept:
            file.unlink()
    write_manifest(pa.Table.from_pylist(rows, SCHEMA), workspace.data / "manifest.parquet")


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    """Two committed versions."""
    write_data(workspace, {"a": "1", "b": "2"}, {"a1": ("a", "x"), "b1": ("b", "y")})
    data_history.commit(workspace, versions.add_data(workspace))
    write_data(workspace, {"a": "1", "c": "3"}, {"a1": ("a", "x"), "a2": ("a", "z"), "b1": ("c", "y")})
    data_history.commit(workspace, versions.add_data(workspace))
    return workspace


def test_a_version_is_committed_with_what_it_changed_and_a_tag(two: Workspace) -> None:
    newest, oldest = data_history.log(two)
    assert newest.message.endswith("+1 product, −1 product, +1 photo, 1 relabelled (2 products, 3 photos)")
    assert oldest.message.endswith("+2 products, +2 photos (2 products, 2 photos)")
    assert newest.files == 6
    assert data_history.find(two, f"data-{oldest.md5[:12]}") == oldest
    assert abs(newest.at - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5)


def test_versions_are_found_by_md5_and_by_revision(two: Workspace) -> None:
    newest, oldest = data_history.log(two)
    assert data_history.find(two, oldest.md5[:6]) == oldest
    assert data_history.find(two, "HEAD") == newest
    assert data_history.find(two, "HEAD~1") == oldest
    with pytest.raises(BadInput, match="photoproof data log"):
        data_history.find(two, "nothing")


def test_the_difference_says_what_came_went_and_was_relabelled(two: Workspace) -> None:
    newest, oldest = data_history.log(two)
    found = data_history.difference(data_history.pictures(two, oldest), data_history.pictures(two, newest))
    assert (found.new_products, found.lost_products) == (("c",), ("b",))
    assert (found.new_photos, found.lost_photos) == (("a2",), ())
    assert found.relabelled == ("b1",)


def test_a_version_comes_back_and_the_next_commit_is_of_it(two: Workspace) -> None:
    _, oldest = data_history.log(two)
    data_history.checkout(two, oldest)
    assert set(read_manifest(two.data / "manifest.parquet").picture_id) == {"a", "b", "a1", "b1"}
    assert (two.data / "originals/b-2.jpg").is_file()
    assert not (two.data / "originals/c-3.jpg").exists()
    version = versions.read_version(two)
    assert version is not None
    assert version.md5 == oldest.md5


def test_a_pushed_version_is_read_on_another_machine(two: Workspace, tmp_path: Path) -> None:
    versions.push_data(two)
    _, oldest = data_history.log(two)
    for file in (two.root / ".dvc/cache").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(BadInput, match=oldest.md5[:12]):
        data_history.pictures(two, oldest)
    assert len(data_history.pictures(two, data_history.log(two)[0])) == 5


pictures = st.dictionaries(st.text("abc", min_size=1, max_size=2), st.tuples(st.sampled_from("pq"), st.text("xy")))


def frame(photos: dict[str, tuple[str, str]]) -> pd.DataFrame:
    rows = [("photo", picture_id, product, sha) for picture_id, (product, sha) in photos.items()]
    return pd.DataFrame(rows, columns=["role", "picture_id", "product_id", "sha256"])


@given(pictures, pictures)
def test_the_difference_back_is_the_difference_turned_round(one: dict, two: dict) -> None:
    there, back = data_history.difference(frame(one), frame(two)), data_history.difference(frame(two), frame(one))
    assert (there.new_photos, there.lost_photos) == (back.lost_photos, back.new_photos)
    assert (there.changed, there.relabelled) == (back.changed, back.relabelled)
    assert there.photos == len(two)
    assert there.photos - back.photos == len(there.new_photos) - len(there.lost_photos)


@given(pictures)
def test_nothing_differs_from_itself(one: dict) -> None:
    assert str(data_history.difference(frame(one), frame(one))).startswith("the same pictures")
