"""Data Docs in a real MLflow, and the quarantine, after a validation."""

import dataclasses
import io
import re

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.artifacts import load_text
from PIL import Image

from pipelines.data import quarantine, quarantine_page
from pipelines.data.versioning import DataVersion
from pipelines.database.engine import opened
from pipelines.registry import data_docs, versions
from training.dataset.manifest import SCHEMA, write_manifest
from training.stage.errors import BadInput
from training.stage.params import Params, Validate
from training.validate import validate

NEW = DataVersion("fedcba9876543210", 5, 100)


@pytest.fixture
def validated(workspace):
    """A workspace whose data of version NEW has an original, two photos and one that does not decode."""
    rows = []
    for number, (role, picture_id) in enumerate([("original", "a"), *(("photo", f"a{shot}") for shot in range(3))]):
        path = workspace.data / f"{picture_id}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(out, "JPEG")
        path.write_bytes(out.getvalue() if picture_id != "a2" else b"not a picture")
        row = {
            "role": role,
            "picture_id": picture_id,
            "product_id": "a",
            "name": "A",
            "category": "",
            "path": path.name,
        }
        rows.append(row | {"sha256": str(number), "label_source": "import" if role == "photo" else None})
    write_manifest(pa.Table.from_pylist(rows, SCHEMA), workspace.data / "manifest.parquet")
    (workspace.root / "data.dvc").write_text(f"outs:\n- md5: {NEW.md5}.dir\n  path: data\n")
    return workspace


def runs() -> list:
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(data_docs.EXPERIMENT)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def test_data_docs_of_a_version_that_passed_are_a_run_in_mlflow_with_a_page_for_each_suite(validated):
    validate(validated.root, dataclasses.replace(Params(), validate=Validate(max_quarantine_share=0.5)))
    docs = data_docs.log_docs(validated, NEW, rebuild=True)
    (run,) = runs()
    assert docs and docs.link.endswith(f"/runs/{run.info.run_id}/artifacts/data_docs/pictures.html")
    assert (run.info.status, run.data.tags["data_version"]) == ("FINISHED", NEW.md5)
    assert run.data.metrics == {"pictures": 4, "set_aside": 1}
    pages = mlflow.MlflowClient().list_artifacts(run.info.run_id, "data_docs")
    assert [page.path for page in pages] == [
        f"data_docs/{suite}.html" for suite in ("altogether", "leakage", "pictures", "structure")
    ]


def test_data_docs_of_a_version_that_was_stopped_are_a_failed_run_that_says_why(validated):
    with pytest.raises(BadInput):
        validate(validated.root, Params())
    docs = data_docs.log_docs(validated, NEW, rebuild=True)
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert docs and "25.0% of the pictures are set aside" in docs.outcome
    assert docs.outcome in run.data.tags["mlflow.note.content"]


def test_a_page_in_mlflow_needs_no_other_file(validated):
    validate(validated.root, dataclasses.replace(Params(), validate=Validate(max_quarantine_share=0.5)))
    docs = data_docs.log_docs(validated, NEW, rebuild=True)
    assert docs
    html = load_text(f"runs:/{docs.run_id}/data_docs/pictures.html")
    assert "A picture decodes." in html and "a2" in html
    without_scripts = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", html, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)[^\"']+", without_scripts)


def test_nothing_new_is_not_logged_again(validated):
    validate(validated.root, dataclasses.replace(Params(), validate=Validate(max_quarantine_share=0.5)))
    first = data_docs.log_docs(validated, NEW, rebuild=True)
    assert data_docs.log_docs(validated, NEW, rebuild=False) == first
    assert len(runs()) == 1


def test_the_flow_fills_the_databases_quarantine_and_the_folder_of_thumbnails(validated):
    with pytest.raises(BadInput):
        validate(validated.root, Params())
    assert quarantine_page.record_quarantine(validated, NEW) == 1
    with opened(validated.database_url) as engine:
        assert [picture.picture_id for picture in quarantine.list_set_aside(engine, NEW.md5)] == ["a2"]
    assert "photo a2" in (validated.reports / "validation" / "quarantine" / "index.html").read_text()
    assert len(pq.read_table(validated.reports / "validation" / "quarantine.parquet")) == 1


def test_the_trainings_run_names_the_data_docs_of_its_data(register, workspace):
    registered = register("m-one")
    data_docs.tag_training(workspace, registered.version, data_docs.Docs("r", "http://here", workspace.root, ""))
    run_id = mlflow.MlflowClient().get_model_version(versions.MODEL, "1").run_id
    assert run_id and mlflow.get_run(run_id).data.tags["data_docs"] == "http://here"
