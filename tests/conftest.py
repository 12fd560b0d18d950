"""What tests of several parts share: workspaces as clones of this checkout, and one with a small model.

The model is an untrained encoder (colours get through it) that was evaluated and exported on drawn products.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageDraw

from pipelines.workspace.lock import exclusive
from pipelines.workspace.places import Workspace
from training.dataset.manifest import SCHEMA
from training.stage.params import Evaluate, Params, Split, Train

CHECKOUT = Path(__file__).resolve().parents[1]
WORKSPACE_FILES = (
    "training",
    "dvc.yaml",
    "params.yaml",
    "params.default.yaml",
    "reference.json",
    ".dvc",
    ".dvcignore",
    ".gitignore",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first, so that of two processes neither waits for it in the end."""
    items.sort(key=lambda item: item.path.name != "test_whole_way.py")


@pytest.fixture(autouse=True)
def no_outside_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests may name a team's servers; tests must not write there."""
    for name in list(os.environ):
        if name.startswith("PHOTOPROOF_") or name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_HOME"):
            monkeypatch.delenv(name)


def make_workspace(root: Path, params: dict | None = None) -> Workspace:
    """A git repository with what a clone of this checkout has, uncommitted changes included."""
    root.mkdir(parents=True)
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *WORKSPACE_FILES],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in files.stdout.splitlines():
        if name.startswith(".dvc/sample/") or not (CHECKOUT / name).is_file():
            continue
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, root / name)
    if params is not None:
        (root / "params.yaml").write_text(yaml.safe_dump(params))
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "A workspace")
    return Workspace(root.resolve())


def git(root: Path, *words: str) -> str:
    """Run git in a repository, as somebody with a name."""
    who = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *who, *words], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace with the committed params."""
    return make_workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def workspace_maker() -> Callable[..., Workspace]:
    """make_workspace, for fixtures that live longer than a test."""
    return make_workspace


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample catalogue, as the command draws it: once for all processes of a test run, so leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sample"
    with exclusive(folder.with_suffix(".lock")):
        if not (folder / "photos.csv").is_file():
            subprocess.run([sys.executable, "-m", "photoproof", "sample", str(folder)], check=True, capture_output=True)
    return folder


PRODUCTS, PHOTOS = 10, 12


@dataclass(frozen=True)
class Evaluated:
    """A workspace after evaluate and export, and the params that it was made with."""

    root: Path
    params: Params


def draw_product(product: int, shot: int | None) -> Image.Image:
    """A package of the product's own two colours; a photo (shot given) shifts, dims and clutters it."""
    generator = np.random.default_rng(product)
    first, second = ([int(level) for level in generator.integers(0, 256, 3)] for _ in range(2))
    conditions = np.random.default_rng((-1 if shot is None else shot) + 1000 * product + 1)
    picture = Image.new("RGB", (96, 80), "white" if shot is None else "gray")
    draw = ImageDraw.Draw(picture)
    x, y = (0, 0) if shot is None else conditions.integers(-8, 9, 2)
    draw.rectangle([24 + x, 10 + y, 72 + x, 70 + y], fill=tuple(first))
    draw.ellipse([34 + x, 24 + y, 62 + x, 52 + y], fill=tuple(second))
    if shot is None:
        return picture
    light = conditions.uniform(0.7, 1.1)
    noisy = np.asarray(picture, np.float32) * light + conditions.normal(0, 6, (80, 96, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_data(root: Path) -> None:
    """data/ and reports/validation/accepted.parquet of the drawn products, two a category."""
    rows = []
    for product in range(PRODUCTS):
        product_id = f"product-{product:02}"
        columns = {"product_id": product_id, "name": f"Product {product}", "category": f"Category {product // 2}"}
        for shot in (None, *range(PHOTOS)):
            role = "original" if shot is None else "photo"
            picture_id = product_id if shot is None else f"{product_id}_{shot:03}"
            path = root / "data" / f"{role}s" / f"{picture_id}.{'png' if shot is None else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_product(product, shot).save(path)
            rows.append(
                columns
                | {
                    "role": role,
                    "picture_id": picture_id,
                    "path": str(path.relative_to(root / "data")),
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "scene": None if shot is None else f"{product_id}/{shot // 2}",
                }
            )
    accepted = root / "reports/validation/accepted.parquet"
    accepted.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), accepted)


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Ten drawn products through an untrained encoder (colours get through it), evaluated and exported."""
    from training.evaluate import evaluate
    from training.export import export
    from training.model.autoencoder import build, save

    root = tmp_path_factory.mktemp("evaluated")
    write_data(root)
    params = Params(
        split=Split(salt="drawn", new_products=0.4),
        train=Train(image_size=32, latent_size=16, decoded_size=16),
        evaluate=Evaluate(bootstrap=20, baseline_epochs=1),
    )
    autoencoder = build(params.train)
    folder = root / "models/autoencoder"
    save(autoencoder, folder)
    (folder / "run.json").write_text(json.dumps({"run_id": "0" * 32, "experiment": "photoproof"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        evaluate(root, params)
    export(root, params)
    return Evaluated(root, params)
