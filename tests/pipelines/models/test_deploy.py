"""Deploying into a folder and under a real running model server."""

import json
import shutil
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from photoproof import PhotoproofError, Verifier
from pipelines import database, registry
from pipelines.deploy import DeployFailed, deploy, golden_pair
from pipelines.models_config import read_config
from pipelines.serve import known_servers, running_server
from training.errors import BadInput


def quietly(workspace, **options):
    return deploy(workspace, say=lambda line: None, **options)


def labels(workspace) -> dict[str, int]:
    served = read_config(workspace.serving / "models.config")
    return dict(served.labels) if served else {}


def history(workspace) -> list[tuple]:
    engine = database.connect(workspace.database_url)
    table = database.deployments
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
    registry.promote(workspace, 1)
    return workspace


def test_the_champion_is_served_as_stable_and_the_challenger_as_canary(promoted):
    registry.promote(promoted, 2, "challenger")
    assert quietly(promoted).labels == {"stable": 1, "canary": 2}
    assert labels(promoted) == {"stable": 1, "canary": 2}


def test_the_folder_served_is_the_one_that_was_exported(promoted):
    quietly(promoted)
    served = promoted.serving / "product-encoder" / "1"
    assert registry.folder_sha256(served) == registry.tags_of(promoted, 1)["saved_model_sha256"]


def test_deploying_again_does_nothing(promoted):
    quietly(promoted)
    assert quietly(promoted).plan.steps == []
    assert history(promoted) == [("champion", None, 1, "deployed")]


def test_a_dry_run_changes_nothing(promoted):
    assert quietly(promoted, dry_run=True).plan.steps
    assert not (promoted.serving / "models.config").exists()


def test_moving_the_alias_back_is_the_roll_back(promoted):
    quietly(promoted)
    registry.promote(promoted, 2)
    quietly(promoted)
    registry.promote(promoted, 1)
    assert quietly(promoted).labels == {"stable": 1}
    assert [row[1:] for row in history(promoted)] == [(None, 1, "deployed"), (1, 2, "deployed"), (2, 1, "deployed")]


def test_a_deleted_alias_takes_nothing_out_of_service(promoted):
    import mlflow

    quietly(promoted)
    mlflow.MlflowClient().delete_registered_model_alias(registry.MODEL, "champion")
    said = []
    assert deploy(promoted, say=said.append).labels == {"stable": 1}
    assert said == [
        "WARNING: the alias champion is gone from MLflow: version 1 serves on as stable; "
        "to change that, let champion name a version"
    ]


def test_with_nothing_registered_it_says_what_to_do(workspace):
    assert "photoproof promote VERSION" in str(quietly(workspace))


def test_a_version_whose_bytes_are_not_those_registered_is_refused(promoted):
    for path in (promoted.state / "mlflow").rglob("saved_model.pb"):
        path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(DeployFailed, match="version 1 as MLflow has it is not what was registered"):
        quietly(promoted)
    assert not (promoted.serving / "product-encoder" / "1").exists()
    assert labels(promoted) == {}


def test_what_a_killed_fetch_left_is_no_version(promoted):
    part = promoted.serving / ".fetch-1"
    part.mkdir(parents=True)
    (part / "half").write_text("half")
    assert quietly(promoted).labels == {"stable": 1}
    assert not part.exists()


def test_a_registry_started_anew_does_not_pass_for_the_old_one(promoted):
    quietly(promoted)
    served = promoted.serving / "product-encoder" / "1" / "assets.extra" / "model.json"
    served.write_text(json.dumps({"model_id": "of another registry"}))
    with pytest.raises(DeployFailed, match="was the registry started anew"):
        quietly(promoted)


def test_mlflow_away_leaves_what_serves_as_it_is(promoted, monkeypatch):
    quietly(promoted)
    before = (promoted.serving / "models.config").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(registry.RegistryUnreachable):
        quietly(promoted)
    assert (promoted.serving / "models.config").read_bytes() == before


def test_a_workspace_that_moved_serves_from_where_it_is(promoted, tmp_path):
    from pipelines.workspace import Workspace

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


class Caller(threading.Thread):
    """Asks by label all the time; remembers which models answered and which calls failed."""

    def __init__(self, server: str, golden):
        super().__init__(daemon=True)
        self.models: list[str | None] = []
        self.failed: list[str] = []
        self._ended = threading.Event()
        self._ask = (server, golden)

    def run(self) -> None:
        server, golden = self._ask
        with Verifier(server, timeout=30, retries=0) as verifier:
            while not self._ended.is_set():
                try:
                    self.models.append(verifier.verify(golden.original, golden.photo).model_id)
                except PhotoproofError as error:
                    self.failed.append(str(error))
                time.sleep(0.02)

    def end(self) -> None:
        self._ended.set()
        self.join(30)


@pytest.mark.slow
def test_promoting_and_rolling_back_under_a_running_server_fails_no_call(fleet, ask_served):
    workspace, server, _ = fleet
    caller = Caller(server.grpc, golden_pair(workspace.serving / "product-encoder" / "1"))
    caller.start()
    for version in (2, 1):
        registry.promote(workspace, version)
        assert quietly(workspace).servers == [server.grpc]
    caller.end()
    assert caller.failed == []
    seen = [model for at, model in enumerate(caller.models) if at == 0 or model != caller.models[at - 1]]
    assert seen == ["m-one", "m-two", "m-one"]


@pytest.mark.slow
def test_a_version_that_does_not_load_or_lies_leaves_the_old_one_in_service(fleet, ask_served):
    workspace, server, register = fleet

    def truncate(folder):
        path = folder / "variables" / "variables.data-00000-of-00001"
        path.write_bytes(path.read_bytes()[:-8])

    def lie(folder):
        path = folder / "assets.extra" / "golden.json"
        golden = json.loads(path.read_text())
        golden["pairs"][0]["probability"] += 0.01
        path.write_text(json.dumps(golden))

    for model_id, spoil, words in (("m-three", truncate, "does not load"), ("m-four", lie, "golden pair")):
        registry.promote(workspace, register(model_id, spoil).version)
        with pytest.raises(DeployFailed, match=words):
            quietly(workspace)
        assert labels(workspace) == {"stable": 1}
        assert history(workspace)[-1][3] == "failed"
    golden = golden_pair(workspace.serving / "product-encoder" / "1")
    assert golden
    deadline = time.monotonic() + 20
    with Verifier(server.grpc) as verifier:
        while verifier.verify(golden.original, golden.photo).model_id != "m-one":
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow
def test_serve_says_which_server_and_where_and_stops_on_sigterm_with_its_child(promoted, ask_served):
    quietly(promoted)
    words = [sys.executable, "-c", "from pipelines.workspace import Workspace; from pipelines.serve import serve; "]
    words[2] += "from pipelines.prefect_server import free_port as f; serve(Workspace.here(), f(), f())"
    process = subprocess.Popen(words, cwd=promoted.root, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    assert "model server" in line and "grpc://localhost:" in line and "stable is version 1" in line
    (address,) = known_servers(promoted)
    assert address in line
    process.terminate()
    assert process.wait(40) == 0
    process.stdout.close()
    with Verifier(address, timeout=2, retries=0) as verifier, pytest.raises(PhotoproofError):
        verifier.status()
