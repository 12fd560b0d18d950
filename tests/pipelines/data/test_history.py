import datetime
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photoproof.command_line.cli import run
from pipelines.data import difference, history, versioning
from pipelines.workspace.places import Workspace
from training.dataset.manifest import SCHEMA, read_manifest, write_manifest
from training.stage.errors import BadInput


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


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, *words], cwd=root, check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, workspace_maker: Callable[..., Workspace]) -> Workspace:
    """Two committed versions."""
    workspace = workspace_maker(tmp_path_factory.mktemp("two") / "workspace")
    write_data(workspace, {"a": "1", "b": "2"}, {"a1": ("a", "x"), "b1": ("b", "y")})
    history.commit(workspace, versioning.add_data(workspace))
    write_data(workspace, {"a": "1", "c": "3"}, {"a1": ("a", "x"), "a2": ("a", "z"), "b1": ("c", "y")})
    history.commit(workspace, versioning.add_data(workspace))
    return workspace


@pytest.fixture
def two(made: Workspace, tmp_path: Path) -> Workspace:
    """A copy of them, to change, with a store of its own."""
    shutil.copytree(made.root, tmp_path / "workspace", symlinks=True)
    (tmp_path / "workspace/.dvc/config.local").unlink()
    return Workspace(tmp_path / "workspace")


def test_a_version_is_committed_with_what_it_changed_and_a_tag(made: Workspace) -> None:
    newest, oldest = history.log(made)
    assert newest.message.endswith("+1 product, −1 product, +1 photo, 1 relabelled (2 products, 3 photos)")
    assert oldest.message.endswith("+2 products, +2 photos (2 products, 2 photos)")
    assert newest.files == 6
    assert history.find(made, f"data-{oldest.md5[:12]}") == oldest
    assert abs(newest.at - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5)


def test_versions_are_found_by_md5_and_by_revision(made: Workspace) -> None:
    newest, oldest = history.log(made)
    assert history.find(made, oldest.md5[:6]) == oldest
    assert history.find(made, "HEAD") == newest
    assert history.find(made, "HEAD~1") == oldest
    with pytest.raises(BadInput, match="photoproof data log"):
        history.find(made, "nothing")


def test_a_version_of_another_branch_is_found_by_its_tag_and_by_revision(two: Workspace) -> None:
    newest, oldest = history.log(two)
    git(two.root, "branch", "theirs")
    git(two.root, "checkout", "--quiet", "-B", "main", "HEAD~1")
    assert history.log(two) == [oldest]
    assert history.find(two, "theirs") == newest
    assert history.find(two, f"data-{newest.md5[:12]}") == newest
    git(two.root, "rm", "--quiet", "--cached", "data.dvc")
    git(two.root, "commit", "--quiet", "-m", "No data")
    with pytest.raises(BadInput, match="no data version HEAD"):
        history.find(two, "HEAD")


