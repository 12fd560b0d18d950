import dataclasses
from pathlib import Path

import pytest

from training.stage.errors import BadInput
from training.stage.params import Params, read_params

CHECKOUT = Path(__file__).resolve().parents[3]


def read(tmp_path: Path, text: str) -> Params:
    (tmp_path / "params.yaml").write_text(text)
    return read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", ["params.yaml", "params.default.yaml"])
def test_both_settings_name_only_what_is_known(name: str) -> None:
    assert read_params(CHECKOUT / name).train.epochs > 0


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, "train: {epochs: 3}") == Params(train=dataclasses.replace(Params().train, epochs=3))


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Params()


def test_a_whole_number_stands_for_a_fraction_and_not_the_other_way(tmp_path: Path) -> None:
    assert read(tmp_path, "split: {test: 0}").split.test == 0.0
    with pytest.raises(BadInput, match=r"train\.epochs must be int, not 1\.5"):
        read(tmp_path, "train: {epochs: 1.5}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trian: {}", r"unknown key trian; the nearest known one is train$"),
        ("train: {epoch: 3}", r"unknown key train\.epoch; the nearest known one is epochs$"),
        ("train: 3", r"train must be a mapping, not int"),
        ("[1, 2]", r"the file must be a mapping, not list"),
        ("train: {epochs: many}", r"train\.epochs must be int, not 'many'"),
        ("train: {epochs: true}", r"train\.epochs must be int, not True"),
        ("train: {", r"is not YAML"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run this in a workspace"):
        read_params(tmp_path / "params.yaml")
