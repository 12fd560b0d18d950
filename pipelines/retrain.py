"""The retrain flow: from the product database to a model version that may be promoted.

    database --ingest--> data/ --validate--> train --> evaluate --> export --> candidate? --> MLflow version

Every stage runs as dvc.yaml states it, and only where something that it depends on has changed: a run that was killed
goes on where it stopped when it is started again, and a run on unchanged data trains nothing and registers nothing.
"""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from pipelines.candidate.decide import decide_on_version, find_kept_decision
from pipelines.candidate.decision import CandidateDecision
from pipelines.candidate.report import tabulate_against_champion
from pipelines.data import history, ingest, quarantine_page, versioning
from pipelines.database.engine import opened
from pipelines.orchestration.run_log import log_line
from pipelines.registry import data_docs, drift_reference, register
from pipelines.registry.connection import RegistryUnreachable
from pipelines.registry.pages import run_link
from pipelines.registry.versions import MODEL, Registered
from pipelines.stages import stage_process
from pipelines.stages.cancelling import finish_cancelled, watch_for_cancellation
from pipelines.stages.stage_process import StageFailed, StageRun
from pipelines.workspace import lock
from pipelines.workspace.params import check_params
from pipelines.workspace.places import Workspace
from pipelines.workspace.settings import Settings
from training.stage.places import REFERENCE


@dataclass(frozen=True)
class Retraining:
    """The outcome of a retraining."""

    data_version: str
    """md5 of data/."""
    model_id: str
    version: int
    """In MLflow."""
    new: bool
    """False where the model was a version already."""
    challenger: bool
    """Whether the version may challenge the champion."""
    lines: tuple[str, ...]
    """One for each stage and one for the decision, for a person."""


@flow(name="retrain", on_failure=[finish_cancelled])
def retrain(root: Path, from_database: bool = True) -> Retraining:
    """Ingest, validate, train, evaluate, export, register: each step only where something is new.

    Args:
        root: the workspace.
        from_database: ingest the product database; otherwise take the data that data.dvc names.

    Raises BadInput, StageFailed, StageStopped, WorkspaceBusy: each with one line for a person.
    """
    workspace = Workspace.at(root, Settings())
    check_params(workspace.params)
    with lock.exclusive_workspace(workspace):
        data = ingest_pictures(workspace) if from_database else pull_data(workspace)
        update_drift_reference(workspace, data)
        try:
            validated = run_stage(workspace, "validate")
        except StageFailed:
            with contextlib.suppress(RegistryUnreachable):  # the stage's own error is what a person must know
                show_validation(workspace, data, rebuild=True)
            raise
        docs = show_validation(workspace, data, rebuild=validated.ran)
        commit_data(workspace, data)
        trained = run_stage(workspace, "train")
        evaluated = run_stage(workspace, "evaluate")
        exported = run_stage(workspace, "export")
        commit_run(workspace)
        push_data(workspace)
        registered = register_model(workspace, docs)
        decision = decide_candidacy(workspace, registered)
        return summarise(workspace, data, docs, [validated, trained, evaluated, exported], registered, decision)


@task
def ingest_pictures(workspace: Workspace) -> versioning.DataVersion:
    """Bring data/ to the product database's labelled pictures, and data.dvc to data/."""
    started = time.monotonic()
    with opened(workspace.database_url) as engine:
        report = ingest.ingest(engine, workspace.data)
    data = versioning.add_data(workspace)
    log_line(f"ingest: {report} in {time.monotonic() - started:.0f} s -> {data}")
    return data


@task
def pull_data(workspace: Workspace) -> versioning.DataVersion:
    """Bring data/ to the version that data.dvc names."""
    versioning.pull_data(workspace)
    data = versioning.read_version(workspace)
    assert data is not None, "pull_data refuses a workspace without data.dvc"
    log_line(f"data: as data.dvc has it -> {data}")
    return data


@task
def update_drift_reference(workspace: Workspace, data: versioning.DataVersion) -> None:
    """Bring reference.json, which drift is measured against, to the champion's data, where the data is new."""
    log_line(drift_reference.update_drift_reference(workspace, data))


