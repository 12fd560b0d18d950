"""Data Docs in MLflow: a run for each validation of a data version, whether the data passed or not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.data.versioning import DataVersion
from pipelines.registry import connection, versions
from pipelines.registry.pages import mlflow_page
from pipelines.workspace.places import Workspace
from training.stage import tracking
from training.validation import data_docs

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "photoproof-data"
"""MLflow's experiment with a run for each validation."""

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of that experiment: MLflow's page guesses otherwise that it is about prompts."""


@dataclass(frozen=True)
class Docs:
    """Where Data Docs of a data version can be read."""

    run_id: str
    link: str
    """Of MLflow's page that shows them."""
    folder: Path
    outcome: str


def log_docs(workspace: Workspace, data: DataVersion, rebuild: bool) -> Docs | None:
    """Have MLflow show Data Docs of a data version, in a run of their own; None where the workspace has none.

    Without `rebuild` an existing run of this data version is used. Raises RegistryUnreachable.
    """
    site = data_docs.folder_of(workspace.reports / "validation" / "data_docs", data.md5)
    if not (site / data_docs.SUMMARY).is_file():
        return None
    summary = json.loads((site / data_docs.SUMMARY).read_text())
    outcome = summary["stopped"] or "; ".join(summary["broken"]) or "every promise is kept"
    with connection.client_of(workspace) as client:
        experiment = _experiment_id(client)
        runs = client.search_runs([experiment], f"tags.data_version = '{data.md5}'", max_results=1)
        if runs and not rebuild:
            run_id = runs[0].info.run_id
        else:
            tags = {"data_version": data.md5, "git_commit": tracking.git_commit(workspace.root) or ""}
            tags["mlflow.note.content"] = _note(summary, outcome)
            run_id = client.create_run(experiment, tags=tags, run_name=f"validation of {data.md5[:12]}").info.run_id
            for name in ("pictures", "set_aside"):
                client.log_metric(run_id, name, summary[name])
            for suite, page in data_docs.pages(site).items():
                client.log_text(run_id, data_docs.inline_files(page), f"data_docs/{suite}.html")
            client.set_terminated(run_id, "FAILED" if summary["stopped"] else "FINISHED")
    link = f"{mlflow_page(workspace)}/#/experiments/{experiment}/runs/{run_id}/artifacts/data_docs/pictures.html"
    return Docs(run_id, link, site, outcome)


def tag_training(workspace: Workspace, version: int, docs: Docs) -> None:
    """Let the run of a version's training name the Data Docs of its data. Raises RegistryUnreachable."""
    with connection.client_of(workspace) as client:
        run_id = client.get_model_version(versions.MODEL, str(version)).run_id
        if run_id:
            client.set_tag(run_id, "data_docs", docs.link)


def _experiment_id(client: "MlflowClient") -> str:
    """The experiment of validations, made at the first, with its files beside those of trainings."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment:
        return experiment.experiment_id
    trainings = client.get_experiment_by_name(tracking.EXPERIMENT)
    local = trainings is not None and trainings.artifact_location.startswith("file:")
    return client.create_experiment(EXPERIMENT, trainings.artifact_location if trainings and local else None, tags=KIND)


def _note(summary: dict[str, Any], outcome: str) -> str:
    """A run's description, in Markdown."""
    head = f"# Data version {summary['version'][:12]}: {'stopped' if summary['stopped'] else 'passed'}"
    count = f"{summary['pictures']:,} pictures, {summary['set_aside']:,} set aside."
    return f"{head}\n\n{count}\n\n{outcome}\n\nData Docs: the artifacts in `data_docs/`, a page for each suite.\n"
