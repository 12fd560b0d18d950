"""The retrain flow: from the product database to a model version that may be promoted.

    database --ingest--> data/ --validate--> train --> evaluate --> export --> candidate? --> MLflow version

Every stage runs as dvc.yaml states it, and only where something that it depends on has changed, so a run that was
killed goes on where it stopped, and a run without anything new trains nothing and registers nothing.
"""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_run
from prefect.states import Cancelled

from pipelines.candidate import decide as candidate
from pipelines.data import history, ingest, versioning
from pipelines.database import tables
from pipelines.registry import data_docs
from pipelines.registry import register as registration
from pipelines.registry import versions as registry
from pipelines.stages import stage_process
from pipelines.workspace.places import Workspace
from training.stage import tracking
from training.validation import drift

CANCELLATION_SECONDS = 3
"""How often a running stage asks Prefect whether its run was cancelled."""


@dataclass(frozen=True)
class Retraining:
    """What a retraining came to."""

    data_version: str
    model_id: str
    version: int
    new: bool
    challenger: bool
    lines: tuple[str, ...]


def finish_cancelled(flow: Any, flow_run: FlowRun, state: State) -> None:
    """Give a run whose stage was stopped the state that was asked for."""
    if isinstance(state.result(raise_on_failure=False), stage_process.StageStopped):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run.id, Cancelled(message="Cancelled; its stage was stopped."), force=True)


@flow(name="retrain", on_failure=[finish_cancelled])
def retrain(root: Path, from_database: bool = True) -> Retraining:
    """Ingest, validate, train, evaluate, export, register: each step only where something is new.

    Args:
        root: the workspace.
        from_database: ingest the product database; otherwise take the data that data.dvc names.

    Raises BadInput, StageFailed, StageStopped, WorkspaceBusy: each with one line for a person.
    """
    workspace = Workspace(root)
    with stage_process.only_one(workspace):
        data = ingest_pictures(workspace) if from_database else pull_data(workspace)
        take_reference(workspace, data)
        try:
            validated = run_stage(workspace, "validate")
        except stage_process.StageFailed:
            with contextlib.suppress(registry.RegistryUnreachable):  # what stopped the stage is what a person must know
                show_validation(workspace, data, again=True)
            raise
        docs = show_validation(workspace, data, again=validated.ran)
        commit_data(workspace, data)
        trained = run_stage(workspace, "train")
        evaluated = run_stage(workspace, "evaluate")
        exported = run_stage(workspace, "export")
        commit_run(workspace)
        push_data(workspace)
        registered = register(workspace, docs)
        decision = decide(workspace, registered)
        return summarise(workspace, data, docs, [validated, trained, evaluated, exported], registered, decision)


@task
def ingest_pictures(workspace: Workspace) -> versioning.DataVersion:
    """Bring data/ to what the product database has, and data.dvc to data/."""
    started = time.monotonic()
    engine = tables.connect(workspace.database_url)
    try:
        report = ingest.ingest(engine, workspace.data)
    finally:
        engine.dispose()
    data = versioning.add_data(workspace)
    say(f"ingest: {report} in {time.monotonic() - started:.0f} s -> {data}")
    return data


@task
def pull_data(workspace: Workspace) -> versioning.DataVersion:
    """Bring data/ to what data.dvc says."""
    versioning.pull_data(workspace)
    data = versioning.read_version(workspace)
    assert data is not None, "pull_data refuses a workspace without data.dvc"
    say(f"data: as data.dvc has it -> {data}")
    return data


@task
def take_reference(workspace: Workspace, data: versioning.DataVersion) -> None:
    """Have reference.json say how the champion's data are distributed, where the data is new."""
    say(data_docs.take_reference(workspace, data))


@task
def show_validation(workspace: Workspace, data: versioning.DataVersion, again: bool) -> data_docs.Docs | None:
    """Put what was set aside where people look, and Data Docs into MLflow with a link to them in Prefect."""
    count = data_docs.record_quarantine(workspace, data)
    if count:
        page = workspace.reports / "validation" / "quarantine" / "index.html"
        say(f"quarantine: {count:,} pictures -> {page}; `photoproof data quarantine` lists them")
    docs = data_docs.log_docs(workspace, data, again)
    if docs:
        create_link_artifact(
            link=docs.link,
            link_text=f"Data Docs of data version {data.md5[:12]}",
            key="data-docs",
            description=f"{docs.outcome}\n\nThe same on disk: `{docs.folder / 'index.html'}`",
        )
    return docs


