"""`photoproof deploy --watch` with a real Prefect server, a real MLflow registry and a real exported model."""

import pytest

from pipelines import registry
from pipelines.deployments import history
from pipelines.prefect_server import prefect_api

pytestmark = pytest.mark.slow


def flow_runs() -> list[str]:
    """The states of all flow runs that Prefect knows."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [run.state_name or "" for run in client.read_flow_runs()]


def test_it_starts_a_flow_run_for_each_deployment_and_none_for_a_look(workspace, register_real, monkeypatch, capsys):
    register_real()
    told: list[str] = []
    looks = iter(range(6))

    with capsys.disabled(), prefect_api(workspace):  # Prefect's loggers outlive a captured stderr
        from pipelines.deploy_flow import watch

        def between(seconds: float) -> bool:
            match next(looks):
                case 0:
                    assert flow_runs() == []
                    registry.promote(workspace, 1)
                case 1:
                    assert flow_runs() == ["Completed"]
                    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
                case 2:
                    assert len([line for line in told if "does not answer" in line]) == 1
                case 3:
                    assert len([line for line in told if "does not answer" in line]) == 1
                    monkeypatch.delenv("MLFLOW_TRACKING_URI")
                case 4:
                    assert told[-1] == "deploy: all is right again"
                    return True
            return False

        watch(workspace, 0, told.append, between)
        assert flow_runs() == ["Completed"]
    assert [(one.alias, one.to_version, one.outcome) for one in history(workspace)] == [("champion", 1, "deployed")]
