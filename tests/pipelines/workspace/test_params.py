from pathlib import Path

import pytest

from pipelines.workspace.params import ApplicationParams, check_params, read_application_params
from training.stage.errors import BadInput
from training.stage.params import read_params


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_stages_do_not_look_into_the_applications_sections(tmp_path: Path) -> None:
    path = write(tmp_path, "audit: {sample_share: 7}\ntrain: {epochs: 3}")
    assert read_params(path).train.epochs == 3
    with pytest.raises(BadInput, match=r"audit\.sample_share must be less than or equal to 1, not 7"):
        check_params(path)


def test_the_applications_sections_have_defaults_and_do_not_look_into_the_stages(tmp_path: Path) -> None:
    assert read_application_params(write(tmp_path, "train: {epochs: -1}")) == ApplicationParams()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("candidat: {}", r"unknown key candidat; the nearest known one is candidate$"),
        ("candidate: {min_acu: 0.9}", r"unknown key candidate\.min_acu; the nearest known one is min_auc$"),
        ("schedules: {retrain: monday}", r"schedules\.retrain must be a cron line such as .*, not 'monday'$"),
        ("schedules: {timezone: Berlin}", r"schedules\.timezone must be a time zone such as .*, not 'Berlin'$"),
        ("candidate: {confidence: 1}", r"candidate\.confidence must be less than 1, not 1$"),
        ("train: {epochs: 0}", r"train\.epochs must be greater than 0, not 0$"),
    ],
)
def test_what_is_wrong_anywhere_is_one_line_before_anything_begins(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        check_params(write(tmp_path, text))
    assert "\n" not in str(refused.value)
