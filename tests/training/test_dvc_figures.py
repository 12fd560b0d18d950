"""DVC's own commands show the figures and curves of a model, and compare those of two commits."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from training.evaluate import evaluate
from training.fitting.learner import LOSSES

CURVES = {
    "loss": ("epoch", set(LOSSES)),
    "roc": ("false_accept_rate", {"known", "new"}),
    "det": ("false_accept_rate", {"known", "new"}),
    "reliability": ("predicted", {"observed"}),
}


def dvc(root: Path, *words: str) -> str:
    """Run DVC in a workspace; its standard output."""
    done = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def git(root: Path, *words: str) -> None:
    """Run git in a workspace, as somebody with a name."""
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, *words], cwd=root, capture_output=True, check=True)


@pytest.fixture(scope="module")
def root(evaluated, workspace_maker, tmp_path_factory):
    """A workspace whose last commit evaluates the model of the one before it for another false accept rate."""
    root = workspace_maker(tmp_path_factory.mktemp("compared") / "workspace").root
    for name in ("data", "models/autoencoder", "models/decision", "reports"):
        shutil.copytree(evaluated.root / name, root / name)
    losses = pd.DataFrame({"epoch": [1, 2, 3]} | {name: [0.9, 0.5, 0.4] for name in LOSSES})
    losses.to_csv(root / "models/autoencoder/losses.csv", index=False)
    dvc(root, "commit", "--force", "train", "evaluate")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "A model")
    settings = replace(evaluated.params.evaluate, false_accept_rate=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        evaluate(root, replace(evaluated.params, evaluate=settings))
    dvc(root, "commit", "--force", "evaluate")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "More wrong products may pass")
    return root


def test_metrics_show_prints_the_figures_that_decide(root):
    shown = json.loads(dvc(root, "metrics", "show", "--json"))
    (figures,) = (content["data"] for content in shown[""]["data"].values())
    metrics = json.loads((root / "reports/evaluation/metrics.json").read_text())
    assert figures["known"]["auc"] == metrics["known"]["auc"]
    assert figures["new"]["share_decided"] == metrics["new"]["share_decided"]
    assert figures["calibration"]["accept_at"] == metrics["calibration"]["accept_at"]
    numbers = [value for group in figures.values() for value in group.values()]
    assert len(numbers) == 17 and all(math.isfinite(value) for value in numbers)


def test_metrics_diff_compares_two_commits(root):
    (changes,) = json.loads(dvc(root, "metrics", "diff", "HEAD~1", "HEAD", "--json")).values()
    change = changes["calibration.accept_at"]
    assert change["new"] < change["old"]
    assert change["diff"] == pytest.approx(change["new"] - change["old"])


def test_exp_show_has_the_figures(root):
    rows = json.loads(dvc(root, "exp", "show", "--json"))
    figures = rows[0]["data"]["metrics"]["reports/evaluation/summary.json"]["data"]
    assert figures["known"].keys() >= {"auc", "eer", "tar_at_far_1pct", "top1"}


@pytest.mark.parametrize("name", CURVES)
def test_plots_show_has_the_curves(root, name):
    shown = json.loads(dvc(root, "plots", "show", "--json", name))
    (plot,) = shown["data"][name]
    points = plot["content"]["data"]["values"]
    x, columns = CURVES[name]
    assert "errors" not in shown and plot["content"]["encoding"]["x"]["field"] == x
    assert {point.get("field", "observed") for point in points} == columns
    assert all(0 <= float(point[name]) <= 1 for point in points for name in columns)


def test_plots_diff_draws_both_commits_into_one_page(root):
    dvc(root, "plots", "diff", "HEAD~1", "HEAD", "--out", "both")
    page = (root / "both" / "index.html").read_text()
    assert '"rev": "HEAD~1"' in page and '"rev": "HEAD"' in page
    for plot in yaml.safe_load((root / "dvc.yaml").read_text())["plots"]:
        ((name, definition),) = plot.items()
        assert definition["title"] in page
        assert f"vegaEmbed('#{name}'" in page


def test_the_curves_are_those_that_were_measured(root):
    metrics = json.loads((root / "reports/evaluation/metrics.json").read_text())
    roc = pd.read_csv(root / "reports/evaluation/roc.csv", index_col="false_accept_rate")
    det = pd.read_csv(root / "reports/evaluation/det.csv", index_col="false_accept_rate")
    for group in ("known", "new"):
        assert roc[group].loc[0.01] == pytest.approx(metrics[group]["tar_at_far_1pct"], abs=1e-5)
        assert roc[group].is_monotonic_increasing and roc[group].iloc[-1] == 1
        assert det[group].to_numpy() == pytest.approx(1 - roc[group].to_numpy(), abs=1e-5)
    assert len(roc) < 300
    bins = pd.read_csv(root / "reports/evaluation/reliability.csv")
    error = (bins.share * (bins.predicted - bins.observed).abs()).sum()
    assert error == pytest.approx(metrics["calibration"]["expected_calibration_error"], abs=1e-4)
