"""What the retrain flow does around the validate stage, whether the data passes or not.

Before it the champion's distributions, to compare with; after it the quarantine for people, and Data Docs in MLflow.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.data.versioning import DataVersion
from pipelines.registry import connection, versions
from pipelines.registry.pages import mlflow_page
from pipelines.workspace.places import Workspace
from training.stage import tracking
from training.validation import data_docs

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


def log_docs(workspace: Workspace, data: DataVersion, again: bool) -> Docs | None:
    """Have MLflow show Data Docs of a data version, in a run of their own; None where there are none.

    Without `again` a run that there is for this data version is taken. Raises RegistryUnreachable.
    """
    site = data_docs.folder_of(workspace.reports / "validation" / "data_docs", data.md5)
    if not (site / data_docs.SUMMARY).is_file():
        return None
    said = json.loads((site / data_docs.SUMMARY).read_text())
    outcome = said["stopped"] or "; ".join(said["broken"]) or "every promise is kept"
    with connection.client_of(workspace) as client:
        main = client.get_experiment_by_name(tracking.EXPERIMENT)
        there = client.get_experiment_by_name(EXPERIMENT)
        local = main is not None and main.artifact_location.startswith("file:")
        experiment = (
            there.experiment_id
            if there
            else client.create_experiment(EXPERIMENT, main.artifact_location if main and local else None, tags=KIND)
        )
        found = client.search_runs([experiment], f"tags.data_version = '{data.md5}'", max_results=1)
        if found and not again:
            run_id = found[0].info.run_id
        else:
            tags = {"data_version": data.md5, "git_commit": tracking.git_commit(workspace.root) or ""}
            tags["mlflow.note.content"] = _note(said, outcome)
            run_id = client.create_run(experiment, tags=tags, run_name=f"validation of {data.md5[:12]}").info.run_id
            for name in ("pictures", "set_aside"):
                client.log_metric(run_id, name, said[name])
            for suite, page in data_docs.pages(site).items():
                client.log_text(run_id, data_docs.inline_files(page), f"data_docs/{suite}.html")
            client.set_terminated(run_id, "FAILED" if said["stopped"] else "FINISHED")
    link = f"{mlflow_page(workspace)}/#/experiments/{experiment}/runs/{run_id}/artifacts/data_docs/pictures.html"
    return Docs(run_id, link, site, outcome)


def tag_training(workspace: Workspace, version: int, docs: Docs) -> None:
    """Let the run of a version's training name the Data Docs of its data. Raises RegistryUnreachable."""
    with connection.client_of(workspace) as client:
        run_id = client.get_model_version(versions.MODEL, str(version)).run_id
        if run_id:
            client.set_tag(run_id, "data_docs", docs.link)


def _note(said: dict, outcome: str) -> str:
    """A run's description, in Markdown."""
    head = f"# Data version {said['version'][:12]}: {'stopped' if said['stopped'] else 'passed'}"
    count = f"{said['pictures']:,} pictures, {said['set_aside']:,} set aside."
    return f"{head}\n\n{count}\n\n{outcome}\n\nData Docs: the artifacts in `data_docs/`, a page for each suite.\n"
