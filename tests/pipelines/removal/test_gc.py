"""Collecting old data versions: what somebody may still ask for stays, what was of other versions alone goes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from photoproof.command_line.cli import run
from pipelines.data import history, versioning
from pipelines.database.engine import connect, transaction
from pipelines.database.tables import photos, products, verdicts
from pipelines.registry import connection, versions
from pipelines.removal.gc import collect
from pipelines.workspace.places import Workspace
from training.dataset.manifest import SCHEMA, write_manifest
from training.stage.errors import BadInput
from training.validation import data_docs


@pytest.fixture
def workspace(bare_workspace: Workspace) -> Workspace:
    return bare_workspace


def write_version(workspace: Workspace, *pictures: str) -> None:
    """Make data/ these pictures (their ids are their contents), commit and push it."""
    shutil.rmtree(workspace.data, ignore_errors=True)
    (workspace.data / "originals").mkdir(parents=True)
    rows = []
    for one in pictures:
        (workspace.data / f"originals/{one}.jpg").write_text(one)
        named = {"role": "original", "picture_id": one, "product_id": one, "name": one, "category": "", "sha256": one}
        rows.append(dict.fromkeys(SCHEMA.names) | named | {"path": f"originals/{one}.jpg"})
    write_manifest(pa.Table.from_pylist(rows, SCHEMA), workspace.data / "manifest.parquet")
    made = versioning.add_data(workspace)
    history.commit(workspace, made)
    versioning.push_data(workspace)


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory: pytest.TempPathFactory, workspace_maker: Callable[..., Workspace]) -> Path:
    workspace = workspace_maker(tmp_path_factory.mktemp("three") / "workspace")
    for pictures in (("a", "b"), ("a", "c"), ("a", "d")):
        write_version(workspace, *pictures)
    return workspace.root


@pytest.fixture
def here(three_versions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Three committed versions, of the pictures a and b, a and c, a and d."""
    shutil.copytree(three_versions, tmp_path / "workspace")
    workspace = Workspace(tmp_path / "workspace")
    (workspace.root / ".dvc/config.local").write_text(f"['remote \"store\"']\n    url = {workspace.state / 'store'}\n")
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))
    return workspace


def contents(folder: Path) -> set[str]:
    """The pictures among the objects of a cache or remote."""
    return {path.read_text() for path in folder.rglob("*") if path.is_file() and path.stat().st_size == 1}


def stores(workspace: Workspace) -> tuple[set[str], set[str]]:
    return contents(workspace.root / ".dvc/cache/files"), contents(workspace.state / "store/files")


@pytest.fixture
def register_data(here: Workspace, empty_store: Path) -> Callable[..., None]:
    """Register a model that was trained on a data version."""
    (here.state / "mlflow").mkdir()
    shutil.copyfile(empty_store, here.state / "mlflow/mlflow.db")

    def made(model_id: str, data_version: str, alias: str | None = None) -> None:
        with connection.client_of(here) as client:
            if not client.search_registered_models():
                client.create_registered_model(versions.MODEL)
            tags = {"model_id": model_id, "data_version": data_version}
            version = client.create_model_version(versions.MODEL, str(here.root), tags=tags)
            if alias:
                client.set_registered_model_alias(versions.MODEL, alias, version.version)

    return made


def test_only_the_newest_stay_and_what_they_share(here: Workspace) -> None:
    found = collect(here, 1, really=True)
    assert stores(here) == ({"a", "d"}, {"a", "d"})
    cache, store = found.swept
    assert (cache.versions, cache.objects) == (store.versions, store.objects) == (2, 6)
    newest, *old = history.log(here)
    assert len(list(history.read_pictures(here, newest))) == 2
    for one in old:
        with pytest.raises(BadInput, match=r"neither in DVC's cache nor"):
            history.read_pictures(here, one)


