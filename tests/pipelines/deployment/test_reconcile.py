"""Deploying into a folder: what is planned, fetched, refused, remembered."""

import json
import resource
import shutil
import socket
from datetime import timedelta

import pytest
import sqlalchemy as sa

from pipelines.database import tables
from pipelines.database.engine import connect
from pipelines.deployment.history import history as read_changes
from pipelines.deployment.history import parse_time, served_at
from pipelines.deployment.model_server import running_server
from pipelines.deployment.models_config import read_config
from pipelines.deployment.observation import observe
from pipelines.deployment.proving import NotProven
from pipelines.deployment.steps import DeployFailed, ServerVersions, versions_on
from pipelines.registry import artifacts, connection, versions
from pipelines.workspace.settings import Settings
from training.saved_model import assets
from training.stage.errors import BadInput


def labels(workspace) -> dict[str, int]:
    served = read_config(workspace.serving / "models.config")
    return dict(served.labels) if served else {}


def history(workspace) -> list[tuple]:
    engine = connect(workspace.database_url)
    table = tables.deployments
    columns = (table.c.alias, table.c.from_version, table.c.to_version, table.c.outcome)
    with engine.begin() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(*columns).order_by(table.c.deployment_id))]
    engine.dispose()
    return rows


@pytest.fixture
def promoted(register, workspace):
    """Version 1 is the champion, version 2 is registered."""
    register("m-one")
    register("m-two")
    versions.promote(workspace, 1)
    return workspace


def test_the_champion_is_served_as_stable_and_the_challenger_as_canary(promoted, quietly):
    versions.promote(promoted, 2, "challenger")
    assert quietly(promoted).labels == {"stable": 1, "canary": 2}
    assert labels(promoted) == {"stable": 1, "canary": 2}


def test_the_folder_served_is_the_one_that_was_exported(promoted, quietly):
    quietly(promoted)
    served = promoted.serving / "product-encoder" / "1"
    assert assets.folder_sha256(served) == versions.tags_of(promoted, 1)["saved_model_sha256"]


def test_deploying_again_does_nothing(promoted, quietly):
    quietly(promoted)
    assert quietly(promoted).plan.steps == []
    assert history(promoted) == [("champion", None, 1, "deployed")]


def test_a_dry_run_changes_nothing(promoted, quietly):
    assert quietly(promoted, dry_run=True).plan.steps
    assert not (promoted.serving / "models.config").exists()


def test_moving_the_alias_back_is_the_roll_back(promoted, quietly):
    quietly(promoted)
    versions.promote(promoted, 2)
    quietly(promoted)
    versions.promote(promoted, 1)
    assert quietly(promoted).labels == {"stable": 1}
    assert [row[1:] for row in history(promoted)] == [(None, 1, "deployed"), (1, 2, "deployed"), (2, 1, "deployed")]


def test_a_deleted_alias_takes_nothing_out_of_service(promoted, quietly):
    import mlflow

    quietly(promoted)
    mlflow.MlflowClient().delete_registered_model_alias(versions.MODEL, "champion")
    lines = []
    assert quietly(promoted, say=lines.append).labels == {"stable": 1}
    assert lines == [
        "WARNING: the alias champion is gone from MLflow: version 1 serves on as stable; "
        "to change that, let champion name a version"
    ]


def test_with_nothing_registered_it_says_what_to_do(workspace, quietly):
    assert "photoproof promote VERSION" in str(quietly(workspace))


def test_a_version_whose_bytes_are_not_those_registered_is_refused(promoted, quietly):
    for path in (promoted.state / "mlflow").rglob("saved_model.pb"):
        path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(DeployFailed, match="version 1 as MLflow has it is not what was registered"):
        quietly(promoted)
    assert not (promoted.serving / "product-encoder" / "1").exists()
    assert labels(promoted) == {}


def test_what_a_killed_fetch_left_is_no_version(promoted, quietly):
    part = promoted.serving / ".fetch-1"
    part.mkdir(parents=True)
    (part / "half").write_text("half")
    assert quietly(promoted).labels == {"stable": 1}
    assert not part.exists()


