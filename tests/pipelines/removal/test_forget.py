"""Forgetting a picture: it is nowhere afterwards, and everything else is as it was."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from photoproof.command_line.cli import run
from pipelines.data import difference, history, versioning
from pipelines.data.ingest import ingest
from pipelines.database.engine import connect, snapshot, transaction
from pipelines.database.import_folder import import_folder
from pipelines.database.tables import audits, decisions, embeddings, photos, quarantine, quarantine_decisions, verdicts
from pipelines.removal.forget import forget
from pipelines.removal.gc import collect
from pipelines.workspace.places import Workspace
from training.dataset.manifest import read_manifest
from training.dataset.releases import read_released
from training.stage.errors import BadInput

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tests.pipelines.conftest import ImportFolder


def make_version(workspace: Workspace) -> versioning.DataVersion:
    """Ingest, commit and push, as a retraining does."""
    engine = connect(workspace.database_url)
    ingest(engine, workspace.data, progress=False)
    engine.dispose()
    version = versioning.add_data(workspace)
    history.commit(workspace, version)
    versioning.push_data(workspace)
    return version


@pytest.fixture(scope="module")
def two_versions(
    tmp_path_factory: pytest.TempPathFactory,
    workspace_maker: Callable[..., Workspace],
    folder_maker: Callable[[Path], ImportFolder],
) -> Path:
    """A folder with import/ (two products, two photos each) and a workspace/ of two versions: the second lacks p1-1."""
    base = tmp_path_factory.mktemp("two")
    workspace = workspace_maker(base / "workspace")
    engine = connect(workspace.database_url)
    import_folder(engine, folder_maker(base / "import").small(products=2, photos=2).root, progress=False)
    make_version(workspace)
    delete_photo(engine, "p1-1")
    engine.dispose()
    make_version(workspace)
    return base


def delete_photo(engine: Engine, photo_id: str) -> None:
    with transaction(engine) as connection:
        connection.execute(sa.delete(photos).where(photos.c.photo_id == photo_id))


@pytest.fixture
def folder(two_versions: Path, tmp_path: Path, folder_maker: Callable[[Path], ImportFolder]) -> ImportFolder:
    shutil.copytree(two_versions / "import", tmp_path / "import")
    return folder_maker(tmp_path / "import")


on_both_databases = pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def here(
    two_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Workspace:
    """A copy of that workspace, with a store of its own; on SQLite, or on PostgreSQL where a test asks for it."""
    shutil.copytree(two_versions / "workspace", tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    (workspace.root / ".dvc/config.local").write_text(f"['remote \"store\"']\n    url = {workspace.state / 'store'}\n")
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))
    if getattr(request, "param", "sqlite") == "postgresql":
        for file in workspace.state.glob("database.sqlite*"):
            file.unlink()
        monkeypatch.setenv("PHOTOPROOF_DATABASE_URL", request.getfixturevalue("postgres_url"))
        workspace = Workspace.here()
        engine = connect(workspace.database_url)
        import_folder(engine, two_versions / "import", progress=False)
        delete_photo(engine, "p1-1")
        engine.dispose()
    return workspace


def objects(workspace: Workspace) -> dict[str, bytes]:
    """Every file of the workspace but git's own, by its path."""
    skipped = {".git"}
    files = (path for path in workspace.root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(workspace.root)): path.read_bytes()
        for path in files
        if path.relative_to(workspace.root).parts[0] not in skipped
    }


def judge(workspace: Workspace, photo_id: str, product_id: str) -> None:
    """Leave a trace of the photo in every table that may name it."""
    engine = connect(workspace.database_url)
    with transaction(engine) as connection:
        sha256 = connection.scalar(sa.select(photos.c.sha256).where(photos.c.photo_id == photo_id))
        named = {"photo_id": photo_id, "model_id": "m", "claimed_product_id": product_id, "photo_sha256": sha256}
        verdict = sa.insert(verdicts).values(**named, outcome="match", original_sha256="o")
        verdict_id = connection.execute(verdict.returning(verdicts.c.verdict_id)).scalar_one()
        audit = sa.insert(audits).values(**named, state="verified", verdict_id=verdict_id, sampled=False)
        connection.execute(audit)
        connection.execute(sa.insert(decisions).values(photo_id=photo_id, product_id=product_id, who="ada"))
        connection.execute(sa.insert(embeddings).values(sha256=sha256, model_id="m", vector=b"1234"))
        one = {"role": "photo", "picture_id": photo_id, "reason": "dark"}
        connection.execute(sa.insert(quarantine).values(**one, data_version="d"))
        decided = {"sha256": sha256, "decision": "deleted", "who": "ada"}
        connection.execute(sa.insert(quarantine_decisions).values(**one, **decided))
    engine.dispose()


def ask(workspace: Workspace, query: sa.Select) -> list[tuple]:
    engine = connect(workspace.database_url)
    with snapshot(engine) as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    engine.dispose()
    return rows


