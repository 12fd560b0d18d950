"""Ingest: data/ becomes what the database has, whatever happens on the way."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipelines.data.ingest import ingest, safe_name
from pipelines.database.engine import transaction
from pipelines.database.import_folder import import_folder
from pipelines.database.tables import photos, products
from training.dataset.manifest import SCHEMA, read_manifest
from training.stage.errors import BadInput

if TYPE_CHECKING:
    from tests.pipelines.conftest import ImportFolder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def filled(engine: Engine, folder: ImportFolder) -> Engine:
    """Two products with three photos each."""
    import_folder(engine, folder.small(products=2, photos=3).root)
    return engine


def state(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def row_of(data: Path, picture_id: str) -> Any:
    manifest = read_manifest(data / "manifest.parquet")
    return manifest[manifest.picture_id == picture_id].iloc[0]


def change(engine: Engine, statement: sa.Update | sa.Delete) -> None:
    with transaction(engine) as connection:
        connection.execute(statement)


def test_the_labelled_pictures_are_in_data_byte_for_byte(filled: Engine, folder: ImportFolder, data: Path) -> None:
    report = ingest(filled, data)
    assert (report.originals, report.photos, report.written, report.kept, report.removed) == (2, 6, 8, 0, 0)
    manifest = read_manifest(data / "manifest.parquet")
    assert list(manifest.columns) == SCHEMA.names
    photo = row_of(data, "p1-2")
    in_folder = (folder.root / "photos/p1-2.jpg").read_bytes()
    assert (data / photo.path).read_bytes() == in_folder
    assert photo.sha256 == hashlib.sha256(in_folder).hexdigest()
    assert (photo.role, photo.product_id, photo["name"], photo.label_source) == ("photo", "p1", "Product 1", "import")
    assert (photo.source_format, photo.source_orientation) == ("JPEG", 1)
    assert set(state(data)) == {"manifest.parquet", *manifest.path}


def test_ingesting_again_writes_no_picture_and_the_same_manifest(filled: Engine, data: Path) -> None:
    ingest(filled, data)
    before = {path: path.stat().st_ino for path in data.glob("*s/*")}, state(data)
    report = ingest(filled, data)
    assert (report.written, report.kept, report.removed) == (0, 8, 0)
    assert ({path: path.stat().st_ino for path in data.glob("*s/*")}, state(data)) == before


def test_two_folders_filled_apart_are_equal(filled: Engine, tmp_path: Path) -> None:
    ingest(filled, tmp_path / "a")
    ingest(filled, tmp_path / "b")
    assert state(tmp_path / "a") == state(tmp_path / "b")


def test_a_claim_without_a_truth_stays_out(filled: Engine, data: Path) -> None:
    change(filled, sa.update(photos).where(photos.c.photo_id == "p0-0").values(
        product_id=None, label_source=None, claimed_product_id="p0"))  # fmt: skip
    report = ingest(filled, data)
    assert (report.photos, report.photos_without_truth) == (5, 1)
    assert "p0-0" not in set(read_manifest(data / "manifest.parquet").picture_id)


def test_a_photo_is_filed_under_its_truth_not_its_claim(filled: Engine, data: Path) -> None:
    change(filled, sa.update(photos).where(photos.c.photo_id == "p0-0").values(
        product_id="p1", label_source="person", claimed_product_id="p0"))  # fmt: skip
    ingest(filled, data)
    assert (row_of(data, "p0-0").product_id, row_of(data, "p0-0").label_source) == ("p1", "person")


def test_what_is_gone_from_the_database_goes(filled: Engine, data: Path) -> None:
    ingest(filled, data)
    change(filled, sa.delete(photos).where(photos.c.product_id == "p1"))
    change(filled, sa.delete(products).where(products.c.product_id == "p1"))
    report = ingest(filled, data)
    assert (report.originals, report.photos, report.written, report.removed) == (1, 3, 0, 4)
    assert len(state(data)) == 5


def test_a_changed_picture_is_written_and_its_old_file_goes(filled: Engine, folder: ImportFolder, data: Path) -> None:
    ingest(filled, data)
    new = folder.picture("photos/p0-0.jpg", "black")
    import_folder(filled, folder.root)
    report = ingest(filled, data)
    assert (report.written, report.kept, report.removed) == (1, 7, 1)
    assert (data / row_of(data, "p0-0").path).read_bytes() == new


def test_only_what_is_new_is_read_from_the_database(filled: Engine, folder: ImportFolder, data: Path) -> None:
    ingest(filled, data)
    folder.picture("photos/p0-0.jpg", "black")
    import_folder(filled, folder.root)
    read = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        columns = statement.partition("FROM")[0]
        if "image_bytes" in columns and "length(" not in columns:
            read.append(list(parameters.values() if isinstance(parameters, dict) else parameters))

    event.listen(filled, "before_cursor_execute", note)
    ingest(filled, data)
    event.remove(filled, "before_cursor_execute", note)
    assert read == [["p0-0"]]


@pytest.mark.parametrize("broken", [b"", b"short"])
def test_a_file_that_somebody_spoiled_is_written_again(filled: Engine, data: Path, broken: bytes) -> None:
    ingest(filled, data)
    before = state(data)
    path = data / row_of(data, "p0-0").path
    path.write_bytes(broken)
    assert ingest(filled, data).written == 1
    assert state(data) == before


def test_a_link_to_a_cache_is_replaced_not_written_through(filled: Engine, data: Path, tmp_path: Path) -> None:
    ingest(filled, data)
    before = state(data)
    path = data / row_of(data, "p0-0").path
    cached = tmp_path / "cached"
    cached.write_bytes(b"another picture")
    path.unlink()
    path.hardlink_to(cached)
    ingest(filled, data)
    assert cached.read_bytes() == b"another picture"
    assert state(data) == before


def test_a_manifest_that_is_no_parquet_is_made_again(filled: Engine, data: Path) -> None:
    ingest(filled, data)
    before = state(data)
    (data / "manifest.parquet").write_bytes(b"no parquet")
    ingest(filled, data)
    assert state(data) == before


def test_a_turned_photo_is_set_upright(engine: Engine, folder: ImportFolder, data: Path) -> None:
    folder.small(products=1, photos=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    source = folder.picture("photos/p0-0.jpg", "blue", exif=exif)
    import_folder(engine, folder.root)
    ingest(engine, data)
    row = row_of(data, "p0-0")
    with Image.open(data / row.path) as image:
        assert image.size == (64, 48)
        assert image.getexif().get(0x0112, 1) == 1
    assert (row.source_format, row.source_orientation) == ("JPEG", 6)
    assert row.sha256 == hashlib.sha256(source).hexdigest()
    assert ingest(engine, data).written == 0


@pytest.mark.parametrize(("form", "suffix"), [("WEBP", ".jpg"), ("BMP", ".png"), ("PNG", ".png")])
def test_every_picture_becomes_a_jpeg_or_png(
    engine: Engine, folder: ImportFolder, data: Path, form: str, suffix: str
) -> None:
    folder.small(products=1, photos=1)
    folder.picture("photos/p0-0.jpg", "blue", form)
    import_folder(engine, folder.root)
    ingest(engine, data)
    row = row_of(data, "p0-0")
    assert row.path.endswith(suffix)
    assert row.source_format == form
    with Image.open(data / row.path) as image:
        assert image.format in ("JPEG", "PNG")


@pytest.mark.parametrize(
    ("image_bytes", "suffix"),
    [(b"no picture", ".bin"), (b"\xff\xd8\xff cut", ".jpg"), (b"\x89PNG\r\n\x1a\n cut", ".png")],
)
def test_what_does_not_decode_is_left_alone(
    engine: Engine, folder: ImportFolder, data: Path, image_bytes: bytes, suffix: str
) -> None:
    folder.small(products=1, photos=1)
    (folder.root / "photos/p0-0.jpg").write_bytes(image_bytes)
    import_folder(engine, folder.root)
    ingest(engine, data)
    row = row_of(data, "p0-0")
    assert (data / row.path).read_bytes() == image_bytes
    assert row.path.endswith(suffix)
    assert pd.isna(row.source_format)
    assert pd.isna(row.source_orientation)


def test_a_product_without_an_original_is_reported_and_left_out(filled: Engine, data: Path) -> None:
    change(filled, sa.update(products).where(products.c.product_id == "p1").values(image_bytes=None, sha256=None))
    report = ingest(filled, data)
    assert (report.originals, report.photos) == (1, 3)
    assert (report.products_without_original, report.photos_without_original) == (("p1",), 3)
    assert "p1" in str(report)


def test_two_products_with_the_same_original_are_reported(filled: Engine, folder: ImportFolder, data: Path) -> None:
    folder.catalogue("p0,Product 0,,catalogue/p0.jpg", "p1,Product 1,,catalogue/p0.jpg")
    import_folder(filled, folder.root)
    report = ingest(filled, data)
    assert report.same_original == (("p0", "p1"),)
    assert "p0 = p1" in str(report)
    assert len({path.name for path in (data / "originals").iterdir()}) == 2


def test_an_empty_database_is_one_line_and_leaves_data_alone(engine: Engine, data: Path) -> None:
    (data / "originals").mkdir(parents=True)
    (data / "originals/old.jpg").touch()
    with pytest.raises(BadInput, match="photoproof import"):
        ingest(engine, data)
    assert (data / "originals/old.jpg").exists()


@pytest.mark.parametrize("bad", ["../../etc/passwd", "/etc/x", "..", "a/b", "CON", "é" * 200, "a\\b", "Ⅷ", " "])
def test_no_id_leaves_data(engine: Engine, data: Path, bad: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (40, 40)).save(out, "PNG")
    with transaction(engine) as connection:
        connection.execute(
            sa.insert(products).values(product_id=bad, name="", category="", image_bytes=out.getvalue(), sha256="s")
        )
    ingest(engine, data)
    assert row_of(data, bad).path in state(data)
    assert len(state(data)) == 2


@settings(deadline=None)
@given(ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), unique=True, max_size=30))
def test_names_are_plain_and_differ_even_where_case_is_folded(ids: list[str]) -> None:
    names = [safe_name(one, "sha") for one in ids]
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(name.isascii() and name.replace("-", "").isalnum() and len(name) <= 80 for name in names)


def test_ids_that_sort_differently_elsewhere_are_found_again(engine: Engine, data: Path) -> None:
    """Database, old manifest and new manifest are read alongside, so they must agree on the order."""
    out = io.BytesIO()
    Image.new("RGB", (40, 40)).save(out, "PNG")
    ids = ["a", "B", "ä", "z", "Z", "a b", "a-b", "a_b", "😀", "￿", "10", "9", "é", "e\u0301", "ab"]
    with transaction(engine) as connection:
        for one in ids:
            row = {"product_id": one, "name": "P", "image_bytes": out.getvalue(), "sha256": f"sha of {one}"}
            connection.execute(sa.insert(products).values(row))
    assert ingest(engine, data).written == len(ids)
    report = ingest(engine, data)
    assert (report.written, report.kept, report.removed) == (0, len(ids), 0)
    assert list(read_manifest(data / "manifest.parquet").picture_id) == sorted(ids)


class Killed(BaseException):
    """As abrupt as Ctrl-C."""


@pytest.mark.parametrize("renames", [0, 1, 4, 7, 8])
def test_an_ingest_killed_before_any_rename_ends_in_the_same_state(
    filled: Engine, folder: ImportFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    data = tmp_path / "data"
    ingest(filled, data)
    old = read_manifest(data / "manifest.parquet")
    for path in folder.root.glob("*s/*"):
        folder.picture(str(path.relative_to(folder.root)), f"hsl({len(path.name) * 7 + ord(path.name[1])}, 50%, 20%)")
    for path in folder.root.glob("catalogue/*"):
        folder.picture(str(path.relative_to(folder.root)), f"hsl({ord(path.name[1])}, 50%, 20%)")
    import_folder(filled, folder.root)
    left, really = iter(range(renames)), Path.replace

    def replace(path: Path, to: Path) -> Path:
        if next(left, None) is None:
            raise Killed
        return really(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            ingest(filled, data)
    pd.testing.assert_frame_equal(read_manifest(data / "manifest.parquet"), old)
    assert all((data / path).is_file() for path in old.path), "a reader of the old manifest finds its pictures"
    ingest(filled, data)
    ingest(filled, tmp_path / "fresh")
    assert state(data) == state(tmp_path / "fresh")


@pytest.mark.parametrize("removals", [0, 1, 2])  # the first is of a list of released pictures, which is not there
def test_an_ingest_killed_while_it_removes_ends_in_the_same_state(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    data = tmp_path / "data"
    ingest(filled, data)
    change(filled, sa.delete(photos).where(photos.c.product_id == "p1"))
    left, really = iter(range(removals)), os.unlink

    def unlink(path: Path) -> None:
        if next(left, None) is None:
            raise Killed
        really(path)

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.data.ingest.os.unlink", unlink)
        with pytest.raises(Killed):
            ingest(filled, data)
    assert all((data / path).is_file() for path in read_manifest(data / "manifest.parquet").path)
    assert ingest(filled, data).removed == 3 - max(0, removals - 1)
    ingest(filled, tmp_path / "fresh")
    assert state(data) == state(tmp_path / "fresh")


def test_an_ingest_killed_outright_ends_in_the_same_state(
    engine: Engine, database_url: str, folder: ImportFolder, tmp_path: Path
) -> None:
    import_folder(engine, folder.small(products=4, photos=60).root)
    data = tmp_path / "data"
    program = "import sys; from pathlib import Path; from pipelines.database.engine import connect; "
    program += "from pipelines.data.ingest import ingest; ingest(connect(sys.argv[1]), Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", program, database_url, str(data)])
    while child.poll() is None and not any(data.glob("photos/*")):
        time.sleep(0.001)
    child.kill()
    child.wait()
    assert any(data.glob("photos/*"))
    ingest(engine, data)
    ingest(engine, tmp_path / "fresh")
    assert state(data) == state(tmp_path / "fresh")
    assert len(state(data)) == 4 + 240 + 1


def test_an_ingest_sees_one_moment(filled: Engine, data: Path) -> None:
    """A product and its photos deleted after the originals were read are all still there."""
    once = iter([True])

    def delete(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "length(photos" in statement and "count(" not in statement and next(once, False):
            change(filled, sa.delete(photos).where(photos.c.product_id == "p1"))
            change(filled, sa.delete(products).where(products.c.product_id == "p1"))

    event.listen(filled, "before_cursor_execute", delete)
    report = ingest(filled, data)
    event.remove(filled, "before_cursor_execute", delete)
    assert (report.originals, report.photos) == (2, 6)
    assert ingest(filled, data).photos == 3
