import json
from pathlib import Path

import pytest

from training.stage import tracking
from training.stage.params import Params


def saved_run(root: Path, run_id: str) -> None:
    (root / "models/autoencoder").mkdir(parents=True)
    (root / "models/autoencoder/run.json").write_text(json.dumps({"run_id": run_id, "experiment": "photoproof"}))


def test_the_data_version_is_the_md5_in_data_dvc(tmp_path: Path) -> None:
    assert tracking.data_version(tmp_path) is None
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 22e3f61e52c0ba45334d973244efc155.dir\n  path: data\n")
    assert tracking.data_version(tmp_path) == "22e3f61e52c0ba45334d973244efc155"


def test_a_folder_outside_git_has_no_commit(tmp_path: Path) -> None:
    assert tracking.git_commit(tmp_path) is None


def test_a_team_s_tracking_server_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/.photoproof/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking.tracking_uri(tmp_path) == "http://mlflow:5000"


def test_params_are_flat_and_name_their_stage() -> None:
    assert tracking.flat(Params())["train.seed"] == 1


def test_stages_share_a_run_and_its_end_says_how_it_went(tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text("outs:\n- md5: abc.dir\n")
    with tracking.run(tmp_path, resume=False) as run_id:
        pass
    saved_run(tmp_path, run_id)
    import mlflow

    assert mlflow.get_run(run_id).data.tags["data_version"] == "abc"
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    with pytest.raises(ValueError, match="broken"), tracking.run(tmp_path, resume=True) as resumed:
        raise ValueError("broken")
    assert resumed == run_id
    assert mlflow.get_run(run_id).info.status == "FAILED"
    with pytest.raises(SystemExit), tracking.run(tmp_path, resume=True):
        raise SystemExit(143)
    assert mlflow.get_run(run_id).info.status == "KILLED"


def test_a_model_from_elsewhere_gets_one_run_that_stands_for_its_own(tmp_path: Path) -> None:
    saved_run(tmp_path, "0" * 32)
    with tracking.run(tmp_path, resume=True) as first:
        assert first != "0" * 32
    with tracking.run(tmp_path, resume=True) as second:
        assert second == first
