"""The flows as Prefect deployments: schedules, tags, descriptions, and typed parameters."""

import pytest

from pipelines.schedules import build_deployments
from pipelines.workspace.params import Schedules
from pipelines.workspace.places import Workspace


@pytest.fixture
def deployments(tmp_path):
    schedules = Schedules(retrain="0 2 * * 0", timezone="Europe/Berlin")
    built = build_deployments(Workspace(tmp_path / "fruit"), schedules)
    return {deployment.flow_name: deployment for deployment in built}


def test_every_flow_is_there_under_the_workspaces_name(deployments):
    assert set(deployments) == {"retrain", "deploy", "shadow", "audit"}
    assert {deployment.name for deployment in deployments.values()} == {"fruit"}
    assert all("photoproof" in deployment.tags for deployment in deployments.values())


def test_a_flow_has_the_schedule_that_params_give_it_and_others_have_none(deployments):
    (schedule,) = deployments["retrain"].schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * 0", "Europe/Berlin")
    assert deployments["deploy"].schedules == []


def test_parameters_are_typed_and_explained_in_prefects_form(deployments, tmp_path):
    schema = deployments["retrain"]._parameter_openapi_schema
    assert schema.properties["root"]["format"] == "path"
    assert schema.properties["from_database"]["type"] == "boolean"
    assert "ingest the product database" in schema.properties["from_database"]["description"]
    assert deployments["retrain"].enforce_parameter_schema
    assert deployments["retrain"].parameters["root"] == str(tmp_path / "fruit")


def test_a_flow_runs_once_at_a_time(deployments):
    assert all(deployment.concurrency_limit == 1 for deployment in deployments.values())


def test_a_run_finds_its_flow_by_module_wherever_it_is_started(deployments):
    assert deployments["retrain"].entrypoint == "pipelines.retrain.retrain"
