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
    with pytest.raises(BadInput, match=r"train\.epochs must be an integer, not 1\.5"):
        read(tmp_path, "train: {epochs: 1.5}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("trian: {}", r"unknown key trian; the nearest known one is train$"),
        ("train: {epoch: 3}", r"unknown key train\.epoch; the nearest known one is epochs$"),
        ("train: 3", r"train must be a mapping, not int"),
        ("[1, 2]", r"the file must be a mapping, not list"),
        ("train: {epochs: many}", r"train\.epochs must be an integer, not 'many'"),
        ("train: {epochs: true}", r"train\.epochs must be an integer, not True"),
        ("train: {", r"is not YAML"),
        ("train: {epochs: 0}", r"train\.epochs must be greater than 0, not 0$"),
        ("train: {epochs: -3}", r"train\.epochs must be greater than 0, not -3$"),
        ("train: {products_per_step: 0}", r"train\.products_per_step must be greater than 0, not 0$"),
        ("train: {latent_size: 0}", r"train\.latent_size must be greater than 0, not 0$"),
        ("train: {decoded_size: 40}", r"train\.decoded_size must be a multiple of 16, not 40$"),
        ("train: {drawn_share: 1.5}", r"train\.drawn_share must be less than or equal to 1, not 1\.5$"),
        ("train: {precision: float16}", r"train\.precision must be 'float32' or 'mixed_bfloat16', not 'float16'$"),
        ("train: {backbone_rate: .inf}", r"train\.backbone_rate must be a finite number, not inf$"),
        ("evaluate: {pairs_max: 0}", r"evaluate\.pairs_max must be greater than 0, not 0$"),
        ("evaluate: {cohort_max: -1}", r"evaluate\.cohort_max must be greater than or equal to 0, not -1$"),
        ("evaluate: {prior_match: 1.0}", r"evaluate\.prior_match must be less than 1, not 1\.0$"),
        ("split: {salt: 7}", r"split\.salt must be text, not 7$"),
        (
            "train: {backbone_rate: 3e-4}",
            r"backbone_rate must be a number, not '3e-4' \(YAML reads 3e-4 as text: write 3\.0e-4\)$",
        ),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run this in a workspace"):
        read_params(tmp_path / "params.yaml")
