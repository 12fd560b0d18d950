import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.stage.fingerprints import PACKAGE, code_of, key_of, package_fingerprint


def fingerprint_of(checkout: Path) -> str:
    """What a process that imports the training/ of a checkout says."""
    code = "from training.stage.fingerprints import package_fingerprint; print(package_fingerprint())"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code of training/."""
    shutil.copytree(PACKAGE, tmp_path / "training", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_same_code_elsewhere_has_the_same_fingerprint(checkout: Path) -> None:
    assert fingerprint_of(checkout) == package_fingerprint()


@pytest.mark.parametrize("name", ["train.py", "model/images.py", "stage/params.py", "validation/measure.py"])
def test_a_changed_file_changes_the_fingerprint_in_whichever_folder(checkout: Path, name: str) -> None:
    with (checkout / "training" / name).open("a") as file:
        file.write("# changed\n")
    assert fingerprint_of(checkout) != package_fingerprint()


def test_a_new_file_in_a_folder_of_a_folder_changes_the_fingerprint(checkout: Path) -> None:
    new = checkout / "training" / "model" / "deeper" / "new.py"
    new.parent.mkdir()
    new.touch()
    assert fingerprint_of(checkout) != package_fingerprint()


def test_code_is_each_file_once_in_the_order_of_its_path() -> None:
    paths = [part.partition(b"\0")[0].decode() for part in code_of(["train.py", "model", "model/images.py"])]
    assert paths == sorted(set(paths))
    assert {"train.py", "model/images.py", "model/autoencoder.py"} <= set(paths)
    assert code_of(["model", "train.py"]) == code_of(["train.py", "model"])


def test_code_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.py"):
        code_of(["model", "gone.py"])


def test_a_key_depends_on_every_part_and_on_their_order() -> None:
    keys = [key_of("a", "b"), key_of("b", "a"), key_of("ab"), key_of("a", "b", 1), key_of({"a": 1}), key_of(b"a", "b")]
    assert len(set(keys)) == len(keys)
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
