"""What the retrain flow does around the validate stage, whether the data passes or not.

Before it the champion's distributions, to compare with; after it the quarantine for people, and Data Docs in MLflow.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.data import quarantine, quarantine_page
from pipelines.data.versioning import DataVersion
from pipelines.database import tables
from pipelines.registry import evidence, versions
from pipelines.workspace.places import Workspace
from training.stage import tracking
from training.validation import data_docs, drift

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


def take_reference(workspace: Workspace, data: DataVersion) -> str:
    """Bring reference.json to the champion's distributions, where the data is new; what was done, in a line.

    Data that passed validation once is not held against another champion. Raises RegistryUnreachable.
    """
    path = workspace.root / drift.REFERENCE
    there = drift.read_reference(path)
    if path.is_file() and data.md5 == _validated(workspace):
        return f"drift: data that is validated, compared with {_named(there)}"
    champion = versions.versions_by_alias(workspace).get(versions.CHAMPION)
    wanted = drift.Reference(None, {})
    if champion is not None:
        version = versions.tags_of(workspace, champion).get("data_version")
        if version == there.data_version and there.distributions:
            wanted = there
        else:
            with tempfile.TemporaryDirectory() as folder:
                part = f"{versions.EVIDENCE}/{evidence.DISTRIBUTIONS}"
                kept = versions.download_part(workspace, champion, part, Path(folder))
                if kept is not None:
                    wanted = drift.read_reference(kept)
    if wanted != there or not path.is_file():
        drift.write_reference(wanted, path)
    if champion is None:
        return "drift: no champion yet to compare with"
    if not wanted.distributions:
        return f"drift: version {champion}, the champion, says nothing of its data: nothing to compare with"
    return f"drift: to be compared with {_named(wanted)}, of version {champion}, the champion"


def record_quarantine(workspace: Workspace, data: DataVersion) -> int:
    """Fill the database's quarantine and reports/validation/quarantine/ with what was set aside; how many pictures."""
    table = workspace.reports / "validation" / "quarantine.parquet"
    engine = tables.connect(workspace.database_url)
    try:
        count = quarantine.record(engine, data.md5, table)
    finally:
        engine.dispose()
    quarantine_page.write_page(table, workspace.data, table.with_suffix(""), data.md5)
    return count


def log_docs(workspace: Workspace, data: DataVersion, again: bool) -> Docs | None:
    """Have MLflow show Data Docs of a data version, in a run of their own; None where there are none.

    Without `again` a run that there is for this data version is taken. Raises RegistryUnreachable.
    """
    site = data_docs.folder_of(workspace.reports / "validation" / "data_docs", data.md5)
    if not (site / data_docs.SUMMARY).is_file():
        return None
    said = json.loads((site / data_docs.SUMMARY).read_text())
    outcome = said["stopped"] or "; ".join(said["broken"]) or "every promise is kept"
    with versions.client_of(workspace) as client:
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
                client.log_text(run_id, data_docs.in_one_file(page), f"data_docs/{suite}.html")
            client.set_terminated(run_id, "FAILED" if said["stopped"] else "FINISHED")
    link = f"{mlflow_page(workspace)}/#/experiments/{experiment}/runs/{run_id}/artifacts/data_docs/pictures.html"
    return Docs(run_id, link, site, outcome)


def tag_training(workspace: Workspace, version: int, docs: Docs) -> None:
    """Let the run of a version's training name the Data Docs of its data. Raises RegistryUnreachable."""
    with versions.client_of(workspace) as client:
        run_id = client.get_model_version(versions.MODEL, str(version)).run_id
        if run_id:
            client.set_tag(run_id, "data_docs", docs.link)


def mlflow_page(workspace: Workspace) -> str:
    """Where MLflow's pages are; of a workspace's own store, where `photoproof mlflow` shows them."""
    uri = tracking.tracking_uri(workspace.root)
    return uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"


def _note(said: dict, outcome: str) -> str:
    """A run's description, in Markdown."""
    head = f"# Data version {said['version'][:12]}: {'stopped' if said['stopped'] else 'passed'}"
    count = f"{said['pictures']:,} pictures, {said['set_aside']:,} set aside."
    return f"{head}\n\n{count}\n\n{outcome}\n\nData Docs: the artifacts in `data_docs/`, a page for each suite.\n"


def _validated(workspace: Workspace) -> str | None:
    """The data version that the validate stage last passed on, by dvc.lock."""
    try:
        stage = yaml.safe_load((workspace.root / "dvc.lock").read_text())["stages"]["validate"]
        found = next(one["md5"] for one in stage["deps"] if one["path"] == "data")
    except (FileNotFoundError, KeyError, StopIteration, TypeError):
        return None
    return str(found).removesuffix(".dir")


def _named(reference: drift.Reference) -> str:
    return f"data version {reference.data_version[:12]}" if reference.data_version else "nothing: there was no champion"
