"""An exported model becomes a version in MLflow: its bytes unchanged, and all that a later reader needs beside them."""

import hashlib
import json
import subprocess
import tempfile
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pipelines.registry.artifacts import ARTIFACT, EVIDENCE
from pipelines.registry.connection import client_of
from pipelines.registry.evidence import write_evidence
from pipelines.registry.versions import MODEL, Registered
from pipelines.workspace.places import Workspace
from training.saved_model.assets import folder_sha256, golden_pairs, golden_pictures, read_facts
from training.stage import tracking
from training.stage.errors import BadInput
from training.stage.quiet import hushed


def register_model(workspace: Workspace) -> Registered:
    """Register models/saved_model, unchanged, unless its model_id is a version already.

    Raises BadInput where there is no exported model, RegistryUnreachable.
    """
    folder = workspace.models / "saved_model"
    facts = read_facts(folder)
    model_id = facts["model_id"]
    if not (workspace.models / "autoencoder" / "run.json").is_file():
        raise BadInput("models/autoencoder/run.json not found: run `dvc repro train` first")
    with client_of(workspace) as client:
        for known in client.search_model_versions(f"name = '{MODEL}' and tags.model_id = '{model_id}'"):
            return Registered(int(known.version), model_id, new=False)
        tags = version_tags(workspace, folder, facts)
        # MLflow loads what it logged once, and TensorFlow with it.
        with tempfile.TemporaryDirectory() as temporary, tracking.run(workspace.root, resume=True) as run_id, hushed():
            artifacts, evidence = {ARTIFACT: str(folder)}, Path(temporary, EVIDENCE)
            if write_evidence(workspace.reports, facts, evidence):
                artifacts[EVIDENCE] = str(evidence)
            logged = _log_model(folder, artifacts)
            _log_dataset(workspace, tags.get("data_version"))
        if not client.search_registered_models(f"name = '{MODEL}'"):
            client.create_registered_model(MODEL, description="Does this photo show that product?")
        # The tags come with the version, so that a version without its model_id never exists.
        created = client.create_model_version(
            MODEL, logged.model_uri, run_id=run_id, tags=tags, model_id=logged.model_id, await_creation_for=60
        )
        return Registered(int(created.version), model_id, new=True)


def version_tags(workspace: Workspace, folder: Path, facts: dict[str, Any]) -> dict[str, str]:
    """What a version says of itself: where it comes from, how good it is, and which bytes it is."""
    params = json.dumps(facts.get("params"), sort_keys=True)
    status = subprocess.run(
        ["git", "-C", str(workspace.root), "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    tags = {
        "model_id": facts["model_id"],
        "data_version": facts.get("data_version") or tracking.data_version(workspace.root),
        "git_commit": tracking.git_commit(workspace.root),
        "git_dirty": str(bool(status.stdout.strip())).lower(),
        "params_sha256": hashlib.sha256(params.encode()).hexdigest(),
        "saved_model_sha256": folder_sha256(folder),
        "accept_at": facts.get("accept_at"),
        "reject_at": facts.get("reject_at"),
    }
    for group, figures in (facts.get("metrics") or {}).items():
        tags |= {f"{group}.{name}": f"{value:.6g}" for name, value in figures.items()}
    return {name: str(value) for name, value in tags.items() if value is not None}


def _log_model(folder: Path, artifacts: dict[str, str]) -> Any:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    inputs: list[Any] = [ColSpec(DataType.binary, name) for name in ("original_bytes", "photo_bytes")]
    outputs: list[Any] = [
        ColSpec(DataType.float, "similarity"),
        ColSpec(DataType.float, "probability"),
        ColSpec(DataType.string, "outcome"),
        ColSpec(DataType.boolean, "decoded"),
        ColSpec(DataType.string, "model_id"),
    ]
    return mlflow.pyfunc.log_model(
        name=MODEL,
        python_model=str(Path(__file__).with_name("pyfunc_model.py")),
        artifacts=artifacts,
        signature=ModelSignature(Schema(inputs), Schema(outputs)),
        input_example=_example(folder),
        pip_requirements=[f"{name}=={version_of(name)}" for name in ("mlflow", "tensorflow", "numpy", "pandas")],
    )


def _log_dataset(workspace: Workspace, data_version: str | None) -> None:
    """The data version as the run's dataset: data.dvc says where its bytes are, the digest is its md5."""
    import mlflow
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    if data_version is None:
        return
    source = resolve_dataset_source(str(workspace.data))
    mlflow.log_input(MetaDataset(source, name="photoproof-data", digest=data_version), context="training")


def _example(folder: Path) -> Any:
    """The first golden pair, as the pyfunc takes it."""
    import pandas as pd

    try:
        original, photo = golden_pictures(golden_pairs(folder)[0])
    except (BadInput, IndexError):
        return None
    return pd.DataFrame({"original_bytes": [original], "photo_bytes": [photo]})
