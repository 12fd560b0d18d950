from pathlib import Path

import pytest

from training.stage.files import replacing, write_whole, writing_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with writing_whole(path, durable=True) as part:
        part.write_bytes(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_after_an_error_the_old_file_is_there_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_whole(path, "old")
    with pytest.raises(RuntimeError), writing_whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_after_an_error_the_old_folder_is_there_and_no_part(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with replacing(folder) as part:
        (part / "old").touch()
    with pytest.raises(RuntimeError), replacing(folder) as part:
        (part / "half").touch()
        raise RuntimeError
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["folder", "folder/old"]
