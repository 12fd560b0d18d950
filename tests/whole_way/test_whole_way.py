"""From a folder of pictures to a verdict, on six products and a few seconds of training, as a user would go."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines import registry
from pipelines.demo import unseen_claims
from pipelines.prefect_server import free_port
from pipelines.workspace import Workspace

pytestmark = pytest.mark.slow

PARAMS = {
    "split": {"salt": "six", "validation": 0.3, "test": 0.3, "new_products": 0.34},
    "validate": {"workers": 2},
    "train": {"epochs": 4, "products_per_step": 4, "latent_size": 32, "validate_every": 0},
    "evaluate": {"bootstrap": 20},
    "candidate": {"min_auc": 0.0, "min_new_auc": 0.0, "max_eer": 1.0, "min_share_decided": 0.0},
}


def photoproof(workspace: Workspace, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would; whatever its outcome, nobody sees a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "photoproof", *words],
        cwd=workspace.root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "database is locked" not in done.stderr
    return done


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first six products of the sample, and what was taken of them."""
    from pipelines.sample import draw_sample

    folder = tmp_path_factory.mktemp("catalogue") / "sample"
    draw_sample(folder)
    with open(folder / "catalogue.csv", newline="") as file:
        products = list(csv.DictReader(file))[:6]
    kept = {row["product_id"] for row in products}
    with open(folder / "photos.csv", newline="") as file:
        photos = [row for row in csv.DictReader(file) if (row["product_id"] or row["claimed_product_id"]) in kept]
    for name, rows in (("catalogue.csv", products), ("photos.csv", photos)):
        with open(folder / name, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, workspace_maker: Callable[..., Workspace], catalogue: Path
) -> Workspace:
    """A workspace in which one retraining has run."""
    workspace = workspace_maker(tmp_path_factory.mktemp("whole") / "workspace", PARAMS)
    photoproof(workspace, "import", str(catalogue))
    photoproof(workspace, "retrain")
    return workspace


@pytest.fixture
def copied(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the trained workspace that a test may spoil."""
    shutil.copytree(trained.root, tmp_path / "copy", symlinks=True)
    return Workspace(tmp_path / "copy")


@pytest.fixture
def server(trained: Workspace) -> Iterator[str]:
    """The workspace's model server, as `photoproof serve` starts it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "photoproof", "serve", "--port", str(port), "--rest-port", str(free_port())],
        cwd=trained.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    address = f"grpc://127.0.0.1:{port}"
    try:
        wait_until(lambda: subprocess.run(
            [sys.executable, "-m", "photoproof", "status", "--server", address], capture_output=True
        ).returncode == 0)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_a_retraining_leaves_data_model_report_and_commits(trained: Workspace) -> None:
    for left in (
        "data/manifest.parquet",
        "reports/validation/data_docs/index.html",
        "reports/evaluation/report.html",
        "models/saved_model/saved_model.pb",
    ):
        assert (trained.root / left).is_file(), left
    said = subprocess.run(["git", "log", "--format=%s"], cwd=trained.root, capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in said.stdout.splitlines()][:2] == ["Retrain", said.stdout.splitlines()[1].split(":")[0]]
    assert "Data version" in said.stdout
    status = subprocess.run(["git", "status", "--porcelain"], cwd=trained.root, capture_output=True, text=True)
    assert status.stdout == ""
    assert list((trained.state / "store").rglob("*.dir"))


def test_nothing_new_trains_nothing_and_registers_nothing(trained: Workspace) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=trained.root, capture_output=True).stdout
    again = json.loads(photoproof(trained, "retrain", "--json").stdout)
    assert not again["new"]
    assert [line for line in again["lines"] if line.endswith("nothing new")] == [
        f"{stage}: nothing new" for stage in ("validate", "train", "evaluate", "export")
    ]
    assert subprocess.run(["git", "rev-parse", "HEAD"], cwd=trained.root, capture_output=True).stdout == head


def test_a_promoted_version_answers_for_claims_on_unseen_photos(trained: Workspace, server_deployed: str) -> None:
    for claim in unseen_claims(trained, pairs=2):
        done = subprocess.run(
            [sys.executable, "-m", "photoproof", "verify", "--server", server_deployed, "--json",
             str(claim.original), str(claim.photo)],
            capture_output=True, text=True,
        )
        verdict = json.loads(done.stdout)
        assert verdict["outcome"] in ("match", "mismatch", "review")
        assert done.returncode == {"match": 0, "mismatch": 3, "review": 4}[verdict["outcome"]]
        assert verdict["model_version"] == 1
        assert verdict["model_id"]


@pytest.fixture
def deployed(trained: Workspace) -> Workspace:
    photoproof(trained, "promote", "1")
    photoproof(trained, "deploy")
    return trained


@pytest.fixture
def server_deployed(deployed: Workspace, server: str) -> str:
    return server


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
