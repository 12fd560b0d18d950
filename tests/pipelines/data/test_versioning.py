import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.data import versioning
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput


@pytest.fixture
def pictures(workspace: Workspace) -> Workspace:
    (workspace.data / "photos").mkdir(parents=True)
    (workspace.data / "photos" / "one.jpg").write_bytes(b"one")
    return workspace


def git(workspace: Workspace, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=workspace.root, capture_output=True, text=True, check=True).stdout


def test_the_same_pictures_are_the_same_version(pictures: Workspace) -> None:
    first = versioning.add_data(pictures)
    (pictures.data / "photos" / "one.jpg").unlink()
    (pictures.data / "photos" / "one.jpg").write_bytes(b"one")
    assert versioning.add_data(pictures) == first == versioning.read_version(pictures)


def test_only_what_differs_is_committed_and_nothing_else(pictures: Workspace) -> None:
    versioning.add_data(pictures)
    (pictures.root / "params.yaml").write_text("# turned\n")
    assert versioning.commit(pictures, ["data.dvc"], "Data")
    assert versioning.commit(pictures, ["data.dvc"], "Data") is None
    assert git(pictures, "show", "--name-only", "--format=%s").split() == ["Data", "data.dvc"]
    assert git(pictures, "status", "--porcelain").split() == ["M", "params.yaml"]


CUT_OFF = """
import os, sys

def watch(event, words, written=[]):
    if event == "os.rename" and os.environ["CUT_OFF_IN"] in str(words[1]):
        written.append(words)
        if len(written) == 6:
            os.killpg(0, 9)

sys.addaudithook(watch)
"""


def cut_off(workspace: Workspace, what: str, folder: Path, tmp_path: Path) -> list[Path]:
    """Run a function of pipelines.data.versioning, killed at the sixth file that it finishes in a folder.

    Returns the five that are whole; of the sixth there is a half.
    """
    (tmp_path / "hook").mkdir(exist_ok=True)
    (tmp_path / "hook" / "sitecustomize.py").write_text(CUT_OFF)
    program = "import sys; from pathlib import Path; from pipelines.data import versioning; "
    program += f"from pipelines.workspace.places import Workspace; versioning.{what}(Workspace(Path(sys.argv[1])))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "hook"), "CUT_OFF_IN": str(folder)}
    command = [sys.executable, "-c", program, str(workspace.root)]
    assert subprocess.run(command, env=environment, start_new_session=True).returncode == -9
    (half,) = folder.rglob("*.tmp")
    os.truncate(half, half.stat().st_size // 2)
    return [path for path in folder.rglob("*") if path.is_file() and path != half]


def test_a_push_and_a_pull_that_were_cut_off_go_on(pictures: Workspace, tmp_path: Path) -> None:
    for number in range(20):
        (pictures.data / "photos" / f"{number}.jpg").write_text(f"picture {number} " * 100)
    versioning.add_data(pictures)
    store = pictures.state / "store"
    sent = {path: path.stat().st_ino for path in cut_off(pictures, "push_data", store, tmp_path)}
    assert len(sent) == 5
    assert not list(store.rglob("*.dir")), "a version appears when all of its pictures are there"
    versioning.push_data(pictures)
    assert {path: path.stat().st_ino for path in sent} == sent, "nothing is sent twice"
    clone = Workspace(tmp_path / "clone")
    shutil.copytree(pictures.root, clone.root, ignore=shutil.ignore_patterns("data", "cache", "tmp", ".photoproof"))
    assert len(cut_off(clone, "pull_data", clone.root / ".dvc" / "cache", tmp_path)) == 5
    versioning.pull_data(clone)
    assert {path.name: path.read_bytes() for path in clone.data.glob("*/*")} == {
        path.name: path.read_bytes() for path in pictures.data.glob("*/*")
    }
    damaged = next(path for path in sent if path.suffix != ".dir")
    damaged.chmod(0o644)
    os.truncate(damaged, 9)
    shutil.rmtree(clone.data)
    shutil.rmtree(clone.root / ".dvc" / "cache")
    with pytest.raises(BadInput, match="neither in DVC's cache nor in the remotes"):
        versioning.pull_data(clone)


def test_a_push_goes_to_the_store_and_never_to_the_committed_remote(pictures: Workspace) -> None:
    versioning.add_data(pictures)
    subprocess.run([sys.executable, "-m", "dvc", "push", "-q", "data.dvc"], cwd=pictures.root, check=True)
    assert list((pictures.state / "store").rglob("*.dir"))
    assert not (pictures.root / ".dvc" / "sample").exists()


def test_a_version_whose_data_is_nowhere_is_one_clear_line(pictures: Workspace) -> None:
    versioning.add_data(pictures)
    subprocess.run(["rm", "-rf", pictures.data, pictures.root / ".dvc" / "cache"], check=True)
    with pytest.raises(BadInput, match=r"neither in DVC's cache nor in the remotes store and sample") as refused:
        versioning.pull_data(pictures)
    assert "\n" not in str(refused.value)