@task(task_run_name="{stage}")
def run_stage(workspace: Workspace, stage: str) -> stage_process.StageRun:
    """Run one stage of dvc.yaml."""
    run = stage_process.run_stage(workspace, stage, stopped=_cancelled())
    say(run.line)
    return run


@task
def commit_data(workspace: Workspace, data: versioning.DataVersion) -> None:
    """Commit data.dvc, now that the data has passed validation, with a tag and what changed."""
    history.commit(workspace, data)


@task
def commit_run(workspace: Workspace) -> None:
    """Commit what the model was made of."""
    versioning.commit(workspace, ["dvc.lock", "params.yaml", str(drift.REFERENCE)], "Retrain: stages as run")


@task(retries=2, retry_delay_seconds=5)
def push_data(workspace: Workspace) -> None:
    """Push the data to the store, so that another machine can have this version."""
    versioning.push_data(workspace)


@task(retries=1, retry_delay_seconds=2)
def register(workspace: Workspace, docs: data_docs.Docs | None) -> registry.Registered:
    """Register the exported model, unless it is a version already; its run names the Data Docs of its data."""
    registered = registration.register(workspace)
    if docs:
        data_docs.tag_training(workspace, registered.version, docs)
    if registered.new:
        say(f"register: {registry.MODEL} version {registered.version}, model {registered.model_id}")
    else:
        say(f"register: nothing new, model {registered.model_id} is version {registered.version} already")
    return registered


@task
def decide(workspace: Workspace, registered: registry.Registered) -> candidate.Decision:
    """Decide whether the version may challenge the champion, unless that has been decided."""
    decision = candidate.known(workspace, registered) or candidate.decide(workspace, registered)
    say(f"candidate: {decision}")
    return decision


@task
def summarise(
    workspace: Workspace,
    data: versioning.DataVersion,
    docs: data_docs.Docs | None,
    runs: list[stage_process.StageRun],
    registered: registry.Registered,
    decision: candidate.Decision,
) -> Retraining:
    """Leave the run's outcome where people look: as an artifact in Prefect, and as the flow's value."""
    lines = [*(run.line for run in runs), f"candidate: {decision}"]
    create_markdown_artifact(
        "\n".join(
            [
                f"# {registry.MODEL} version {registered.version}: {decision.standing}",
                "",
                *(f"- {line}" for line in lines),
                "",
                *beside_champion(workspace, registered.version, decision.champion),
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


def beside_champion(workspace: Workspace, version: int, champion: int | None) -> list[str]:
    """A Markdown table of a version's headline figures beside the champion's, where there is another champion."""
    found = {one.version: one.tags for one in registry.all_versions(workspace)}
    mine, theirs = found[version], found.get(champion or 0, {})
    names = sorted(name for name in mine if name.startswith(("known.", "new.")))
    title = f"champion, version {champion}" if champion else "no other champion"
    rows = [f"| {name} | {mine[name]} | {theirs.get(name, '')} |" for name in names]
    return [f"| figure | version {version} | {title} |", "|---|---|---|", *rows]


def run_link(workspace: Workspace) -> str:
    """The training's run in MLflow's page; of a workspace's own store, where `photoproof mlflow` shows it."""
    run_id = json.loads((workspace.models / "autoencoder" / "run.json").read_text())["run_id"]
    mlflow = tracking.setup(workspace.root)
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    return f"{data_docs.mlflow_page(workspace)}/#/experiments/{experiment.experiment_id}/runs/{run_id}"


def say(line: str) -> None:
    """One line for the person at the terminal and for the run's log."""
    print(line, flush=True)
    get_run_logger().info(line)


def _cancelled() -> Callable[[], bool]:
    run_id = UUID(this_run.get_id())
    asked = time.monotonic()

    def cancelled() -> bool:
        nonlocal asked
        if time.monotonic() - asked < CANCELLATION_SECONDS:
            return False
        asked = time.monotonic()
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run_id).state
        return state is not None and (state.is_cancelling() or state.is_cancelled())

    return cancelled