@task
def show_validation(workspace: Workspace, data: versioning.DataVersion, rebuild: bool) -> data_docs.Docs | None:
    """Write the page of the quarantine, and leave Data Docs in MLflow with a link to them in Prefect.

    `rebuild`: although this data version has some.
    """
    count = quarantine_page.record_quarantine(workspace, data)
    if count:
        page = workspace.reports / "validation" / "quarantine" / "index.html"
        log_line(f"quarantine: {count:,} pictures -> {page}; `photoproof data quarantine` lists them")
    docs = data_docs.log_docs(workspace, data, rebuild)
    if docs:
        create_link_artifact(
            link=docs.link,
            link_text=f"Data Docs of data version {data.md5[:12]}",
            key="data-docs",
            description=f"{docs.outcome}\n\nThe same on disk: `{docs.folder / 'index.html'}`",
        )
    return docs


@task(task_run_name="{stage}")
def run_stage(workspace: Workspace, stage: str) -> StageRun:
    """Run one stage of dvc.yaml, until its end or until the run is cancelled."""
    run = stage_process.run_stage(workspace, stage, stopped=watch_for_cancellation())
    log_line(run.line)
    return run


@task
def commit_data(workspace: Workspace, data: versioning.DataVersion) -> None:
    """Commit data.dvc, now that the data has passed validation, with a tag and what changed."""
    history.commit(workspace, data)


@task
def commit_run(workspace: Workspace) -> None:
    """Commit dvc.lock and the files that the model was made from."""
    versioning.commit(workspace, ["dvc.lock", "params.yaml", str(REFERENCE)], "Retrain: stages as run")


@task(retries=2, retry_delay_seconds=5)
def push_data(workspace: Workspace) -> None:
    """Push the data to the store, from which other machines pull this version."""
    versioning.push_data(workspace)


@task(retries=1, retry_delay_seconds=2)
def register_model(workspace: Workspace, docs: data_docs.Docs | None) -> Registered:
    """Register the exported model, unless it is a version already; its run names the Data Docs of its data."""
    registered = register.register_model(workspace)
    if docs:
        data_docs.tag_training(workspace, registered.version, docs)
    if registered.new:
        log_line(f"register: {MODEL} version {registered.version}, model {registered.model_id}")
    else:
        log_line(f"register: nothing new, model {registered.model_id} is version {registered.version} already")
    return registered


@task
def decide_candidacy(workspace: Workspace, registered: Registered) -> CandidateDecision:
    """Decide whether the version may challenge the champion, unless that has been decided."""
    decision = find_kept_decision(workspace, registered) or decide_on_version(workspace, registered)
    log_line(f"candidate: {decision}")
    return decision


@task
def summarise(
    workspace: Workspace,
    data: versioning.DataVersion,
    docs: data_docs.Docs | None,
    runs: list[StageRun],
    registered: Registered,
    decision: CandidateDecision,
) -> Retraining:
    """Leave the run's outcome as an artifact in Prefect, and return it as the flow's value."""
    lines = [*(run.line for run in runs), f"candidate: {decision}"]
    create_markdown_artifact(
        "\n".join(
            [
                f"# {MODEL} version {registered.version}: {decision.standing}",
                "",
                *(f"- {line}" for line in lines),
                "",
                *tabulate_against_champion(workspace, registered.version, decision.champion),
                "",
                "## Look further",
                "",
                f"- [the run in MLflow, with its pictures]({run_link(workspace)})",
                f"- the report: `{workspace.reports / 'evaluation' / 'report.html'}`",
                *([f"- [Data Docs in MLflow]({docs.link}), on disk `{docs.folder / 'index.html'}`"] if docs else []),
                f"- the decision: `{workspace.reports / 'candidate' / 'decision.md'}`",
            ]
        ),
        key="retraining",
        description=f"Data version {data.md5[:12]}",
    )
    return Retraining(
        data.md5, registered.model_id, registered.version, registered.new, decision.accepted, tuple(lines)
    )
