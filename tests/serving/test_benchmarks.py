import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.growth import Scratch
from benchmarks.model import draw_pairs, export_model
from benchmarks.server import running
from benchmarks.timing import Measurement
from photoproof import Verifier
from training.stage.params import read_params

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.mark.slow
def test_the_benchmarks_measure_a_server_that_is_there(
    model_server, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(PARAMS.parent)
    words = ["--server", model_server.grpc_url, "--rest", model_server.rest_url, "--model", str(toy_model)]
    assert main([*words, "--scale", "0.01", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "serving.json").read_text())
    of_the_model = {f"{part}, {toy_model.name}" for part in ("decode", "latency", "throughput")}
    assert {row["part"] for row in report["rows"]} == {"client", *of_the_model}
    written, printed = (tmp_path / "serving.md").read_text(), capsys.readouterr().out
    assert all(row["measured"] in written and row["measured"] in printed for row in report["rows"])


def test_the_growing_catalogue_is_of_pictures_that_differ(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "growth")
    scratch.grow(20)
    scratch.grow(45)
    ballast = np.ones(100_000_000)  # 800 MB that are this process's, not ingest's
    assert 50 < scratch.ingest().megabytes < 600
    del ballast
    pictures = [path.read_bytes() for path in (tmp_path / "growth" / "data").glob("*s/*")]
    assert (len(pictures), len(set(pictures))) == (45, 45)
    scratch.add()
    scratch.commit()
    log = subprocess.run(["git", "log", "-1", "--format=%s"], cwd=scratch.root, capture_output=True, text=True)
    assert log.stdout.startswith("Data version ")


@pytest.mark.slow
def test_the_model_of_the_benchmarks_is_served_by_the_server_that_they_start(tmp_path: Path) -> None:
    model = export_model(tmp_path / "model", read_params(PARAMS))
    pair = draw_pairs(1, 21_000)[0]
    with (
        running(model, tmp_path / "server", batching=True) as (grpc, rest),
        Verifier(grpc) as by_grpc,
        Verifier(rest) as by_rest,
    ):
        assert by_grpc.verify(*pair).probability == by_rest.verify(*pair).probability is not None


@pytest.mark.parametrize(("value", "at", "reached"), [(1.1, "most", True), (1.2, "most", False), (0.9, "least", False)])
def test_a_target_is_reached_or_missed(value: float, at, reached: bool) -> None:
    assert Measurement("decode", "what", "measured", value, 1.1, at).reached is reached
