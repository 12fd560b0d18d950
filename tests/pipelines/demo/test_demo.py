"""The demo's commands have nothing to do with the servers of a team, or of another workspace."""

from collections.abc import Callable

import pytest

from photoproof import Verifier
from pipelines.demo.demo import run_command, scratch_environment
from pipelines.deployment.addresses import RunningServer
from pipelines.registry.versions import Registered
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.settings import Settings


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace


def test_no_setting_of_a_team_reaches_a_demo_however_it_is_spelled(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (*Settings.variables(), "photoproof_servers", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.setenv(variable, "the team's")
    environment = scratch_environment(workspace, 8765)
    assert "the team's" not in environment.values()
    assert {name: value for name, value in environment.items() if name.startswith("PHOTOPROOF_")} == {
        "PHOTOPROOF_WORKSPACE": str(workspace.root),
        "PHOTOPROOF_SERVER": "grpc://localhost:8765",
    }


def test_the_persons_own_choice_of_tracebacks_stays(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOPROOF_VERBOSE", "1")
    assert scratch_environment(workspace, 8765)["PHOTOPROOF_VERBOSE"] == "1"


@pytest.mark.slow
def test_a_demo_deploys_while_a_server_of_another_workspace_listens(
    workspace: Workspace,
    register_real: Callable[[], Registered],
    fleet: tuple[Workspace, RunningServer, object],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, foreign, _ = fleet
    monkeypatch.delenv("PHOTOPROOF_SERVER")
    register_real()
    monkeypatch.setenv("PHOTOPROOF_SERVERS", foreign.grpc)
    monkeypatch.setenv("PHOTOPROOF_SERVER", foreign.grpc)
    environment = scratch_environment(workspace, free_port())
    for words in (("promote", "1"), ("deploy",)):
        run_command(environment, *words)
    assert "stable is version 1; no server runs" in capfd.readouterr().out
    with Verifier(foreign.grpc) as verifier:
        assert [status.version for status in verifier.status().versions] == [1]
