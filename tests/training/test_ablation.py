import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.ablation import FIGURES, ROWS, AblationResult, _model_of, ablation, as_markdown
from training.model.autoencoder import FACTS
from training.stage.errors import BadInput
from training.stage.params import Params, read_params


def test_every_row_is_of_params_that_exist(tmp_path: Path) -> None:
    for encoder, rows in yaml.safe_load(ROWS.read_text()).items():
        assert next(iter(rows.values())) == {}
        for changes in rows.values():
            wanted: dict = {"train": {"encoder": encoder}}
            for key, value in changes.items():
                part, name = key.split(".")
                wanted.setdefault(part, {})[name] = value
            (tmp_path / "params.yaml").write_text(yaml.safe_dump(wanted))
            read_params(tmp_path / "params.yaml")


def test_every_row_of_the_documented_table_is_one_that_the_command_makes() -> None:
    lines = (ROWS.parents[1] / "docs/ablation.md").read_text().splitlines()
    names = [line.split(" | ")[0].strip("| *") for line in lines if line.startswith("| ")][1:]
    assert len(names) > 10
    assert set(names) <= yaml.safe_load(ROWS.read_text())["efficientnet_lite0"].keys()


def test_the_table_has_mean_and_half_the_range_and_keeps_what_failed() -> None:
    figures = [(0.9,) * len(FIGURES), (0.8,) * len(FIGURES)]
    table = as_markdown(
        {
            "good": [AblationResult(of_seed, minutes=3.0) for of_seed in figures],
            "bad": [AblationResult(error="latents collapsed")],
        },
        [1, 2],
    )
    assert "| good | 3 | 0.850 ± 0.050 |" in table
    assert "| bad | failed: latents collapsed |" in table


def test_a_row_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    with pytest.raises(BadInput, match="no reconstruction"):
        ablation(tmp_path, [1], ["no such row"])


def test_a_model_of_other_pictures_is_not_used(tmp_path: Path) -> None:
    accepted = tmp_path / "reports/validation/accepted.parquet"
    accepted.parent.mkdir(parents=True)
    accepted.write_text("these")

    def made(model: Path) -> Path:
        model.mkdir(parents=True)
        (model / FACTS).write_text(json.dumps({"train": dataclasses.asdict(Params().train)}))
        return model

    rows = tmp_path / ".photoproof/ablation"
    made(rows / "others/row/models/autoencoder")
    workspaces = made(tmp_path / "models/autoencoder")
    assert _model_of(tmp_path, rows / "these/row", Params()) is None
    for contents, used in (("others", None), ("these", workspaces)):
        md5 = hashlib.md5(contents.encode(), usedforsecurity=False).hexdigest()
        deps = [{"path": "reports/validation/accepted.parquet", "hash": "md5", "md5": md5}]
        (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train": {"deps": deps}}}))
        assert _model_of(tmp_path, rows / "these/row", Params()) == used
    another = made(rows / "these/another/models/autoencoder")
    assert _model_of(tmp_path, rows / "these/row", Params()) == another


@pytest.mark.slow
def test_rows_are_trained_once_and_evaluated(evaluated, tmp_path: Path) -> None:
    for part in ("data", "reports/validation"):
        shutil.copytree(evaluated.root / part, tmp_path / part)
    train = dataclasses.replace(evaluated.params.train, epochs=2, products_per_step=4)
    evaluate = dataclasses.replace(evaluated.params.evaluate, bootstrap=2, baseline_epochs=0)
    params = dataclasses.replace(evaluated.params, train=train, evaluate=evaluate)
    (tmp_path / "params.yaml").write_text(json.dumps(dataclasses.asdict(params)))
    rows = ["as set", "plain cosine, no cohort"]
    (tmp_path / "data").rename(tmp_path / "away")
    assert "| as set | failed: " in ablation(tmp_path, [1], rows[:1])
    (tmp_path / "data").rmdir()  # an empty one was made for it
    (tmp_path / "away").rename(tmp_path / "data")
    table = ablation(tmp_path, [1], rows)
    first, second = (line.split(" | ") for line in table.splitlines()[-2:])
    assert first[0] == "| as set"
    assert first[1] != ""
    assert second[1] == ""  # the same model, judged otherwise
    assert first[2:] != second[2:]
    assert ablation(tmp_path, [1], rows) == table
    assert (tmp_path / "reports/ablation.md").read_text() == table
    (tmp_path / "reports/validation/accepted.parquet").write_text("other pictures")
    assert "| as set | failed: " in ablation(tmp_path, [1], rows[:1])
