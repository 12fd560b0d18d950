"""Workspaces with a small exported model, registered in an MLflow of their own."""

import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from PIL import Image

from pipelines import database, registration, registry
from pipelines.deploy import Deployment, deploy
from pipelines.prefect_server import free_port
from pipelines.registry import Registered
from pipelines.serve import RunningServer, running_server
from pipelines.workspace import Workspace
from training import saved_model, tracking
from training.config import Split
from training.manifest import assign_splits

Register = Callable[..., Registered]


@pytest.fixture(autouse=True)
def no_server_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's model server may listen on the default port of this machine."""
    monkeypatch.setenv("PHOTOPROOF_SERVER", f"grpc://localhost:{free_port()}")


@pytest.fixture
def ask_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PHOTOPROOF_SERVER: deploy asks the servers that `serve` has started."""
    monkeypatch.delenv("PHOTOPROOF_SERVER")


def picture(seed: int) -> bytes:
    """A JPEG of 48 by 48 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(name="picture")
def picture_maker() -> Callable[[int], bytes]:
    return picture


@pytest.fixture
def put_claims() -> Callable[..., None]:
    """A product and so many photos that claim to show it, into a workspace's database: put_claims(workspace, count)."""

    def put(workspace: Workspace, count: int, at: datetime | None = None) -> None:
        engine = database.connect(workspace.database_url)
        with database.transaction(engine) as connection:
            product = {"product_id": "p", "name": "P", "image_bytes": picture(1), "sha256": "s"}
            connection.execute(sa.insert(database.products).values(product))
            for number in range(count):
                photo = picture(number + 2)
                row = {"photo_id": f"p-{number}", "claimed_product_id": "p", "image_bytes": photo}
                row |= {"sha256": hashlib.sha256(photo).hexdigest(), "updated_at": at or datetime.now(UTC)}
                connection.execute(sa.insert(database.photos).values(row))
        engine.dispose()

    return put


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small model of tests/serving/conftest.py as export leaves a model, with another model_id each."""
    path = Path(__file__).parents[2] / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("small_model", path)
    assert spec and spec.loader
    small_model = importlib.util.module_from_spec(spec)
    sys.modules["small_model"] = small_model
    spec.loader.exec_module(small_model)
    folder = tmp_path_factory.mktemp("exported")

    def export(model_id: str) -> Path:
        if (folder / model_id).exists():
            return folder / model_id
        made = small_model.export_model(folder / f".{model_id}", model_id)
        pair = {"original_bytes": picture(1), "photo_bytes": picture(2)}
        with saved_model.load(made, threads=1) as model:
            scores = model.run("verify", {name: np.array([value], object) for name, value in pair.items()})
        golden = {name: base64.b64encode(value).decode() for name, value in pair.items()}
        golden |= {name: float(scores[name][0]) for name in ("similarity", "distance", "probability")}
        figures = {"auc": 0.97, "eer": 0.05, "share_decided": 0.5}
        facts = {"model_id": model_id, "accept_at": 0.9, "reject_at": 0.5, "data_version": "d1", "params": {}}
        extra = made / "assets.extra"
        extra.mkdir()
        (extra / "golden.json").write_text(json.dumps({"tolerance": 1e-4, "pairs": [golden]}))
        (extra / "model.json").write_text(json.dumps(facts | {"metrics": {"known": figures}}))
        return made.rename(folder / model_id)

    return export


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a row of ours: making them takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    logging.getLogger("alembic").setLevel(logging.WARNING)
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def quietly(workspace: Workspace, **options) -> Deployment:
    """Deploy without a word. The small model's `decoded` knows no pictures, and proving takes a server's start."""
    return deploy(workspace, **{"say": lambda line: None, "prove": lambda *_: None} | options)


@pytest.fixture(name="quietly", scope="session")
def deploy_quietly() -> Callable[..., Deployment]:
    return quietly


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path) -> Workspace:
    """An empty workspace with default params."""
    return make_workspace(tmp_path / "workspace", empty_store)


def make_workspace(root: Path, empty_store: Path) -> Workspace:
    (root / ".photoproof" / "mlflow").mkdir(parents=True)
    shutil.copyfile(empty_store, root / ".photoproof" / "mlflow" / "mlflow.db")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "params.yaml").write_text("{}\n")
    return Workspace(root)


@pytest.fixture
def register(workspace: Workspace, exported: Callable[[str], Path]) -> Register:
    """Export and register a model; `figures` replace those of known products, `spoil` changes the folder first."""
    return registering(workspace, exported)


@pytest.fixture
def measured(workspace: Workspace, register: Register) -> Register:
    """Register a model that decided so many of its held-out pairs: measured(model_id, decided)."""

    def made(model_id: str, decided: float, **options) -> Registered:
        measure(workspace, decided)
        return register(model_id, **options)

    return made


@pytest.fixture
def register_real(workspace: Workspace, evaluated) -> Callable[[], Registered]:
    """Register a real exported model, which passes its proof."""

    def made() -> Registered:
        put(workspace, evaluated.root / "models" / "saved_model", {}, lambda folder: None)
        return registration.register(workspace)

    return made


def registering(workspace: Workspace, exported: Callable[[str], Path]) -> Register:
    def made(model_id: str, spoil: Callable[[Path], object] = lambda folder: None, **figures: float) -> Registered:
        put(workspace, exported(model_id), figures, spoil)
        return registration.register(workspace)

    return made


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, exported: Callable[[str], Path]
) -> Iterator[tuple[Workspace, RunningServer, Register]]:
    """A workspace whose champion, version 1 (m-one), is served; version 2 (m-two) is registered."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PHOTOPROOF_SERVER", "PHOTOPROOF_DATABASE_URL", "MLFLOW_TRACKING_URI"):
            environment.delenv(name, raising=False)
        workspace = make_workspace(tmp_path_factory.mktemp("fleet") / "workspace", empty_store)
        register = registering(workspace, exported)
        for model_id in ("m-one", "m-two"):
            register(model_id)
        registry.promote(workspace, 1)
        environment.setenv("PHOTOPROOF_SERVER", f"grpc://localhost:{free_port()}")
        with small_disk(workspace.serving):
            quietly(workspace)
            with running_server(workspace) as server:
                yield workspace, server, register


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """The folder on a disk of 16 MB for the block, where mounting is allowed; an ordinary folder where not."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def measure(workspace: Workspace, decided: float = 0.8) -> None:
    """Leave reports/ as validation and evaluation do; `decided` of the genuine test pairs are accepted."""
    products = [f"p{number}" for number in range(12)]
    rows = [{"role": "original", "picture_id": one, "product_id": one} for one in products]
    rows += [
        {"role": "photo", "picture_id": f"{one}-{shot}", "product_id": one, "scene": f"{one}/{shot // 2}"}
        for one in products
        for shot in range(30)
    ]
    pictures = pd.DataFrame(rows).assign(name="", category="", label_source="import")
    pictures["path"] = pictures["sha256"] = pictures.picture_id
    for folder in ("validation", "evaluation"):
        (workspace.reports / folder).mkdir(parents=True, exist_ok=True)
    pictures.to_parquet(workspace.reports / "validation" / "accepted.parquet")
    photos = assign_splits(pictures, Split()).query("role == 'photo' and split == 'test'")
    pairs = photos.merge(pd.DataFrame({"claimed_product_id": products}), how="cross")
    genuine = pairs.product_id == pairs.claimed_product_id
    turn = np.arange(len(pairs)) // len(products) % 10 / 10
    chance = np.where(genuine, np.where(turn < decided, 0.99, 0.7), 0.1).astype(np.float32)
    pairs = pairs.assign(photo_id=pairs.picture_id, genuine=genuine, probability=chance)
    columns = ["photo_id", "claimed_product_id", "product_id", "split", "known", "probability", "genuine"]
    pairs[columns].to_parquet(workspace.reports / "evaluation" / "pairs.parquet")


def put(workspace: Workspace, model: Path, figures: dict[str, float], spoil: Callable[[Path], object]) -> None:
    """Leave the model where export does, and a run where train does."""
    folder = workspace.models / "saved_model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(model, folder)
    facts = json.loads((folder / "assets.extra" / "model.json").read_text())
    facts["metrics"]["known"] |= figures
    (folder / "assets.extra" / "model.json").write_text(json.dumps(facts))
    spoil(folder)
    run = workspace.models / "autoencoder" / "run.json"
    if not run.exists():
        run.parent.mkdir(parents=True)
        with tracking.run(workspace.root, resume=False) as run_id:
            run.write_text(json.dumps({"run_id": run_id, "experiment": tracking.EXPERIMENT}))