def test_a_dry_run_counts_and_deletes_nothing(here: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    before = stores(here)
    assert run(["data", "gc", "--keep", "2", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert stores(here) == before == ({"a", "b", "c", "d"},) * 2
    assert [(one["place"], one["versions"], one["objects"]) for one in told["swept"]] == [
        ("cache", 1, 3),
        ("remote store", 1, 3),
    ]
    assert all(one["bytes"] > 1000 for one in told["swept"])
    assert run(["data", "gc", "--keep", "2"]) == 0
    assert "deleted: remote store: 1 version, 3 files" in capsys.readouterr().out
    assert stores(here) == ({"a", "c", "d"},) * 2


def test_data_docs_go_with_their_versions_and_the_list_of_them_is_of_what_stays(here: Workspace) -> None:
    docs = here.root / "reports/validation/data_docs"
    newest, *old = history.log(here)
    stopped = "0123456789abcdef"
    for md5 in (newest.md5, old[0].md5, stopped):
        site = data_docs.folder_of(docs, md5)
        site.mkdir(parents=True)
        data_docs.write_summary(site, md5, 2, 0, [])
    swept = collect(here, 1, really=True).swept[-1]
    assert (swept.place, swept.versions, swept.objects) == ("Data Docs", 2, 2)
    assert {path.name for path in docs.iterdir()} == {newest.md5[:12], "index.html"}
    listed = (docs / "index.html").read_text()
    assert newest.md5[:12] in listed
    assert old[0].md5[:12] not in listed


def test_the_data_of_a_model_with_an_alias_stays(here: Workspace, register_data: Callable[..., None]) -> None:
    _, second, first = history.log(here)
    register_data("m-one", first.md5, "champion")
    register_data("m-two", second.md5)
    found = collect(here, 1, really=True)
    assert stores(here) == ({"a", "b", "d"},) * 2
    assert found.kept[first.md5] == ["champion (model version 1)"]


def test_the_data_of_a_model_that_a_verdict_names_stays(
    here: Workspace, register_data: Callable[..., None], database_url: str
) -> None:
    here = Workspace(here.root, database_url)
    second = history.log(here)[1]
    register_data("m-two", second.md5)
    engine = connect(here.database_url)
    with transaction(engine) as connection:
        connection.execute(sa.insert(products).values(product_id="p", name="P"))
        connection.execute(sa.insert(photos).values(photo_id="f", image_bytes=b"", sha256="s"))
        named = {"photo_id": "f", "claimed_product_id": "p", "outcome": "match", "model_id": "m-two"}
        connection.execute(sa.insert(verdicts).values(**named, original_sha256="o", photo_sha256="s"))
    engine.dispose()
    assert collect(here, 1, really=True).kept[second.md5] == ["verdicts of model version 1"]
    assert stores(here) == ({"a", "c", "d"},) * 2


def test_the_head_of_another_branch_stays(here: Workspace) -> None:
    subprocess.run(["git", "branch", "aside", "HEAD~2"], cwd=here.root, check=True)
    collect(here, 1, really=True)
    assert stores(here) == ({"a", "b", "d"},) * 2


def push_unknown(here: Workspace, more: str) -> None:
    """Push a version that has one picture more than data.dvc, and that git does not know."""
    data_dvc = (here.root / "data.dvc").read_bytes()
    (here.data / f"originals/{more}.jpg").write_text(more)
    versioning.add_data(here)
    versioning.push_data(here)
    (here.root / "data.dvc").write_bytes(data_dvc)


def test_a_version_that_git_does_not_know_stays_in_the_remote_and_leaves_the_cache(here: Workspace) -> None:
    push_unknown(here, "e")
    collect(here, 1, really=True)
    assert stores(here) == ({"a", "d"}, {"a", "d", "e"})


def damage_list(where: Path, md5: str) -> None:
    """Cut off the list of files of a version in a cache or remote."""
    path = where / "files/md5" / md5[:2] / f"{md5[2:]}.dir"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:50])


def test_a_version_whose_list_is_damaged_in_the_cache_is_read_from_the_remote(here: Workspace) -> None:
    damage_list(here.root / ".dvc/cache", history.log(here)[0].md5)
    collect(here, 0, really=True)
    cache, store = stores(here)
    assert {"a", "d"} <= cache
    assert store == {"a", "d"}


def test_nothing_is_deleted_where_a_kept_version_can_not_be_read_anywhere(here: Workspace) -> None:
    newest = history.log(here)[0].md5
    for place in (here.root / ".dvc/cache", here.state / "store"):
        damage_list(place, newest)
    before = stores(here)
    with pytest.raises(
        versioning.VersioningFailed, match=f"{newest[:12]} .* is damaged in: cache, remote store"
    ) as told:
        collect(here, 1, really=True)
    assert "\n" not in str(told.value)
    assert stores(here) == before


def test_what_an_unknown_version_in_the_remote_shares_with_an_old_one_stays_there(here: Workspace) -> None:
    push_unknown(here, "b")
    collect(here, 1, really=True)
    assert stores(here) == ({"a", "d"}, {"a", "b", "d"})


@pytest.mark.parametrize("linked", [False, True])
def test_outputs_of_stages_leave_the_own_cache_and_stay_in_a_shared_one(
    here: Workspace, tmp_path: Path, linked: bool
) -> None:
    cache = here.root / ".dvc/cache"
    output = cache / "files/md5/0c/00000000000000000000000000000e"
    output.parent.mkdir(exist_ok=True)
    output.write_text("an output")
    run_of = cache / "runs/00/0000/run"
    run_of.parent.mkdir(parents=True)
    run_of.write_text(f"outs:\n- md5: {output.parent.name}{output.name}\n  path: report\n")
    shared = tmp_path / "shared"
    shutil.copytree(cache, shared)
    collect(here, 1, really=True)
    assert not output.exists()
    shutil.rmtree(cache)
    if linked:
        cache.symlink_to(shared)
    else:
        with (here.root / ".dvc/config.local").open("a") as config:
            config.write(f"[cache]\n    dir = {shared}\n")
    collect(here, 1, really=True)
    assert (shared / output.relative_to(cache)).exists()
    assert contents(shared / "files") == {"a", "d"}