def test_a_registry_started_anew_does_not_pass_for_the_old_one(promoted, quietly):
    quietly(promoted)
    served = promoted.serving / "product-encoder" / "1" / "assets.extra" / "model.json"
    served.write_text(json.dumps({"model_id": "of another registry"}))
    with pytest.raises(DeployFailed, match="was the registry started anew"):
        quietly(promoted)


def test_mlflow_away_leaves_what_serves_as_it_is(promoted, monkeypatch, quietly):
    quietly(promoted)
    before = (promoted.serving / "models.config").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(connection.RegistryUnreachable):
        quietly(promoted)
    assert (promoted.serving / "models.config").read_bytes() == before


def test_a_workspace_that_moved_serves_from_where_it_is(promoted, tmp_path, quietly):
    from pipelines.workspace.places import Workspace

    quietly(promoted)
    shutil.move(promoted.serving, tmp_path / "elsewhere")
    (tmp_path / "new" / ".photoproof").mkdir(parents=True)
    shutil.move(tmp_path / "elsewhere", tmp_path / "new" / ".photoproof" / "serving")
    moved = Workspace(tmp_path / "new")
    shutil.copytree(promoted.state / "mlflow", moved.state / "mlflow")
    quietly(moved)
    assert str(moved.root) in (moved.serving / "models.config").read_text()


def test_serving_before_anything_is_deployed_says_what_to_do(workspace):
    with pytest.raises(BadInput, match="first `photoproof promote VERSION`"), running_server(workspace):
        pass


def lie(folder):
    path = folder / "assets.extra" / "golden.json"
    golden = json.loads(path.read_text())
    golden["pairs"][0]["probability"] += 0.01
    path.write_text(json.dumps(golden))


def refuse(workspace, folder, version, latency_ms):
    raise NotProven(f"version {version} fails")


@pytest.fixture
def failed(promoted, quietly):
    """Version 1 serves; version 2, which champion names now, could not be proven."""
    quietly(promoted)
    versions.promote(promoted, 2)
    with pytest.raises(NotProven, match="version 2 fails"):
        quietly(promoted, prove=refuse)
    return promoted


def test_a_version_that_is_not_proven_takes_no_place_and_says_so_in_its_tags(failed):
    assert labels(failed) == {"stable": 1}
    assert not (failed.serving / "product-encoder" / "2").exists()
    assert versions.tags_of(failed, 2)["deployment"] == "failed: version 2 fails"
    assert history(failed)[-1] == ("champion", 1, 2, "failed")


def test_a_version_that_failed_is_not_tried_again_and_loudly_so(failed, quietly):
    lines = []
    assert quietly(failed, say=lines.append).labels == {"stable": 1}
    assert lines[0].startswith(
        "WARNING: champion names version 2, which failed and is not tried again: version 2 fails;"
    )


def test_it_is_tried_again_when_somebody_says_so(failed, quietly):
    assert quietly(failed, retry=True).labels == {"stable": 2}
    assert versions.tags_of(failed, 2)["deployment"].startswith("deployed as stable at 2")


def test_it_is_tried_again_when_the_alias_has_been_elsewhere(failed, quietly):
    versions.promote(failed, 1)
    assert quietly(failed).plan.steps == []
    versions.promote(failed, 2)
    assert quietly(failed).labels == {"stable": 2}


def test_a_dry_run_forgets_no_failure(failed, quietly):
    versions.promote(failed, 1)
    quietly(failed, dry_run=True)
    versions.promote(failed, 2)
    assert quietly(failed).labels == {"stable": 1}


def test_the_challenger_is_served_though_the_champions_version_failed(promoted, register, quietly):
    def refuse_1(workspace, folder, version, latency_ms):
        if version == 1:
            raise NotProven("version 1 fails")

    versions.promote(promoted, 2, "challenger")
    with pytest.raises(NotProven):
        quietly(promoted, prove=refuse_1)
    assert labels(promoted) == {"canary": 2}