def test_a_history_of_many_versions_is_read_by_a_few_processes(
    two: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        text = f"outs:\n- md5: {number:032x}.dir\n  size: {number}\n  nfiles: 1\n  hash: md5\n  path: data\n"
        (two.root / "data.dvc").write_text(text)
        git(two.root, "commit", "--quiet", "-m", f"Version {number}", "data.dvc")
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    versions = history.log(two)
    assert [version.bytes for version in versions[:40]] == list(range(40))[::-1]
    assert history.find(two, f"{7:032x}") == versions[32]
    assert history.find(two, "HEAD~3") == versions[3]
    started = [line for line in trace.read_text().splitlines() if "trace: built-in: git" in line]
    assert len(started) < 12


def test_the_difference_says_what_came_went_and_was_relabelled(made: Workspace) -> None:
    newest, oldest = history.log(made)
    found = difference.find_difference(history.read_pictures(made, oldest), history.read_pictures(made, newest))
    assert (found.new_products, found.lost_products) == (("c",), ("b",))
    assert (found.new_photos, found.lost_photos) == (("a2",), ())
    assert found.relabelled == ("b1",)


def test_the_command_says_it_in_a_line_then_picture_by_picture(
    made: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(made.root))
    assert run(["data", "diff", "HEAD~1"]) == 0
    line, *pictures = capsys.readouterr().out.splitlines()
    assert line == "+1 product, −1 product, +1 photo, 1 relabelled (2 products, 3 photos)"
    assert pictures == ["+ product c", "- product b", "+ photo a2", "= relabelled b1"]
    assert run(["data", "diff", "HEAD~1", "HEAD~1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["new_photos"], told["products"], told["photos"]) == ([], 2, 2)


def test_a_version_comes_back_and_the_next_commit_is_of_it(two: Workspace) -> None:
    _, oldest = history.log(two)
    history.checkout(two, oldest)
    assert set(read_manifest(two.data / "manifest.parquet").picture_id) == {"a", "b", "a1", "b1"}
    assert (two.data / "originals/b-2.jpg").is_file()
    assert not (two.data / "originals/c-3.jpg").exists()
    version = versioning.read_version(two)
    assert version is not None
    assert version.md5 == oldest.md5


def test_a_checkout_that_would_lose_a_file_says_so_and_leaves_data_dvc(two: Workspace) -> None:
    newest, oldest = history.log(two)
    (two.data / "originals/b-4.jpg").write_text("written before `dvc add` was killed")
    with pytest.raises(versioning.VersioningFailed, match=r"Can't remove the following unsaved files .*/b-4\.jpg$"):
        history.checkout(two, oldest)
    there = versioning.read_version(two)
    assert there is not None
    assert there.md5 == newest.md5
    assert (two.data / "originals/b-4.jpg").is_file()


def test_a_remote_that_can_not_be_read_is_named_and_not_called_empty(two: Workspace) -> None:
    newest = history.log(two)[0]
    (two.root / "a-file").write_text("")
    config = f"['remote \"store\"']\n    url = {two.root}/a-file/store\n"
    (two.root / ".dvc/config.local").write_text(config)
    shutil.rmtree(two.root / ".dvc/cache")
    with pytest.raises(versioning.VersioningFailed, match=r"can't be read: the DVC remote store .*a-file"):
        history.read_pictures(two, newest)
    shutil.rmtree(two.data)
    with pytest.raises(versioning.VersioningFailed, match=r"can't be brought to data.dvc .*a-file"):
        versioning.pull_data(two)


def test_a_pushed_version_is_read_on_another_machine(two: Workspace, tmp_path: Path) -> None:
    versioning.push_data(two)
    _, oldest = history.log(two)
    for file in (two.root / ".dvc/cache").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(BadInput, match=oldest.md5[:12]):
        history.read_pictures(two, oldest)
    assert len(list(history.read_pictures(two, history.log(two)[0]))) == 5


Pictures = dict[tuple[str, str], tuple[str, str]]
"""(role, id) -> (product, sha256)."""
roles = st.sampled_from(["original", "photo"])
ids = st.text("abé\U0001f600", min_size=1, max_size=2)
pictures = st.dictionaries(st.tuples(roles, ids), st.tuples(st.sampled_from("pq"), st.sampled_from("xy")))


def rows(pictures: Pictures) -> list[difference.PictureRow]:
    return [(*key, *value) for key, value in sorted(pictures.items())]


@given(pictures, pictures)
def test_the_difference_is_that_of_the_sets(one: Pictures, two: Pictures) -> None:
    found = difference.find_difference(rows(one), rows(two))
    new, lost, both = two.keys() - one.keys(), one.keys() - two.keys(), one.keys() & two.keys()
    assert {("original", of) for of in found.new_products} | {("photo", of) for of in found.new_photos} == new
    assert {("original", of) for of in found.lost_products} | {("photo", of) for of in found.lost_photos} == lost
    assert set(found.changed) == {" ".join(key) for key in both if one[key][1] != two[key][1]}
    assert set(found.relabelled) == {
        of for role, of in both if role == "photo" and one[role, of][0] != two[role, of][0]
    }
    assert (found.products, found.photos) == tuple(sum(role == of for role, _ in two) for of in ("original", "photo"))
    counts = Counter((what, role) for what, role, _ in difference.compare_manifests(rows(one), rows(two)))
    assert difference.summarize(counts) == str(found)


@given(pictures, pictures)
def test_the_difference_back_is_the_difference_turned_round(one: Pictures, two: Pictures) -> None:
    there, back = difference.find_difference(rows(one), rows(two)), difference.find_difference(rows(two), rows(one))
    assert (there.new_photos, there.lost_photos) == (back.lost_photos, back.new_photos)
    assert (there.new_products, there.lost_products) == (back.lost_products, back.new_products)
    assert (there.changed, there.relabelled) == (back.changed, back.relabelled)
    assert there.photos - back.photos == len(there.new_photos) - len(there.lost_photos)


@given(pictures)
def test_nothing_differs_from_itself(one: Pictures) -> None:
    assert str(difference.find_difference(rows(one), rows(one))).startswith("the same pictures")


def test_a_manifest_in_another_order_is_refused_and_not_misread(made: Workspace, tmp_path: Path) -> None:
    manifest = tmp_path / "workspace/data/manifest.parquet"
    shutil.copytree(made.root, tmp_path / "workspace", ignore=shutil.ignore_patterns("cache"))
    table = pq.read_table(manifest)
    pq.write_table(table.take([4, 3, 2, 1, 0]), manifest)
    with pytest.raises(BadInput, match="is not sorted by role and picture_id"):
        history.commit(Workspace(tmp_path / "workspace"), versioning.DataVersion("0" * 32, 6, 0))


def test_a_manifest_that_breaks_off_is_told_and_stops_no_new_version(two: Workspace) -> None:
    newest, oldest = history.log(two)
    cache = two.root / ".dvc/cache/files/md5"
    listed = json.loads((cache / newest.md5[:2] / f"{newest.md5[2:]}.dir").read_text())
    md5 = next(one["md5"] for one in listed if one["relpath"] == "manifest.parquet")
    manifest = cache / md5[:2] / md5[2:]
    whole = manifest.read_bytes()
    manifest.chmod(0o644)
    manifest.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])  # its footer is there
    with pytest.raises(versioning.VersioningFailed, match=r"the manifest .* can't be read to its end"):
        difference.find_difference(history.read_pictures(two, oldest), history.read_pictures(two, newest))
    write_data(two, {"a": "1"}, {"a1": ("a", "x"), "a2": ("a", "z")})
    history.commit(two, versioning.add_data(two))
    assert history.log(two)[0].message.endswith(": what changed is not known (1 product, 2 photos)")
    shutil.rmtree(two.root / ".dvc/cache")
    write_data(two, {"a": "1"}, {"a1": ("a", "x")})
    history.commit(two, versioning.add_data(two))
    assert history.log(two)[0].message.endswith(": what changed is not known (1 product, 1 photo)")
