"""What the retrain flow does around validation, with a real MLflow registry."""

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
from pipelines.database.engine import connect
from pipelines.registry import data_docs, drift_reference, versions
from training.dataset.manifest import SCHEMA, write_manifest
from training.stage.errors import BadInput
from training.stage.params import Params, Validate
from training.validate import validate
from training.validation import drift

NEW = DataVersion("fedcba9876543210", 5, 100)
DISTRIBUTIONS = {"light": drift.describe(np.linspace(0, 1, 11))}


@pytest.fixture
def championed(measured, workspace):
    """A champion, version 1, that says how its data (version d1) are distributed."""
    (workspace.reports / "validation").mkdir(parents=True)
    drift.write_reference(drift.Reference("d1", DISTRIBUTIONS), workspace.root / drift.DISTRIBUTIONS)
    measured("m-one", 0.8)
    versions.promote(workspace, 1)
    return workspace


def reference(workspace) -> drift.Reference:
    return drift.read_reference(workspace.root / drift.REFERENCE)


def test_without_a_champion_the_reference_is_an_empty_file(workspace):
    assert drift_reference.take_reference(workspace, NEW) == "drift: no champion yet to compare with"
    assert reference(workspace) == drift.Reference(None, {})


def test_new_data_is_compared_with_the_champions(championed):
    said = drift_reference.take_reference(championed, NEW)
    assert said == "drift: to be compared with data version d1, of version 1, the champion"
    assert reference(championed) == drift.Reference("d1", DISTRIBUTIONS)


def test_data_that_is_validated_keeps_its_reference_whoever_becomes_champion(championed):
    drift_reference.take_reference(championed, NEW)
    lock = f"stages:\n  validate:\n    deps:\n    - {{path: data, md5: {NEW.md5}.dir}}\n"
    (championed.root / "dvc.lock").write_text(lock)
    versions.set_tags(championed, 1, {"data_version": "d2"})
    assert "compared with data version d1" in drift_reference.take_reference(championed, NEW)
    assert drift_reference.take_reference(championed, dataclasses.replace(NEW, md5="0")).startswith(
        "drift: to be compared"
    )


def test_a_champion_that_keeps_no_distributions_is_told(register, workspace):
    register("m-one")
    versions.promote(workspace, 1)
    assert "version 1, the champion, says nothing of its data" in drift_reference.take_reference(workspace, NEW)


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
        path.write_bytes(out.getvalue() if picture_id != "a2" else b"no picture")
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
    docs = data_docs.log_docs(validated, NEW, again=True)
    (run,) = runs()
    assert docs and docs.link.endswith(f"/runs/{run.info.run_id}/artifacts/data_docs/pictures.html")
    assert (run.info.status, run.data.tags["data_version"]) == ("FINISHED", NEW.md5)
    assert run.data.metrics == {"pictures": 4, "set_aside": 1}
    pages = mlflow.MlflowClient().list_artifacts(run.info.run_id, "data_docs")
    assert [one.path for one in pages] == [
        f"data_docs/{suite}.html" for suite in ("altogether", "leakage", "pictures", "structure")
    ]


def test_data_docs_of_a_version_that_was_stopped_are_a_failed_run_that_says_why(validated):
    with pytest.raises(BadInput):
        validate(validated.root, Params())
    docs = data_docs.log_docs(validated, NEW, again=True)
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert docs and "25.0% of the pictures are set aside" in docs.outcome
    assert docs.outcome in run.data.tags["mlflow.note.content"]


def test_a_page_in_mlflow_needs_no_other_file(validated):
    validate(validated.root, dataclasses.replace(Params(), validate=Validate(max_quarantine_share=0.5)))
    docs = data_docs.log_docs(validated, NEW, again=True)
    assert docs
    html = load_text(f"runs:/{docs.run_id}/data_docs/pictures.html")
    assert "A picture decodes." in html and "a2" in html
    without_scripts = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", html, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)[^\"']+", without_scripts)


def test_nothing_new_is_not_logged_again(validated):
    validate(validated.root, dataclasses.replace(Params(), validate=Validate(max_quarantine_share=0.5)))
    first = data_docs.log_docs(validated, NEW, again=True)
    assert data_docs.log_docs(validated, NEW, again=False) == first
    assert len(runs()) == 1


def test_the_flow_fills_the_databases_quarantine_and_the_folder_of_thumbnails(validated):
    with pytest.raises(BadInput):
        validate(validated.root, Params())
    assert quarantine_page.record_quarantine(validated, NEW) == 1
    engine = connect(validated.database_url)
    try:
        assert [one.picture_id for one in quarantine.list_set_aside(engine, NEW.md5)] == ["a2"]
    finally:
        engine.dispose()
    assert "photo a2" in (validated.reports / "validation" / "quarantine" / "index.html").read_text()
    assert len(pq.read_table(validated.reports / "validation" / "quarantine.parquet")) == 1


def test_the_trainings_run_names_the_data_docs_of_its_data(register, workspace):
    made = register("m-one")
    data_docs.tag_training(workspace, made.version, data_docs.Docs("r", "http://here", workspace.root, ""))
    run_id = mlflow.MlflowClient().get_model_version(versions.MODEL, "1").run_id
    assert run_id and mlflow.get_run(run_id).data.tags["data_docs"] == "http://here"
