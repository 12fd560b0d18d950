"""From a folder of pictures to a verdict, on six products and a few seconds of training, as a user would go."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from photoproof.pictures.prepare import prepare
from pipelines.demo.demo import unseen_claims
from pipelines.stages import stage_process
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from training.dataset.manifest import read_manifest
from training.saved_model import loading

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[2]

PARAMS: dict[str, dict] = {
    "split": {"salt": "six-0", "validation": 0.3, "test": 0.3, "new_products": 0.34},
    "validate": {"max_quarantine_share": 0.05},
    "workers": {"processes": 2},
    "train": {"epochs": 4, "products_per_step": 4, "latent_size": 32, "validate_every": 0},
    "evaluate": {"bootstrap": 20, "baseline_epochs": 1},
    "export": {"max_pixels": 25_000_000},
    "candidate": {"min_auc": 0.0, "min_new_auc": 0.0, "max_eer": 1.0, "min_share_decided": 0.0},
}

LEVELS = 16
"""Of 255, by which a pixel may differ where another kind of processor drew it: 10 of 288 photos did, by up to 5."""


def photoproof(
    workspace: Workspace, *words: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would; whatever its outcome, it prints no traceback."""
    completed = subprocess.run(
        [sys.executable, "-m", "photoproof", *words],
        cwd=workspace.root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert completed.returncode == code, (
        f"{words} ended with {completed.returncode}:\n{completed.stdout}\n{completed.stderr}"
    )
    assert "Traceback" not in completed.stderr
    assert "database is locked" not in completed.stderr
    return completed


def one_line(completed: subprocess.CompletedProcess[str]) -> str:
    lines = completed.stderr.splitlines()
    assert len(lines) == 1, completed.stderr
    return lines[0]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The first six products of the sample, and what was taken of them."""
    folder = tmp_path_factory.mktemp("catalogue") / "sample"
    shutil.copytree(sample, folder)
    with open(folder / "catalogue.csv", newline="") as file:
        products = list(csv.DictReader(file))[:6]
    product_ids = {row["product_id"] for row in products}
    with open(folder / "photos.csv", newline="") as file:
        photos = [
            row for row in csv.DictReader(file) if (row["product_id"] or row["claimed_product_id"]) in product_ids
        ]
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


@pytest.fixture(scope="module")
def server(trained: Workspace) -> Iterator[str]:
    """The address of the workspace's model server with version 1 promoted, started as a user would."""
    photoproof(trained, "promote", "1")
    photoproof(trained, "deploy")
    port = free_port()
    words = ["serve", "--port", str(port), "--rest-port", str(free_port())]
    process = subprocess.Popen([sys.executable, "-m", "photoproof", *words], cwd=trained.root, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        assert b"serve: " in process.stdout.readline()
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_a_retraining_leaves_data_model_report_and_commits(trained: Workspace) -> None:
    for file in (
        "data/manifest.parquet",
        "reports/validation/data_docs/index.html",
        "reports/evaluation/report.html",
        "models/saved_model/saved_model.pb",
    ):
        assert (trained.root / file).is_file(), file
    subjects = git(trained, "log", "--format=%s").splitlines()
    assert [subject.split(":")[0].split(" ")[0] for subject in subjects] == ["Retrain", "Data", "A"]
    assert git(trained, "status", "--porcelain") == ""
    assert list((trained.state / "store").rglob("*.dir"))


def test_nothing_new_trains_nothing_and_registers_nothing(trained: Workspace) -> None:
    head = git(trained, "rev-parse", "HEAD")
    outcome = json.loads(photoproof(trained, "retrain", "--json").stdout)
    assert not outcome["new"]
    assert outcome["version"] == 1
    nothing_new = [f"{stage}: nothing new" for stage in ("validate", "train", "evaluate", "export")]
    assert outcome["lines"][:4] == nothing_new
    assert git(trained, "rev-parse", "HEAD") == head


def test_a_promoted_version_answers_for_claims_on_unseen_photos(trained: Workspace, server: str) -> None:
    codes = {"match": 0, "mismatch": 3, "review": 4}
    for claim in unseen_claims(trained, pairs=2):
        words = ["verify", "--server", server, "--json", str(claim.original), str(claim.photo)]
        completed = subprocess.run([sys.executable, "-m", "photoproof", *words], capture_output=True, text=True)
        verdict = json.loads(completed.stdout)
        assert completed.returncode == codes[verdict["outcome"]]
        assert verdict["model_version"] == 1
        assert verdict["reject_at"] <= verdict["accept_at"]


def test_reduction_before_upload_moves_no_score_by_a_hundredth(trained: Workspace) -> None:
    """Photos of 3,000 pixels, once as they are and once as the client sends them."""
    claims = unseen_claims(trained, pairs=6)
    whole = []
    for claim in claims:
        enlarged = io.BytesIO()
        Image.open(claim.photo).convert("RGB").resize((3000, 2250), Image.Resampling.BICUBIC).save(enlarged, "JPEG")
        whole.append(enlarged.getvalue())
    small = [prepare(photo).image_bytes for photo in whole]
    assert all(max(Image.open(io.BytesIO(photo)).size) <= 1024 for photo in small)
    originals = np.array([Path(claim.original).read_bytes() for claim in claims], object)
    with loading.load(trained.models / "saved_model", threads=1) as model:
        full, reduced = (
            model.run("verify", {"original_bytes": originals, "photo_bytes": np.array(photos, object)})
            for photos in (whole, small)
        )
    assert full["decoded"].all() and reduced["decoded"].all()
    moves = {score: np.abs(full[score] - reduced[score]).max() for score in ("similarity", "probability")}
    assert max(moves.values()) < 0.01, moves


def test_the_catalogue_picture_itself_is_identical(trained: Workspace, server: str) -> None:
    claim = unseen_claims(trained, pairs=1)[0]
    photoproof(trained, "verify", "--server", server, str(claim.original), str(claim.original), code=5)


def test_a_model_left_by_hand_is_registered_and_its_version_is_the_next(copied: Workspace) -> None:
    other_params = PARAMS | {"evaluate": PARAMS["evaluate"] | {"prior_match": 0.5}}
    copied.params.write_text(yaml.safe_dump(other_params))
    dvc = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    subprocess.run(dvc, cwd=copied.root, env=stage_process.stage_environment(copied), check=True, capture_output=True)
    outcome = json.loads(photoproof(copied, "retrain", "--json").stdout)
    assert outcome["lines"][0] == "validate: nothing new"
    assert outcome["lines"][3] == "export: nothing new"
    assert (outcome["new"], outcome["version"]) == (True, 2)
    assert git(copied, "status", "--porcelain") == ""


def test_a_retraining_killed_in_training_ends_in_the_same_state_when_started_again(copied: Workspace) -> None:
    copied.params.write_text(yaml.safe_dump(PARAMS | {"train": PARAMS["train"] | {"seed": 2, "epochs": 200}}))
    process = subprocess.Popen([sys.executable, "-m", "photoproof", "retrain"], cwd=copied.root, stderr=subprocess.PIPE)
    wait_until(lambda: training_in(copied))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not training_in(copied))
    copied.params.write_text(yaml.safe_dump(PARAMS | {"train": PARAMS["train"] | {"seed": 2}}))
    outcome = json.loads(photoproof(copied, "retrain", "--json").stdout)
    assert outcome["new"]
    assert git(copied, "status", "--porcelain") == ""


def test_a_second_retraining_is_refused_and_one_cancelled_in_prefect_stops(copied: Workspace) -> None:
    copied.params.write_text(yaml.safe_dump(PARAMS | {"train": PARAMS["train"] | {"seed": 3, "epochs": 2000}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "photoproof", "retrain"], cwd=copied.root, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: training_in(copied))
    busy = one_line(photoproof(copied, "retrain", code=2))
    assert busy.startswith(f"photoproof: a retraining runs on {copied.root} already (process ")
    url = (copied.state / "prefect" / "server.pid").read_text().split()[1]
    runs = httpx.post(f"{url}/flow_runs/filter", json={"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}).json()
    assert len(runs) == 1
    cancel = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    httpx.post(f"{url}/flow_runs/{runs[0]['id']}/set_state", json=cancel).raise_for_status()
    cancelled = time.monotonic()
    wait_until(lambda: not training_in(copied), seconds=30)
    assert time.monotonic() - cancelled < 30
    lines = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert lines[-1] == "photoproof: train: stopped before its end, because the run was cancelled"
    assert not json.loads((copied.root / ".dvc" / "tmp" / "rwlock").read_text() or "{}")


def test_a_clone_pulls_and_validates_the_sample_without_any_server(tmp_path: Path, catalogue: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(tmp_path / "clone")], check=True)
    clone = Workspace(tmp_path / "clone")
    for words in (["pull", "--quiet", "data.dvc"], ["repro", "--quiet", "--single-item", "validate"]):
        dvc = [sys.executable, "-m", "dvc", *words]
        subprocess.run(dvc, cwd=clone.root, env=stage_process.stage_environment(clone), check=True, capture_output=True)
    assert git(clone, "status", "--porcelain") == "?? dvc.lock\n"
    drawn = {path.stem: path for path in catalogue.rglob("*.jpg")}
    pulled = read_manifest(clone.data / "manifest.parquet")
    assert len(pulled) == 24 * 13
    for path, picture_id in zip(pulled.path, pulled.picture_id, strict=True):
        difference = np.abs(pixels(clone.data / path) - pixels(drawn[picture_id]))
        assert difference.max() <= LEVELS and difference.mean() < 0.05, (
            f"{picture_id} of data.dvc is not what `photoproof sample` draws: see docs/decisions/0005"
        )


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.int16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "nowhere"], "nowhere"),
        (["retrain"], "photoproof import"),
        (["retrain", "--no-ingest"], "data.dvc"),
        (["params", "use", "nosuch"], "default"),
        (["serve"], "photoproof promote"),
    ],
)
def test_what_a_person_got_wrong_is_one_line_and_exit_code_2(
    workspace: Workspace, words: list[str], message: str
) -> None:
    assert message in one_line(photoproof(workspace, *words, code=2))


def test_a_database_that_cannot_be_reached_is_one_line_without_its_password(workspace: Workspace) -> None:
    url = f"postgresql://audit:secret@127.0.0.1:{free_port()}/products"
    line = one_line(photoproof(workspace, "retrain", code=2, PHOTOPROOF_DATABASE_URL=url))
    assert "127.0.0.1" in line
    assert "secret" not in line


def test_an_unknown_key_in_params_is_one_line_before_anything_starts(workspace: Workspace) -> None:
    workspace.params.write_text("train: {epoch: 3}\n")
    line = one_line(photoproof(workspace, "retrain", code=2))
    assert line == f"photoproof: {workspace.params}: unknown key train.epoch; the nearest known one is epochs"
    assert not (workspace.state / "prefect").exists()


def git(workspace: Workspace, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=workspace.root, capture_output=True, text=True, check=True).stdout


def training_in(workspace: Workspace) -> bool:
    """Whether a training process works in the workspace."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"training.train" in words and Path(os.readlink(entry / "cwd")) == workspace.root:
                    return True
            except OSError:
                continue
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
