"""`photoproof candidate`, `promote`, `deploy` and `serve`: what they print."""

import json
import os
import subprocess
import sys
import time

import pytest

from pipelines.commands import models
from pipelines.registry import versions
from pipelines.workspace import lock
from pipelines.workspace.places import Workspace
from training.stage.errors import BadInput


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace


@pytest.fixture(autouse=True)
def here(workspace, monkeypatch):
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))


def test_serving_before_anything_is_deployed_is_one_line_and_exit_code_2(workspace):
    done = subprocess.run([sys.executable, "-m", "photoproof", "serve"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "photoproof: nothing is deployed yet: first `photoproof promote VERSION`, then `photoproof deploy`"
    ]


def test_candidate_reports_on_the_newest_version_and_moves_nothing(register, workspace, capsys):
    register("m-one", auc=0.5)
    register("m-two")
    models.candidate(as_json=True)
    decision = json.loads(capsys.readouterr().out)
    assert (decision["version"], decision["accepted"]) == (2, True)
    assert versions.versions_by_alias(workspace) == {}


def test_candidate_can_be_asked_about_any_version(register, workspace, capsys):
    register("m-one", auc=0.5)
    register("m-two")
    models.candidate(1)
    assert "product-encoder version 1: refused" in capsys.readouterr().out


def test_candidate_without_a_version_says_what_registers_one(workspace):
    with pytest.raises(versions.VersionNotFound, match="photoproof retrain"):
        models.candidate()


def test_promote_says_which_version_the_alias_names_now_and_named_before(register, workspace, capsys):
    register("m-one")
    register("m-two")
    models.promote("1")
    models.promote("2")
    assert capsys.readouterr().out.splitlines() == [
        "promote: champion is version 1; `photoproof deploy` serves it",
        "promote: champion is version 2 (before: version 1); `photoproof deploy` serves it",
    ]


def test_a_dry_run_lists_what_deploy_would_do(register, workspace, capsys):
    register("m-one")
    versions.promote(workspace, 1)
    models.deploy(dry_run=True)
    assert capsys.readouterr().out.splitlines()[:3] == [
        "would fetch version 1 from MLflow and prove it",
        "would write models.config: add version 1",
        "would write models.config: stable is version 1",
    ]


def test_deploy_as_json_is_one_object_on_stdout(register_real, workspace, capsys):
    register_real()
    versions.promote(workspace, 1)
    models.deploy(as_json=True)
    assert json.loads(capsys.readouterr().out)["labels"] == {"stable": 1}


def test_deploying_again_says_what_serves_and_that_nothing_is_to_do(register_real, workspace, capsys):
    register_real()
    versions.promote(workspace, 1)
    models.deploy()
    capsys.readouterr()
    models.deploy()
    assert capsys.readouterr().out == (
        "deploy: nothing to do; stable is version 1; no server runs: `photoproof serve` starts one\n"
    )


@pytest.mark.parametrize("option", ["dry_run", "retry", "as_json"])
def test_a_watch_takes_nothing_that_is_for_one_deployment(workspace, option):
    with pytest.raises(BadInput, match="--watch does not go with --"):
        models.deploy(watch=True, **{option: True})
    assert not workspace.serving.exists()


def test_whoever_waits_for_another_deployment_is_told_which(tmp_path):
    path, said = tmp_path / "deploy.lock", tmp_path / "said"
    code = "import pathlib, sys; from pipelines.workspace.lock import exclusive\n"
    code += "with exclusive(pathlib.Path(sys.argv[1])): pass"
    with lock.exclusive(path), said.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=out)
        deadline = time.monotonic() + 60
        while "held by" not in said.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert process.wait(60) == 0
    (line,) = said.read_text().splitlines()
    assert line.startswith(f"deploy: waiting for {path}, held by process {os.getpid()}, since")
