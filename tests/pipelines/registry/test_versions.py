"""Versions and aliases in a real MLflow registry (SQLite, and once a server)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pandas as pd
import pytest

from pipelines.registry import artifacts, connection, versions
from pipelines.registry.register import register_model
from pipelines.workspace.ports import free_port
from training.saved_model import assets
from training.stage.errors import BadInput


def test_a_model_becomes_version_1(register):
    registered = register("m-one")
    assert (registered.version, registered.model_id, registered.new) == (1, "m-one", True)


def test_registering_the_same_model_twice_gives_one_version(register):
    first, second = register("m-one"), register("m-one")
    assert (second.version, second.new) == (first.version, False)


def test_another_model_becomes_the_next_version(register):
    assert [register(name).version for name in ("m-one", "m-two", "m-one")] == [1, 2, 1]


def test_the_exported_folder_comes_back_byte_for_byte(register, workspace, tmp_path):
    version = register("m-one").version
    before = assets.folder_sha256(workspace.models / "saved_model")
    fetched = artifacts.download(workspace, version, tmp_path / "fetched")
    assert assets.folder_sha256(fetched) == before == versions.tags_of(workspace, 1)["saved_model_sha256"]


def test_the_folders_digest_is_what_sha256sum_says(register, workspace):
    register("m-one")
    folder = workspace.models / "saved_model"
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    assert assets.folder_sha256(folder) == done.stdout.split()[0]


def test_a_versions_tags_say_where_it_comes_from_and_how_good_it_is(register, workspace):
    register("m-one", auc=0.93)
    tags = versions.tags_of(workspace, 1)
    assert tags["known.auc"] == "0.93"
    assert tags["data_version"] == "d1"
    assert (tags["accept_at"], tags["reject_at"]) == ("0.9", "0.5")
    assert len(tags["params_sha256"]) == 64


def test_a_version_belongs_to_the_run_that_trained_it(register, workspace):
    import mlflow

    register("m-one")
    run = json.loads((workspace.models / "autoencoder" / "run.json").read_text())
    assert mlflow.MlflowClient().get_model_version(versions.MODEL, "1").run_id == run["run_id"]


def test_the_pyfunc_answers_for_pairs_of_image_bytes(register, workspace):
    import mlflow

    register("m-one")
    versions.promote(workspace, 1)
    model = mlflow.pyfunc.load_model("models:/product-encoder@champion")
    pairs = pd.DataFrame({"original_bytes": [b"a", b"a", b"bad"], "photo_bytes": [b"a", b"c", b"a"]})
    answers = model.predict(pairs)
    assert list(answers.outcome) == ["match", "mismatch", "review"]
    assert list(answers.decoded) == [True, True, False]
    assert set(answers.columns) == {"similarity", "probability", "outcome", "decoded", "model_id"}


def test_without_an_exported_model_it_says_what_to_run(workspace):
    with pytest.raises(BadInput, match="dvc repro export"):
        register_model(workspace)


def test_promoting_moves_the_alias_and_names_what_it_named_before(register, workspace):
    register("m-one")
    register("m-two")
    assert versions.promote(workspace, 1).previous is None
    assert versions.promote(workspace, 2).previous == 1
    assert versions.versions_by_alias(workspace) == {"champion": 2}


def test_an_alias_can_be_promoted_by_name(register, workspace):
    register("m-one")
    versions.promote(workspace, 1, "challenger")
    assert versions.promote(workspace, "challenger").version == 1
    assert versions.versions_by_alias(workspace) == {"champion": 1, "challenger": 1}


def test_promoting_a_version_that_does_not_exist_names_those_that_do(register, workspace):
    register("m-one")
    with pytest.raises(versions.VersionNotFound, match="has no version 7; its versions: 1") as error:
        versions.promote(workspace, 7)
    assert error.value.exit_code == 7


def test_promoting_an_alias_that_does_not_exist_names_those_that_do(register, workspace):
    register("m-one")
    versions.promote(workspace, 1)
    with pytest.raises(versions.VersionNotFound, match=r"no alias 'nobody'; its aliases: champion \(version 1\)"):
        versions.promote(workspace, "nobody")


def test_an_empty_registry_has_no_aliases(workspace):
    assert versions.versions_by_alias(workspace) == {}


def test_an_unreachable_server_is_one_line(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        connection.RegistryUnreachable, match=r"MLflow at http://127.0.0.1:\d+ does not answer"
    ) as error:
        versions.versions_by_alias(workspace)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 6


def test_the_data_version_is_the_runs_dataset(register, workspace):
    import mlflow

    register("m-one")
    client = mlflow.MlflowClient()
    run = client.get_run(client.get_model_version(versions.MODEL, "1").run_id or "")
    assert run.inputs
    (logged,) = run.inputs.dataset_inputs
    assert (logged.dataset.digest, logged.tags[0].value) == ("d1", "training")


def test_a_version_keeps_its_held_out_pairs_and_which_pictures_trained(measured, workspace, tmp_path):
    kept = artifacts.download_part(workspace, measured("m-one", 0.8).version, artifacts.EVIDENCE, tmp_path / "kept")
    assert kept is not None
    assert set(pd.read_parquet(kept / "pairs.parquet").split) == {"test"}
    assert {"train", "test"} <= set(pd.read_parquet(kept / "pictures.parquet").split)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that no authority knows, and its key."""
    path, key = tmp_path / "own.pem", tmp_path / "own.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", "/CN=mlflow", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    return path, key


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # for MLFLOW_TRACKING_INSECURE_TLS
def test_a_real_server_behind_a_companys_certificate_takes_and_gives_back_the_same_bytes(
    workspace, tmp_path, monkeypatch, register, empty_store, certificate
):
    path, key = certificate
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    words += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "art"),
        "--uvicorn-opts",
        f"--ssl-certfile {path} --ssl-keyfile {key}",
    ]
    with (tmp_path / "log").open("wb") as log:
        quick = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path, env=quick)
    try:
        uri = f"https://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while not _answers(uri):
            assert time.monotonic() < deadline and server.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(connection.RegistryUnreachable, match=r"does not answer: .*CERTIFICATE_VERIFY_FAILED"):
            versions.versions_by_alias(workspace)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        assert versions.versions_by_alias(workspace) == {}
        monkeypatch.delenv("MLFLOW_TRACKING_INSECURE_TLS")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(path))
        version = register("m-one").version
        versions.promote(workspace, version)
        assert versions.versions_by_alias(workspace) == {"champion": 1}
        fetched = artifacts.download(workspace, version, tmp_path / "fetched")
        assert assets.folder_sha256(fetched) == assets.folder_sha256(workspace.models / "saved_model")
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # asked to end, it waits for TLS connections that are kept alive
        server.wait(30)


def _answers(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", timeout=2, verify=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_missing_bundle_of_certificates_is_one_line(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://127.0.0.1:{free_port()}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(workspace.root / "none.pem"))
    with pytest.raises(
        connection.RegistryUnreachable, match=r"REQUESTS_CA_BUNDLE names .*none.pem, which does not exist"
    ):
        versions.versions_by_alias(workspace)
