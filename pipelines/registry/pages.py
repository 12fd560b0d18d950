"""Addresses of pages in MLflow."""

import json

from pipelines.workspace.places import Workspace
from training.stage import tracking


def run_link(workspace: Workspace) -> str:
    """The training's run in MLflow's page; of a workspace's own store, where `photoproof mlflow` shows it."""
    run_id = json.loads((workspace.models / "autoencoder" / "run.json").read_text())["run_id"]
    mlflow = tracking.setup(workspace.root)
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    return f"{mlflow_page(workspace)}/#/experiments/{experiment.experiment_id}/runs/{run_id}"


def mlflow_page(workspace: Workspace) -> str:
    """Where MLflow's pages are; of a workspace's own store, where `photoproof mlflow` shows them."""
    uri = tracking.tracking_uri(workspace.root)
    return uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
