"""The commands import and ingest, as a person types them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from photoproof.command_line.cli import run
from pipelines.workspace.places import Workspace

if TYPE_CHECKING:
    from tests.pipelines.conftest import ImportFolder


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))
    return workspace


def test_import_tells_each_refused_row_and_ends_well(
    here: Workspace, folder: ImportFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.small(products=2, photos=1)
    (folder.root / "photos/p1-0.jpg").unlink()
    assert run(["import", str(folder.root)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "refused: photos.csv, row 3, p1-0: image 'photos/p1-0.jpg' is not found",
        "catalogue.csv: 2 rows: 2 new, 0 changed, 0 same, 0 refused",
        "photos.csv: 2 rows: 1 new, 0 changed, 0 same, 1 refused",
    ]
    assert (here.state / "database.sqlite").is_file()


def test_import_as_json_adds_up(here: Workspace, folder: ImportFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.small(products=2, photos=2)
    (folder.root / "photos/p1-0.jpg").unlink()
    assert run(["import", str(folder.root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for part in told.values():
        assert part["rows"] == part["new"] + part["changed"] + part["same"] + len(part["refused"])
    assert [(row["row"], row["id"]) for row in told["photos"]["refused"]] == [(4, "p1-0")]


@pytest.mark.parametrize("wrong", ["column", "folder", "database"])
def test_what_is_at_fault_is_one_line_and_exit_code_2(
    here: Workspace,
    folder: ImportFolder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    if wrong != "folder":
        folder.small()
    if wrong == "column":
        folder.table("photos.csv", "photo_id,image,prodcut_id")
    if wrong == "database":
        monkeypatch.setenv("PHOTOPROOF_DATABASE_URL", "postgresql://me:geheim@127.0.0.1:1/photoproof")
    assert run(["import", str(folder.root)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "geheim" not in told.err


def test_ingest_makes_a_data_version_and_the_same_one_again(
    here: Workspace, folder: ImportFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["import", str(folder.small(products=2, photos=1).root)])
    capsys.readouterr()
    versions = []
    for _ in range(2):
        assert run(["ingest", "--json"]) == 0
        versions.append(json.loads(capsys.readouterr().out)["data_version"])
    out = yaml.safe_load((here.root / "data.dvc").read_text())["outs"][0]
    assert versions[0] == versions[1] == out["md5"].removesuffix(".dir")
    assert out["nfiles"] == 5
