"""What people decide about quarantined pictures, in both databases, and what comes of it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from pipelines.commands.data import data as data_commands
from pipelines.data import quarantine
from pipelines.data.ingest import ingest
from pipelines.data.quarantine_page import write_page
from pipelines.database.engine import connect, transaction
from pipelines.database.import_folder import import_folder
from pipelines.database.tables import photos
from training.dataset.manifest import read_manifest
from training.dataset.releases import read_released
from training.stage.errors import BadInput


def table(path: Path, rows: dict[str, str], role: str = "photo") -> Path:
    """A quarantine.parquet with these reasons by picture_id."""
    pq.write_table(
        pa.table({"role": [role] * len(rows), "picture_id": list(rows), "reason": list(rows.values())}), path
    )
    return path


@pytest.fixture
def held(engine: Engine, folder, tmp_path: Path) -> Engine:
    """A database with two products of three photos, of which two photos are in quarantine of version v."""
    import_folder(engine, folder.small().root, progress=False)
    quarantine.record(engine, "v", table(tmp_path / "q.parquet", {"p0-1": "too dark", "p1-0": "does not decode (cut)"}))
    return engine


def ids(data: Path) -> set[str]:
    return set(read_manifest(data / "manifest.parquet").query("role == 'photo'").picture_id)


def test_what_is_recorded_again_takes_the_place_of_what_was(held, tmp_path):
    assert quarantine.record(held, "v", table(tmp_path / "q.parquet", {"p0-2": "blurred"})) == 1
    assert [(one.picture_id, one.reason) for one in quarantine.list_set_aside(held, "v")] == [("p0-2", "blurred")]


def test_without_a_table_nothing_is_in_quarantine(held, tmp_path):
    assert quarantine.record(held, "v", tmp_path / "nothing.parquet") == 0
    assert quarantine.list_set_aside(held, "v") == []


def test_a_release_goes_into_data_with_the_pictures_bytes_and_who_said_so(held, tmp_path):
    quarantine.decide(held, "v", ["p0-1"], "released", who="ada")
    ingest(held, tmp_path / "data", progress=False)
    with held.begin() as connection:
        sha256 = connection.scalar(sa.select(photos.c.sha256).where(photos.c.photo_id == "p0-1"))
    assert read_released(tmp_path / "data") == {("photo", "p0-1", sha256): "ada"}
    assert [one.decision for one in quarantine.list_set_aside(held, "v")] == ["released", None]


def test_the_same_releases_are_the_same_bytes_and_without_any_there_is_no_file(held, tmp_path):
    ingest(held, tmp_path / "data", progress=False)
    assert not (tmp_path / "data" / "released.csv").exists()
    quarantine.decide(held, "v", ["p0-1"], "released")
    written = []
    for _ in range(2):
        ingest(held, tmp_path / "data", progress=False)
        written.append((tmp_path / "data" / "released.csv").read_bytes())
    assert written[0] == written[1]
    quarantine.decide(held, "v", ["p0-1"], "deleted")
    ingest(held, tmp_path / "data", progress=False)
    assert not (tmp_path / "data" / "released.csv").exists()


def test_what_does_not_decode_is_not_released_and_nothing_of_the_call_is(held):
    with pytest.raises(BadInput, match=r"photo p1-0 can't be released: does not decode \(cut\)"):
        quarantine.decide(held, "v", ["p0-1", "p1-0"], "released")
    assert {one.decision for one in quarantine.list_set_aside(held, "v")} == {None}


def test_a_deleted_photo_never_enters_again_under_any_id(held, tmp_path, folder):
    quarantine.decide(held, "v", ["p0-1"], "deleted")
    report = ingest(held, tmp_path / "data", progress=False)
    assert ids(tmp_path / "data") == {"p0-0", "p0-2", "p1-0", "p1-1", "p1-2"}
    assert report.photos_deleted == 1 and "1 deleted in quarantine left out" in str(report)
    folder.photos("another,photos/p0-1.jpg,p0,,,")
    import_folder(held, folder.root, progress=False)
    ingest(held, tmp_path / "data", progress=False)
    assert "another" not in ids(tmp_path / "data")


def test_a_deleted_photo_whose_bytes_change_is_looked_at_anew(held, tmp_path, folder):
    quarantine.decide(held, "v", ["p0-1"], "deleted")
    folder.picture("photos/p0-1.jpg", "blue")
    import_folder(held, folder.root, progress=False)
    ingest(held, tmp_path / "data", progress=False)
    assert "p0-1" in ids(tmp_path / "data")
    assert {one.decision for one in quarantine.list_set_aside(held, "v")} == {None}


def test_a_deleted_original_takes_its_product_along(held, tmp_path):
    quarantine.record(held, "v", table(tmp_path / "q.parquet", {"p0": "too dark"}, role="original"))
    quarantine.decide(held, "v", ["p0"], "deleted")
    report = ingest(held, tmp_path / "data", progress=False)
    assert ids(tmp_path / "data") == {"p1-0", "p1-1", "p1-2"}
    assert (report.products_without_original, report.photos_without_original) == (("p0",), 3)


@pytest.mark.parametrize(
    ("wanted", "role", "says"),
    [("p0-2", None, "p0-2 is not in quarantine"), ("p0-1", "original", "p0-1 is not in quarantine")],
)
def test_an_id_that_is_not_in_quarantine_is_told(held, wanted, role, says):
    with pytest.raises(BadInput, match=says):
        quarantine.decide(held, "v", [wanted], "released", role)


def test_an_original_and_a_photo_of_one_id_are_told_apart_by_their_role(held, tmp_path):
    with transaction(held) as connection:
        connection.execute(sa.update(photos).where(photos.c.photo_id == "p0-1").values(photo_id="p0"))
    both = pa.concat_tables(
        [pq.read_table(table(tmp_path / f"{role}.parquet", {"p0": "too dark"}, role)) for role in ("original", "photo")]
    )
    pq.write_table(both, tmp_path / "q.parquet")
    quarantine.record(held, "v", tmp_path / "q.parquet")
    with pytest.raises(BadInput, match="--role"):
        quarantine.decide(held, "v", ["p0"], "released")
    assert quarantine.decide(held, "v", ["p0"], "released", "photo")[0].role == "photo"


def test_the_page_shows_each_picture_with_its_reason_and_needs_nothing_else(tmp_path, folder):
    folder.picture("a.jpg", "red")
    (folder.root / "b.jpg").write_bytes(b"no picture")
    rows = [
        {"picture_id": "<a>", "path": "a.jpg", "reason": "too dark", "decodes": True, "width": 48, "height": 64},
        {"picture_id": "b", "path": "b.jpg", "reason": "does not decode (x)", "decodes": False, "width": None},
    ]
    common = {"role": "photo", "product_id": "p", "name": "P"}
    pq.write_table(pa.Table.from_pylist([row | common for row in rows]), tmp_path / "q.parquet")
    for _ in range(2):
        write_page(tmp_path / "q.parquet", folder.root, tmp_path / "page", "0123456789abcdef")
    html = (tmp_path / "page" / "index.html").read_text()
    assert "photo &lt;a&gt;" in html and "too dark" in html and "can&#39;t be released" in html
    assert "http" not in html
    assert [path.name for path in (tmp_path / "page" / "thumbnails").iterdir()] == ["photo-a.jpg"]


@pytest.fixture
def commanded(workspace, folder, tmp_path, monkeypatch, database_url):
    """A workspace with one photo in quarantine of its data version, and what runs a command in it."""
    from typer.testing import CliRunner

    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(workspace.root))
    monkeypatch.setenv("PHOTOPROOF_DATABASE_URL", database_url)
    (workspace.root / "data.dvc").write_text("outs:\n- md5: 0123456789abcdef.dir\n  path: data\n")
    engine = connect(database_url)
    import_folder(engine, folder.small().root, progress=False)
    quarantine.record(engine, "0123456789abcdef", table(tmp_path / "q.parquet", {"p0-1": "too dark"}))
    engine.dispose()

    def run(*words: str) -> str:
        done = CliRunner().invoke(data_commands, ["quarantine", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_the_command_lists_releases_and_deletes(commanded):
    assert commanded().splitlines() == ["photo p0-1: too dark", "data version 0123456789ab: 1 in quarantine"]
    said = json.loads(commanded("release", "p0-1", "--who", "ada", "--json"))
    assert said[0] | {"decision": "released", "who": "ada"} == said[0]
    assert "[released, enters with the next validation (ada)]" in commanded()
    commanded("delete", "p0-1", "--who", "bob")
    assert json.loads(commanded("--json"))[0]["decision"] == "deleted"
