"""The MLflow run that the stages of one training share, and the versions that it names.

Importing MLflow takes seconds, so it is imported where it is first needed.
"""

import json
import logging
import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import yaml

from training.stage.params import Params
from training.stage.places import DATA_VERSION, MLFLOW, RUN

EXPERIMENT = "photoproof"
RESUMES = "photoproof.resumes"
"""Tag: the id that run.json names, where that run is unknown to this tracking server."""


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, or else SQLite in the workspace's .photoproof/mlflow/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / MLFLOW / 'mlflow.db'}"


def data_version(root: Path) -> str | None:
    """The md5 of data/ in data.dvc without its ".dir"; None where there is no data.dvc."""
    try:
        outs = yaml.safe_load((root / DATA_VERSION).read_text())["outs"]
    except (FileNotFoundError, KeyError, TypeError):
        return None
    return str(outs[0]["md5"]).removesuffix(".dir")


def git_commit(root: Path) -> str | None:
    """The workspace's HEAD; None outside a git repository."""
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip() or None


def flat(params: Params) -> dict[str, object]:
    """Params as MLflow takes them: {"train.seed": 1, …}."""
    return {f"{stage}.{key}": value for stage, values in asdict(params).items() for key, value in values.items()}


def setup(root: Path) -> ModuleType:
    """MLflow, pointed at the workspace's tracking store, with its experiment selected; creates what is missing."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    uri, given = tracking_uri(root), os.environ.get("MLFLOW_TRACKING_URI")
    store = root.resolve() / MLFLOW
    store.mkdir(parents=True, exist_ok=True)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    if given is None:  # MLflow sets it, and then it would look like a person's choice, in every workspace
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        local = uri == f"sqlite:///{store / 'mlflow.db'}"
        try:
            mlflow.create_experiment(EXPERIMENT, artifact_location=(store / "artifacts").as_uri() if local else None)
        except mlflow.MlflowException:
            if mlflow.get_experiment_by_name(EXPERIMENT) is None:  # else another process created it in the meantime
                raise
    mlflow.set_experiment(EXPERIMENT)
    return mlflow


@contextmanager
def run(
    root: Path, resume: bool, run_id: str | None = None, tags: Mapping[str, str] | None = None
) -> Generator[str, None, None]:
    """An MLflow run for the `with` block; gives its id.

    With `resume` it is the run that models/autoencoder/run.json names (or `run_id`), or, where this
    tracking store doesn't know that run (the model came from elsewhere), a run that stands in for it. Without,
    it is a new run. Every run is tagged with data_version and git_commit. It ends FINISHED, FAILED after an
    error, KILLED after SIGTERM or Ctrl-C.
    """
    mlflow = setup(root)
    wanted = run_id
    if resume and wanted is None:
        wanted = json.loads((root / RUN).read_text())["run_id"]
    existing = _known(mlflow, wanted) if resume and wanted else None
    active = mlflow.start_run(run_id=existing) if existing else mlflow.start_run()
    all_tags = {"data_version": data_version(root), "git_commit": git_commit(root), **(tags or {})}
    if resume and wanted and existing is None:
        all_tags[RESUMES] = wanted
    if existing is None:
        mlflow.set_tags({key: value for key, value in all_tags.items() if value})
    status = "FINISHED"
    try:
        yield active.info.run_id
    except Exception:
        status = "FAILED"
        raise
    except BaseException:
        status = "KILLED"
        raise
    finally:
        mlflow.end_run(status)


def _known(mlflow: ModuleType, run_id: str) -> str | None:
    try:
        if mlflow.get_run(run_id).info.lifecycle_stage == "active":
            return run_id
    except mlflow.MlflowException:
        pass
    standing_in = mlflow.search_runs(
        filter_string=f"tags.`{RESUMES}` = '{run_id}'", output_format="list", max_results=1
    )
    return standing_in[0].info.run_id if standing_in else None