def test_a_forgotten_photo_is_in_no_file_of_the_workspace(here: Workspace, folder: ImportFolder) -> None:
    picture = (folder.root / "photos/p0-0.jpg").read_bytes()
    md5 = hashlib.md5(picture, usedforsecurity=False).hexdigest()
    for place in (here.root / ".dvc/cache", here.state / "store"):  # as a killed `dvc push` leaves it
        (place / "files/md5" / md5[:2] / ".wPq3.tmp").write_bytes(picture)
    assert sum(picture in content for content in objects(here).values()) >= 6, "data, cache, store, database"
    found = forget(here, "p0-0", really=True)
    assert (found.kind, found.photos, found.products, found.objects) == ("photo", ("p0-0",), (), 1)
    assert len(found.versions) == 2
    assert found.places == ("cache", "remote store")
    assert [path for path, content in objects(here).items() if picture in content] == []


def test_old_versions_come_back_without_it_and_it_is_said(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    newest, oldest = history.log(here)
    forget(here, "p0-0", really=True)
    assert run(["data", "checkout", oldest.md5[:12]]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("without what was forgotten since: data version ")
    assert set(read_manifest(here.data / "manifest.parquet").picture_id) == {"p0", "p1", "p0-1", "p1-0", "p1-1"}
    assert len(list(here.data.glob("photos/*"))) == 3
    after = versioning.read_version(here)
    assert after is not None
    assert history.find(here, after.md5).md5 == oldest.md5
    changes = difference.find_difference(history.read_pictures(here, oldest), history.read_pictures(here, newest))
    assert (changes.lost_photos, changes.new_photos) == (("p1-1",), ())


def test_what_is_left_is_a_new_committed_version_and_the_next_ingest_agrees(here: Workspace) -> None:
    forget(here, "p0-0", really=True)
    version = versioning.read_version(here)
    newest = history.log(here)[0]
    assert version is not None
    assert newest.md5 == version.md5
    assert newest.message.endswith("−1 photo (2 products, 2 photos), forgotten")
    assert history.find(here, f"data-{version.md5[:12]}") == newest
    said = subprocess.run(["git", "status", "--porcelain"], cwd=here.root, capture_output=True, text=True).stdout
    assert said == ""
    assert make_version(here) == version


def test_a_photo_of_an_old_version_only_can_be_forgotten(here: Workspace, folder: ImportFolder) -> None:
    before = versioning.read_version(here)
    found = forget(here, "p1-1", really=True)
    assert len(found.versions) == 1
    assert versioning.read_version(here) == before
    picture = (folder.root / "photos/p1-1.jpg").read_bytes()
    database = ".photoproof/database.sqlite"  # it was deleted there without secure_delete
    assert [path for path, content in objects(here).items() if picture in content and database not in path] == []


def test_a_product_goes_with_its_photos(here: Workspace, folder: ImportFolder) -> None:
    found = forget(here, "p1", really=True)
    assert (found.products, found.photos) == (("p1",), ("p1-0", "p1-1"))
    assert set(read_manifest(here.data / "manifest.parquet").picture_id) == {"p0", "p0-0", "p0-1"}
    picture = (folder.root / "catalogue/p1.jpg").read_bytes()
    assert [path for path, content in objects(here).items() if picture in content] == []


def test_without_yes_nothing_changes(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    def contents() -> dict[str, bytes]:
        return {path: content for path, content in objects(here).items() if "retrain.lock" not in path}

    before = contents()
    assert run(["data", "forget", "p0-0"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("photo p0-0: 1 photo would be removed\ndata: from 2 versions (")
    assert told.endswith("nothing is changed yet: say --yes to do it; it can't be undone\n")
    assert {k: v for k, v in contents().items() if "/tmp/" not in k and "sqlite" not in k} == {
        k: v for k, v in before.items() if "/tmp/" not in k and "sqlite" not in k
    }


@on_both_databases
def test_a_verdict_stays_and_loses_its_picture(here: Workspace) -> None:
    judge(here, "p0-0", "p0")
    assert forget(here, "p0-0", really=True).verdicts == 1
    assert ask(here, sa.select(verdicts.c.photo_id, verdicts.c.outcome)) == [("p0-0", "match")]
    columns = (photos.c.image_bytes, photos.c.sha256, photos.c.product_id)
    assert ask(here, sa.select(*columns).where(photos.c.photo_id == "p0-0")) == [(b"", "", None)]
    for table in (audits, decisions, embeddings, quarantine, quarantine_decisions):
        assert ask(here, sa.select(table)) == []
    with pytest.raises(BadInput, match="no photo or product p0-0"):
        forget(here, "p0-0", really=True)


@on_both_databases
def test_a_product_that_a_verdict_names_is_an_empty_row_that_ingest_does_not_miss(here: Workspace) -> None:
    judge(here, "p0-0", "p0")
    forget(here, "p0", really=True)
    assert set(ask(here, sa.select(photos.c.photo_id))) == {("p0-0",), ("p1-0",)}
    engine = connect(here.database_url)
    report = ingest(engine, here.data, progress=False)
    engine.dispose()
    assert (report.originals, report.products_without_original) == (1, ())


def test_that_it_was_released_from_quarantine_is_forgotten_too(here: Workspace) -> None:
    engine = connect(here.database_url)
    with transaction(engine) as connection:
        for one in ("p0-0", "p0-1"):
            sha256 = connection.scalar(sa.select(photos.c.sha256).where(photos.c.photo_id == one))
            decided = {"role": "photo", "picture_id": one, "sha256": sha256, "decision": "released"}
            connection.execute(sa.insert(quarantine_decisions).values(**decided, reason="dark", who="me"))
    engine.dispose()
    make_version(here)
    forget(here, "p0-0", really=True)
    assert {one for _, one, _ in read_released(here.data)} == {"p0-1"}
    assert not any(b"p0-0" in path.read_bytes() for path in here.root.glob(".dvc/cache/files/**/*") if path.is_file())
    after = versioning.read_version(here)
    assert make_version(here) == after


@on_both_databases
def test_importing_it_again_is_refused(here: Workspace, folder: ImportFolder) -> None:
    forget(here, "p0-0", really=True)
    engine = connect(here.database_url)
    report = import_folder(engine, folder.root, progress=False)
    engine.dispose()
    (refused,) = report.refused
    assert (refused.id, "was forgotten on" in refused.reason) == ("p0-0", True)


def test_bytes_that_are_another_picture_too_stay(here: Workspace, folder: ImportFolder) -> None:
    same = (folder.root / "photos/p0-0.jpg").read_bytes()
    (folder.root / "photos/p0-1.jpg").write_bytes(same)
    engine = connect(here.database_url)
    import_folder(engine, folder.root, progress=False)
    make_version(here)
    found = forget(here, "p0-0", really=True)
    assert any(one.endswith("p0-1") for one in found.same_bytes)
    assert len(read_manifest(here.data / "manifest.parquet")) == 5
    newest = history.log(here)[0]
    history.checkout(here, newest)
    assert same in [path.read_bytes() for path in here.data.glob("photos/*")]
    assert import_folder(engine, folder.root, progress=False).photos.refused == []
    engine.dispose()


def test_an_id_of_both_kinds_is_asked_about(here: Workspace, folder: ImportFolder) -> None:
    folder.picture("photos/more.jpg", "navy")
    folder.photos("p0,photos/more.jpg,p1,,,")
    engine = connect(here.database_url)
    import_folder(engine, folder.root, progress=False)
    engine.dispose()
    with pytest.raises(BadInput, match="--photo or --product"):
        forget(here, "p0", really=True)
    assert forget(here, "p0", "photo", really=False).photos == ("p0",)
    with pytest.raises(BadInput, match="no photo or product p9"):
        forget(here, "p9", really=False)


class Killed(BaseException):
    """As abrupt as Ctrl-C."""


@pytest.mark.parametrize(
    ("here", "step"),
    [
        ("sqlite", "forget.Store.put"),
        ("sqlite", "forget.clean_data"),
        ("sqlite", "forget.Store.delete"),
        ("sqlite", "forget.remove_rows"),
        ("postgresql", "database_rows._delete_from_quarantine"),
    ],
    indirect=["here"],
)
def test_a_forgetting_killed_anywhere_ends_as_one_that_was_not(
    here: Workspace, folder: ImportFolder, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(f"pipelines.removal.{step}", killed)
        with pytest.raises(Killed):
            forget(here, "p0-0", really=True)
    forget(here, "p0-0", really=True)
    picture = (folder.root / "photos/p0-0.jpg").read_bytes()
    assert [path for path, content in objects(here).items() if picture in content] == []
    version = versioning.read_version(here)
    assert version is not None
    assert history.log(here)[0].md5 == version.md5
    assert "p0-0" not in set(read_manifest(here.data / "manifest.parquet").picture_id)
    assert subprocess.run(["git", "status", "--porcelain"], cwd=here.root, capture_output=True).stdout == b""


def test_another_clone_forgets_when_it_has_pulled_the_ledger(
    here: Workspace, folder: ImportFolder, tmp_path: Path
) -> None:
    clone = Workspace(tmp_path / "clone")
    shutil.copytree(here.root, clone.root, ignore=shutil.ignore_patterns("store"))
    newest, oldest = history.log(here)
    forget(here, "p0-0", really=True)
    subprocess.run(["git", "pull", "--quiet", str(here.root), "main"], cwd=clone.root, check=True)
    collect(clone, 10, really=True)
    picture = (folder.root / "photos/p0-0.jpg").read_bytes()
    assert [path for path, content in objects(clone).items() if picture in content and "sqlite" not in path] == []
    assert len(list(clone.data.glob("photos/*"))) == 2
    assert len(list(history.read_pictures(clone, oldest))) == 5
    history.checkout(clone, newest)
    assert len(list(clone.data.glob("photos/*"))) == 2


def test_the_plan_as_json_adds_up(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "forget", "p1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["products"], told["photos"], told["done"]) == (["p1"], ["p1-0", "p1-1"], False)
