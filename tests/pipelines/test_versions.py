import subprocess
import sys

import pytest

from pipelines import versions
from pipelines.workspace import Workspace
from training.errors import BadInput


@pytest.fixture
def pictures(workspace: Workspace) -> Workspace:
    (workspace.data / "photos").mkdir(parents=True)
    (workspace.data / "photos" / "one.jpg").write_bytes(b"one")
    return workspace


def git(workspace: Workspace, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=workspace.root, capture_output=True, text=True, check=True).stdout


def test_the_same_pictures_are_the_same_version(pictures: Workspace) -> None:
    first = versions.add_data(pictures)
    (pictures.data / "photos" / "one.jpg").unlink()
    (pictures.data / "photos" / "one.jpg").write_bytes(b"one")
    assert versions.add_data(pictures) == first == versions.read_version(pictures)


def test_only_what_differs_is_committed_and_nothing_else(pictures: Workspace) -> None:
    versions.add_data(pictures)
    (pictures.root / "params.yaml").write_text("# turned\n")
    assert versions.commit(pictures, ["data.dvc"], "Data")
    assert versions.commit(pictures, ["data.dvc"], "Data") is None
    assert git(pictures, "show", "--name-only", "--format=%s").split() == ["Data", "data.dvc"]
    assert git(pictures, "status", "--porcelain").split() == ["M", "params.yaml"]


def test_a_pushed_version_comes_back_into_an_empty_workspace(pictures: Workspace) -> None:
    versions.add_data(pictures)
    versions.push_data(pictures)
    subprocess.run(["rm", "-rf", pictures.data, pictures.root / ".dvc" / "cache"], check=True)
    versions.pull_data(pictures)
    assert (pictures.data / "photos" / "one.jpg").read_bytes() == b"one"


def test_a_push_goes_to_the_store_and_never_to_the_committed_remote(pictures: Workspace) -> None:
    versions.add_data(pictures)
    subprocess.run([sys.executable, "-m", "dvc", "push", "-q", "data.dvc"], cwd=pictures.root, check=True)
    assert list((pictures.state / "store").rglob("*.dir"))
    assert not (pictures.root / ".dvc" / "sample").exists()


def test_a_version_whose_data_is_nowhere_is_one_clear_line(pictures: Workspace) -> None:
    versions.add_data(pictures)
    subprocess.run(["rm", "-rf", pictures.data, pictures.root / ".dvc" / "cache"], check=True)
    with pytest.raises(BadInput, match=r"neither in DVC's cache nor in the remotes store and sample") as refused:
        versions.pull_data(pictures)
    assert "\n" not in str(refused.value)
