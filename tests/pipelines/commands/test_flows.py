"""`photoproof retrain`, `params` and `flows`: what is refused before a flow or a server starts."""

import pytest
import yaml

from photoproof.command_line.cli import run
from pipelines.workspace.places import Workspace


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))
    return workspace


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("train: {epochs: 0}", "train.epochs must be greater than 0, not 0"),
        ("train: {epochs: -3}", "train.epochs must be greater than 0, not -3"),
        ("evaluate: {prior_match: 1.0}", "evaluate.prior_match must be less than 1, not 1.0"),
        (
            "train: {backbone_rate: 3e-4}",
            "train.backbone_rate must be a number, not '3e-4' (YAML reads 3e-4 as text: write 3.0e-4)",
        ),
        ("schedules: {audit: daily at two}", "schedules.audit must be a cron line such as"),
    ],
)
def test_a_retraining_with_wrong_params_is_refused_in_a_line_before_anything_is_ingested(
    here: Workspace, capsys: pytest.CaptureFixture[str], text: str, refusal: str
) -> None:
    here.params.write_text(text)
    assert run(["retrain"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"photoproof: {here.params}: {refusal}")
    assert not here.state.exists()  # neither a database nor Prefect's server
    assert not here.data.exists()


def test_a_setting_takes_the_place_of_params(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["params", "use", "default"]) == 0
    assert capsys.readouterr().out == "params.yaml is now the setting default\n"
    assert here.params.read_bytes() == (here.root / "params.default.yaml").read_bytes()
    assert not list(here.root.glob("*.part"))


def test_a_setting_with_wrong_values_is_refused_and_params_stay(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = here.params.read_bytes()
    setting = here.root / "params.long.yaml"
    setting.write_text(yaml.safe_dump({"train": {"epochs": 0}}))
    assert run(["params", "use", "long"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"photoproof: {setting}: train.epochs must be greater than 0, not 0"
    assert here.params.read_bytes() == before


def test_the_former_spelling_of_flows_is_answered_with_the_present_one(
    here: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["flows", "serve"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "photoproof: flows: say `photoproof flows`, without `serve`"
    assert not here.state.exists()