def test_mlflow_breaking_off_says_nothing_about_a_version(promoted, quietly):
    def break_off(workspace, folder, version, latency_ms):
        raise connection.RegistryUnreachable("MLflow broke off")

    with pytest.raises(connection.RegistryUnreachable):
        quietly(promoted, prove=break_off)
    assert quietly(promoted).labels == {"stable": 1}


def test_a_full_disk_is_one_line_and_leaves_what_serves(promoted, quietly, monkeypatch):
    quietly(promoted)
    versions.promote(promoted, 2)
    fetch = artifacts.download

    def fetch_under_a_quota(*arguments):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            return fetch(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as small:
        small.setattr(artifacts, "download", fetch_under_a_quota)
        with pytest.raises(artifacts.NoRoom, match=r"could not fetch version 2 .*File too large"):
            quietly(promoted)
    assert labels(promoted) == {"stable": 1}
    assert quietly(promoted, retry=True).labels == {"stable": 2}


def test_the_history_says_what_served_when(promoted, quietly):
    quietly(promoted)
    versions.promote(promoted, 2)
    quietly(promoted)
    first, second = read_changes(promoted)
    assert [change.to_version for change in (first, second)] == [1, 2]
    assert served_at(read_changes(promoted, second.at))["stable"].to_version == 2
    before = read_changes(promoted, second.at - timedelta(microseconds=1))
    assert served_at(before)["stable"].to_version == 1


def test_what_a_deploy_that_ended_early_did_not_write_down_is_written_by_the_next(promoted, quietly):
    class Killed(BaseException):
        pass

    def killed(line: str) -> None:
        if line.startswith("deploy: write models.config: stable is"):
            raise Killed

    with pytest.raises(Killed):
        quietly(promoted, say=killed)
    assert labels(promoted) == {"stable": 1}
    assert read_changes(promoted) == []
    versions.promote(promoted, 2)
    quietly(promoted)
    assert history(promoted) == [("champion", None, 1, "deployed"), ("champion", 1, 2, "deployed")]
    assert "not written down before" in read_changes(promoted)[0].reason


def test_a_removal_that_was_cut_off_leaves_no_half_a_version(promoted, quietly):
    quietly(promoted)
    folders = promoted.serving / "product-encoder"
    shutil.copytree(folders / "1", promoted.serving / ".remove-9")
    (promoted.serving / ".fetch-9").mkdir()
    quietly(promoted)
    assert {path.name for path in promoted.serving.iterdir() if path.is_dir()} == {"product-encoder"}
    assert [path.name for path in folders.iterdir()] == ["1"]


def test_a_folder_that_can_not_be_removed_is_named_and_is_no_fault_of_the_new_version(promoted, quietly, register):
    for version in range(1, 5):
        if version > 2:
            register(f"m-{version}")
        versions.promote(promoted, version)
        if version == 4:
            (promoted.serving / ".remove-1").mkdir()
            (promoted.serving / ".remove-1" / "held").touch()
            lines: list[str] = []

            def say(line: str, lines: list[str] = lines) -> None:
                lines.append(line)
                if "stable is version 4" in line:  # what is in the way appears while deploy runs
                    (promoted.serving / ".remove-1").mkdir()
                    (promoted.serving / ".remove-1" / "held").touch()

            quietly(promoted, say=say)
            assert any(line.startswith("WARNING: could not remove") for line in lines)
        else:
            quietly(promoted)
    assert versions.tags_of(promoted, 4)["deployment"].startswith("deployed as stable")


def test_a_server_that_is_too_busy_to_answer_counts_as_running(workspace):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert versions_on(f"http://127.0.0.1:{silent.getsockname()[1]}") == ServerVersions()
    assert versions_on("grpc://127.0.0.1:9") is None


def test_of_servers_in_a_list_none_may_lag_once_one_answers(monkeypatch, promoted):
    monkeypatch.setenv("PHOTOPROOF_SERVERS", "grpc://localhost:1, grpc://localhost:2")
    assert observe(promoted, Settings()).actual.available is None


def test_what_is_not_a_time_is_refused_in_one_line():
    with pytest.raises(BadInput, match="is not a time: write 2026-11-24"):
        parse_time("yesterday")
