"""`photoproof deploy --watch` and `photoproof flows`, as people start them, on a real Prefect server."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import mlflow
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines import deploy
from pipelines.deploy import watch
from pipelines.deployment.history import history
from pipelines.deployment.model_server import running_server
from pipelines.deployment.models_config import read_config
from pipelines.orchestration.prefect_server import prefect_api
from pipelines.registry import versions
from pipelines.schedules import build_deployments
from pipelines.workspace import lock
from pipelines.workspace.params import read_application_params
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.settings import Settings


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace


PATIENCE = 120


@pytest.fixture
def deployed(workspace, register, quietly) -> Workspace:
    """Version 1 is deployed, and version 2's folder is there."""
    for model_id in ("m-one", "m-two"):
        register(model_id)
    for version in (2, 1):
        versions.promote(workspace, version)
        quietly(workspace)
    return workspace


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a Prefect server that every test here uses."""
    with (
        prefect_api(Workspace(tmp_path_factory.mktemp("prefect"))) as url,
        httpx.Client(base_url=f"{url}/", timeout=30) as client,
    ):
        yield client


@contextlib.contextmanager
def command(workspace: Workspace, prefect: httpx.Client | str, *words: str) -> Iterator[Callable[[], str]]:
    """A `photoproof` command for the block, which must end by SIGTERM with code 0; gives what it has printed so far."""
    log = workspace.state / f"{words[0]}.log"
    url = prefect if isinstance(prefect, str) else str(prefect.base_url)[:-1]
    environment = {**os.environ, "PHOTOPROOF_WATCH_SECONDS": "0.2", "PREFECT_API_URL": url}
    with log.open("wb") as out:
        words = (sys.executable, "-m", "photoproof", *words)
        process = subprocess.Popen(words, cwd=workspace.root, stdout=out, stderr=out, env=environment)
    try:
        yield log.read_text
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE)
    assert code == 0
    assert "Error" not in log.read_text() and "RuntimeWarning" not in log.read_text()


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def states(prefect: httpx.Client, served: bool = True, pool: str | None = None) -> list[str]:
    """The states of all flow runs of deployments, or of others; of those on a work pool, or on none."""
    query = {"flow_runs": {"deployment_id": {"is_null_": not served}}}
    runs = prefect.post("flow_runs/filter", json=query).raise_for_status().json()
    return [run["state"]["name"] for run in runs if run["work_pool_name"] == pool]


def run_flow(prefect: httpx.Client, workspace: Workspace, flow: str, **parameters: object) -> httpx.Response:
    """Ask Prefect for a run of a registered flow."""
    deployment = prefect.get(f"deployments/name/{flow}/{workspace.root.name}").raise_for_status().json()
    request = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    return prefect.post(f"deployments/{deployment['id']}/create_flow_run", json=request)


@pytest.mark.slow
def test_the_watch_starts_a_flow_run_for_a_deployment_and_none_for_a_look(deployed, prefect):
    with command(deployed, prefect, "deploy", "--watch") as output:
        until(lambda: "watching MLflow's aliases" in output())
        assert states(prefect, served=False) == []
        versions.promote(deployed, 2)
        until(lambda: states(prefect, served=False) == ["Completed"])
        served = read_config(deployed.serving / "models.config")
        assert served and served.labels == {"stable": 2}
        mlflow.MlflowClient().delete_registered_model_alias(versions.MODEL, "champion")
        until(lambda: "version 2 serves on as stable" in output())
    assert states(prefect, served=False) == ["Completed"]
    assert [(change.to_version, change.outcome) for change in history(deployed)][-1] == (2, "deployed")


@pytest.mark.slow
def test_served_flows_check_their_parameters_run_when_asked_and_leave_artifacts(
    deployed, prefect, quietly, put_claims, ask_served
):
    versions.promote(deployed, 2, "challenger")
    quietly(deployed)
    put_claims(deployed, 3)
    with running_server(deployed), command(deployed, prefect, "flows") as output:
        until(lambda: "Ctrl-C" in output())
        until(lambda: len(prefect.post("deployments/filter", json={}).json()) == 4)
        for flow, wrong in (("retrain", {"from_database": "perhaps"}), ("shadow", {"sample": -3})):
            refused = run_flow(prefect, deployed, flow, **wrong)
            assert refused.status_code == 409 and next(iter(wrong)) in refused.text
        for flow in ("shadow", "audit"):
            run_flow(prefect, deployed, flow).raise_for_status()
        until(lambda: states(prefect) == ["Completed", "Completed"])
    artifacts = prefect.post("artifacts/filter", json={"artifacts": {"key": {"any_": ["shadow", "audit"]}}}).json()
    texts = {artifact["key"]: artifact["data"] for artifact in artifacts}
    assert "3 claims" in texts["shadow"]
    assert str(deployed.reports / "audit") in texts["audit"]


@pytest.mark.slow
def test_the_same_flows_run_on_a_work_pool(deployed, prefect):
    """As docs/operations.md has it: a pool, the flows registered for it, and a worker in another process."""
    url = str(prefect.base_url)[:-1]
    pool = {"name": "photoproof", "type": "process"}
    prefect.post("work_pools/", json=pool).raise_for_status()
    with temporary_settings({PREFECT_API_URL: url}):
        for deployment in build_deployments(deployed, read_application_params(deployed.params).schedules):
            deployment.work_pool_name = "photoproof"
            deployment.apply()
    versions.promote(deployed, 2)
    run_flow(prefect, deployed, "deploy").raise_for_status()
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "photoproof"]
    with (deployed.state / "worker.log").open("wb") as log:
        environment = os.environ | {"PREFECT_API_URL": url}
        worker = subprocess.Popen(words, cwd=deployed.root, stdout=log, stderr=log, env=environment)
    try:
        until(lambda: states(prefect, pool="photoproof") == ["Completed"])
    finally:
        worker.kill()  # it takes minutes to end when it is asked
        worker.wait()
    served = read_config(deployed.serving / "models.config")
    assert served and served.labels == {"stable": 2}


def test_what_is_wrong_is_said_once_and_again_when_it_is_right(deployed, monkeypatch):
    lines: list[str] = []
    looks = iter(range(5))

    def between(seconds: float) -> bool:
        match next(looks):
            case 0:
                monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
            case 2:
                assert len(lines) == 1 and "does not answer" in lines[0]
                monkeypatch.delenv("MLFLOW_TRACKING_URI")
            case 4:
                return True
        return False

    watch(deployed, Settings(watch_seconds=0), lines.append, between)
    assert lines[1:] == ["deploy: all is right again"]


def break_database(workspace: Workspace) -> Callable[[], object]:
    """Put a folder in the place of the product database's file; gives what puts the file back."""
    file = workspace.state / "database.sqlite"
    kept = file.rename(file.with_name("kept.sqlite"))
    file.mkdir()
    return lambda: (file.rmdir(), kept.rename(file))


