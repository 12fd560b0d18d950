"""The flows as Prefect deployments: schedules, tags, descriptions, and typed parameters."""

import pytest

from pipelines.schedules import deployments
from pipelines.workspace.params import Schedules
from pipelines.workspace.places import Workspace


@pytest.fixture
def found(tmp_path):
    schedules = Schedules(retrain="0 2 * * 0", timezone="Europe/Berlin")
    return {one.flow_name: one for one in deployments(Workspace(tmp_path / "fruit"), schedules)}


def test_every_flow_is_there_under_the_workspaces_name(found):
    assert set(found) == {"retrain", "deploy", "shadow", "audit"}
    assert {one.name for one in found.values()} == {"fruit"}
    assert all("photoproof" in one.tags for one in found.values())


def test_a_flow_has_the_schedule_that_params_give_it_and_others_have_none(found):
    (schedule,) = found["retrain"].schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * 0", "Europe/Berlin")
    assert found["deploy"].schedules == []


def test_parameters_are_typed_and_explained_in_prefects_form(found, tmp_path):
    schema = found["retrain"]._parameter_openapi_schema
    assert schema.properties["root"]["format"] == "path"
    assert schema.properties["from_database"]["type"] == "boolean"
    assert "ingest the product database" in schema.properties["from_database"]["description"]
    assert found["retrain"].enforce_parameter_schema
    assert found["retrain"].parameters["root"] == str(tmp_path / "fruit")


def test_a_flow_runs_once_at_a_time(found):
    assert all(one.concurrency_limit == 1 for one in found.values())


def test_a_run_finds_its_flow_by_module_wherever_it_is_started(found):
    assert found["retrain"].entrypoint == "pipelines.retrain.retrain"