def test_what_failed_is_wrong_until_it_has_been_tried_again(deployed, monkeypatch):
    versions.promote(deployed, 2)
    monkeypatch.setattr(deploy, "RETRY_SECONDS", 1)
    mend_database = break_database(deployed)
    lines: list[str] = []
    looks, deadline = iter(range(1000)), time.monotonic() + PATIENCE

    def between(seconds: float) -> bool:
        if next(looks) == 3:
            assert len(lines) == 1 and lines[0].startswith("WARNING") and "database.sqlite can't be reached" in lines[0]
            mend_database()
        return lines[-1] == "deploy: all is right again" or time.monotonic() > deadline

    watch(deployed, Settings(watch_seconds=0), lines.append, between)
    assert lines[-1] == "deploy: all is right again"
    assert history(deployed)[-1].to_version == 2


def test_a_deployment_that_took_long_to_fail_is_not_tried_again_at_once(deployed, monkeypatch):
    versions.promote(deployed, 2)
    monkeypatch.setattr(deploy, "RETRY_SECONDS", 3)
    break_database(deployed)
    held = deployed.serving / "deploy.lock"  # whoever deploys writes to it
    tries: list[int] = []

    def between(seconds: float) -> bool:
        tries.append(held.stat().st_mtime_ns)
        return len(tries) == 2

    with contextlib.ExitStack() as other:
        other.enter_context(lock.exclusive(held))
        threading.Timer(3.5, other.close).start()
        watch(deployed, Settings(watch_seconds=0), lambda line: None, between)
    assert tries[0] == tries[1]


@pytest.mark.slow
def test_without_prefect_aliases_are_followed_and_that_is_said_once(deployed):
    with command(deployed, f"http://127.0.0.1:{free_port()}/api", "deploy", "--watch") as output:
        until(lambda: "watching MLflow's aliases" in output())
        versions.promote(deployed, 2)
        until(lambda: history(deployed)[-1].to_version == 2)
    assert output().count("Prefect does not answer") == 1
    assert "deploy: all is right again" not in output()


def count_open(path: Path) -> int:
    """How many open files of this process are the one at a path."""
    numbers = os.listdir("/proc/self/fd")
    return sum(os.path.realpath(f"/proc/self/fd/{number}") == str(path.resolve()) for number in numbers)


@pytest.mark.slow
def test_a_deployment_that_prefect_does_not_outlive_is_finished(deployed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(deploy, "PREFECT_RETRIES", 0)
    versions.promote(deployed, 2)
    home = Workspace(tmp_path / "prefect")
    held = deployed.serving / "deploy.lock"
    lines: list[str] = []

    def end_prefect(url: str, client: httpx.Client, deployment: contextlib.ExitStack) -> None:
        with deployment:
            until(lambda: states(client, served=False) == ["Running"])
            until(lambda: count_open(held) == 2)  # the run has heard so too, and waits for the lock
            os.killpg(int((home.state / "prefect" / "server.pid").read_text().split()[0]), signal.SIGKILL)

    with (
        prefect_api(home) as url,
        httpx.Client(base_url=f"{url}/", timeout=30) as client,
        temporary_settings({PREFECT_API_URL: url}),
        contextlib.ExitStack() as other,
    ):
        other.enter_context(lock.exclusive(held))
        threading.Thread(target=end_prefect, args=(url, client, other.pop_all())).start()
        watch(deployed, Settings(watch_seconds=0), lines.append, lambda seconds: True)
    assert history(deployed)[-1].to_version == 2
    assert [line for line in lines if line.startswith("WARNING")] == lines and "without Prefect" in lines[0]
    assert "WARNING: the run in Prefect has no artifact" in capsys.readouterr().out


def test_a_version_that_is_not_tried_again_is_said_once_and_starts_no_run(deployed):
    from pipelines.deployment.history import Failure, write_failures

    versions.promote(deployed, 2)
    write_failures(deployed, {"champion": Failure(2, "it lies")})
    lines: list[str] = []
    looks = iter(range(3))
    watch(deployed, Settings(watch_seconds=0), lines.append, lambda seconds: next(looks) == 2)
    assert len(lines) == 1 and "version 2, which failed and is not tried again: it lies" in lines[0]
