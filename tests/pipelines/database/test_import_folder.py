"""Import: every row ends as new, changed, same or refused, in SQLite and in PostgreSQL."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipelines.database import import_rows
from pipelines.database.engine import snapshot, transaction
from pipelines.database.import_folder import FileReport, import_folder
from pipelines.database.import_rows import CATALOGUE, PHOTOS, RefusedRow, check_file, read_rows
from pipelines.database.tables import photos, products
from training.stage.errors import BadInput

if TYPE_CHECKING:
    from tests.pipelines.conftest import ImportFolder


def counts(report: FileReport) -> tuple[int, int, int, int]:
    """new, changed, same, refused."""
    assert report.rows == report.new + report.changed + report.same + len(report.refused)
    return report.new, report.changed, report.same, len(report.refused)


def stored(engine: Engine, table: sa.Table) -> dict[str, dict[str, Any]]:
    (key,) = table.primary_key
    with snapshot(engine) as connection:
        return {row[key.name]: dict(row) for row in connection.execute(sa.select(table)).mappings()}


def only_refusal(engine: Engine, folder: ImportFolder) -> RefusedRow:
    report = import_folder(engine, folder.root)
    assert len(report.refused) == 1, report.refused
    return report.refused[0]


def test_a_folder_comes_in_with_its_pictures_and_truths(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2, photos=3)
    report = import_folder(engine, folder.root)
    assert counts(report.products) == (2, 0, 0, 0)
    assert counts(report.photos) == (6, 0, 0, 0)
    product, photo = stored(engine, products)["p1"], stored(engine, photos)["p1-2"]
    assert product["image_bytes"] == (folder.root / "catalogue/p1.jpg").read_bytes()
    assert (product["name"], product["category"]) == ("Product 1", "Category")
    assert photo["image_bytes"] == (folder.root / "photos/p1-2.jpg").read_bytes()
    assert (photo["product_id"], photo["label_source"], photo["claimed_product_id"]) == ("p1", "import", None)


def test_importing_again_doubles_nothing(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2, photos=3)
    import_folder(engine, folder.root)
    before = stored(engine, products), stored(engine, photos)
    report = import_folder(engine, folder.root)
    assert counts(report.products) == (0, 0, 2, 0)
    assert counts(report.photos) == (0, 0, 6, 0)
    assert (stored(engine, products), stored(engine, photos)) == before


def test_what_changed_is_changed_and_the_rest_is_left(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=3, photos=1)
    import_folder(engine, folder.root)
    before = stored(engine, products)
    folder.catalogue(
        "p0,Another name,Category,catalogue/p0.jpg",
        "p1,Product 1,Category,catalogue/p1.jpg",
        "p2,Product 2,Category,catalogue/p2.jpg",
    )
    new_picture = folder.picture("catalogue/p2.jpg", "black")
    report = import_folder(engine, folder.root)
    after = stored(engine, products)
    assert counts(report.products) == (0, 2, 1, 0)
    assert after["p0"]["name"] == "Another name"
    assert after["p0"]["image_bytes"] == before["p0"]["image_bytes"]
    assert after["p2"]["image_bytes"] == new_picture
    assert after["p0"]["updated_at"] > before["p0"]["updated_at"]
    assert after["p1"] == before["p1"]


def test_a_claim_is_no_truth(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=1)
    folder.photos("1,photos/p0-0.jpg,,p0,,")
    import_folder(engine, folder.root)
    photo = stored(engine, photos)["1"]
    assert (photo["claimed_product_id"], photo["product_id"], photo["label_source"]) == ("p0", None, None)


def test_a_person_s_truth_survives_another_import(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2, photos=1)
    folder.photos("1,photos/p0-0.jpg,,p0,,")
    import_folder(engine, folder.root)
    with transaction(engine) as connection:
        connection.execute(sa.update(photos).values(product_id="p1", label_source="person"))
    assert counts(import_folder(engine, folder.root).photos) == (0, 0, 1, 0)
    assert stored(engine, photos)["1"]["product_id"] == "p1"


def test_a_row_that_contradicts_a_person_is_refused(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2, photos=1)
    folder.photos("1,photos/p0-0.jpg,p0,,,")
    import_folder(engine, folder.root)
    with transaction(engine) as connection:
        connection.execute(sa.update(photos).values(product_id="p1", label_source="person"))
    assert "a person has decided" in only_refusal(engine, folder).reason
    assert stored(engine, photos)["1"]["product_id"] == "p1"


def test_another_picture_under_an_old_id_loses_its_truth(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=1)
    folder.photos("1,photos/p0-0.jpg,,p0,,")
    import_folder(engine, folder.root)
    with transaction(engine) as connection:
        connection.execute(sa.update(photos).values(product_id="p0", label_source="person"))
    folder.picture("photos/p0-0.jpg", "black")
    import_folder(engine, folder.root)
    photo = stored(engine, photos)["1"]
    assert (photo["product_id"], photo["label_source"], photo["claimed_product_id"]) == (None, None, "p0")


def test_scene_and_time_come_in_and_a_time_without_a_zone_is_utc(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=2)
    folder.photos(
        "1,photos/p0-0.jpg,p0,,shelf 3,2025-03-31T14:05:00", "2,photos/p0-1.jpg,p0,,,2025-03-31T14:05:00+02:00"
    )
    import_folder(engine, folder.root)
    found = stored(engine, photos)
    assert (found["1"]["scene"], found["2"]["scene"]) == ("shelf 3", None)
    assert found["1"]["taken_at"] == datetime(2025, 3, 31, 14, 5, tzinfo=UTC)
    assert found["2"]["taken_at"] == datetime(2025, 3, 31, 12, 5, tzinfo=UTC)


def test_a_catalogue_alone_is_fine(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2)
    (folder.root / "photos.csv").unlink()
    report = import_folder(engine, folder.root)
    assert (counts(report.products), counts(report.photos)) == ((2, 0, 0, 0), (0, 0, 0, 0))


def test_a_picture_that_does_not_decode_comes_in_as_it_is(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=1)
    (folder.root / "photos/p0-0.jpg").write_bytes(b"\xff\xd8\xff no picture")
    import_folder(engine, folder.root)
    assert stored(engine, photos)["p0-0"]["image_bytes"] == b"\xff\xd8\xff no picture"


def test_a_byte_order_mark_and_windows_line_ends_are_fine(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2)
    text = (folder.root / "catalogue.csv").read_text().replace("\n", "\r\n")
    (folder.root / "catalogue.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert counts(import_folder(engine, folder.root).products) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,photos/absent.jpg,p0,,,", "image 'photos/absent.jpg' is not found"),
        ("x,,p0,,,", "image is empty"),
        ("x,photos,p0,,,", "image 'photos' is not a file"),
        ("x,photos/empty.jpg,p0,,,", "image 'photos/empty.jpg' is an empty file"),
        ("x,../outside.jpg,p0,,,", "image '../outside.jpg' lies outside the folder"),
        ("x,/etc/hostname,p0,,,", "image '/etc/hostname' lies outside the folder"),
        ("x,photos/link.jpg,p0,,,", "image 'photos/link.jpg' lies outside the folder"),
        (f"x,{'n' * 5000},p0,,,", "File name too long"),
        (",photos/p0-0.jpg,p0,,,", "photo_id is empty"),
        (f"{'i' * 256},photos/p0-0.jpg,p0,,,", "photo_id is longer than 255 characters"),
        ("x,photos/p0-0.jpg,,,,", "neither product_id nor claimed_product_id is given"),
        ("x,photos/p0-0.jpg,p7,,,", "product_id 'p7' is not in the catalogue"),
        ("x,photos/p0-0.jpg,p0,p7,,", "claimed_product_id 'p7' is not in the catalogue"),
        ("x,photos/p0-0.jpg,p0,,,31.3.2025", "taken_at '31.3.2025' is not an ISO 8601 time"),
        ("x,photos/p0-0.jpg,p0,,,2025-02-30", "taken_at '2025-02-30' is not an ISO 8601 time"),
        ("x,photos/p0-0.jpg,p0,,,0001-01-01T00:00:00+10:00", "is not an ISO 8601 time"),
        ("x,photos/p0-0.jpg,p0", "3 fields, the header has 6"),
        ("x,photos/p0-0.jpg,p0,,,,,", "8 fields, the header has 6"),
        ("p0-0,photos/p0-0.jpg,p0,,,", "photo_id 'p0-0' is in row 2 already"),
        ("x\0y,photos/p0-0.jpg,p0,,,", "control character"),
        (f"x,photos/p0-0.jpg,p0,,{'s' * 200_000},", "can't be read as CSV: field larger than field limit"),
        ('x,photos/p0-0.jpg,"p0,,,', "a quote that is not closed?"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(engine: Engine, folder: ImportFolder, row: str, reason: str) -> None:
    folder.small(products=1, photos=2)
    (folder.root / "photos/empty.jpg").touch()
    (folder.root.parent / "outside.jpg").write_bytes(b"outside")
    (folder.root / "photos/link.jpg").symlink_to(folder.root.parent / "outside.jpg")
    folder.photos("p0-0,photos/p0-0.jpg,p0,,,", "p0-1,photos/p0-1.jpg,p0,,,", row)
    report = import_folder(engine, folder.root)
    assert counts(report.photos) == (2, 0, 0, 1)
    refused = report.photos.refused[0]
    assert (refused.file, refused.row) == ("photos.csv", 4)
    assert reason in refused.reason


def test_rows_after_a_bad_one_come_in(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=3, photos=0)
    (folder.root / "catalogue/p0.jpg").unlink()
    refused = only_refusal(engine, folder)
    assert (refused.file, refused.row, refused.id) == ("catalogue.csv", 2, "p0")
    assert set(stored(engine, products)) == {"p1", "p2"}


def test_a_blank_line_is_no_row_but_counts_in_row_numbers(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=0)
    folder.catalogue("p0,Product 0,,catalogue/p0.jpg", "", "p1,Product 1,,absent.jpg")
    report = import_folder(engine, folder.root)
    assert (report.products.rows, report.products.refused[0].row) == (2, 4)


def test_of_two_rows_with_one_id_the_first_counts(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=0)
    folder.catalogue("p0,First,,catalogue/p0.jpg", "p0,Second,,catalogue/p0.jpg")
    assert only_refusal(engine, folder).reason == "product_id 'p0' is in row 2 already"
    assert stored(engine, products)["p0"]["name"] == "First"


def test_ids_that_differ_in_case_are_two_products(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=0)
    folder.catalogue("p0,First,,catalogue/p0.jpg", "P0,Second,,catalogue/p0.jpg")
    assert counts(import_folder(engine, folder.root).products) == (2, 0, 0, 0)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_picture_is_refused(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=1, photos=0)
    (folder.root / "catalogue/p0.jpg").chmod(0)
    assert "Permission denied" in only_refusal(engine, folder).reason


def test_a_huge_file_is_refused_unread(engine: Engine, folder: ImportFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.small(products=1, photos=0)
    monkeypatch.setattr(import_rows, "MOST_BYTES", 100)
    assert "more than" in only_refusal(engine, folder).reason


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda root: (root / "catalogue.csv").unlink(), "has no catalogue.csv"),
        (lambda root: write(root / "catalogue.csv", b""), "is empty"),
        (lambda root: write(root / "catalogue.csv", b"product_id,nmae,category,image\n"), "'nmae'.*'name'"),
        (lambda root: write(root / "catalogue.csv", b"product_id,name,image\n"), "'category' is missing"),
        (lambda root: write(root / "catalogue.csv", b"product_id;name;category;image\n"), "separated by commas"),
        (
            lambda root: write(root / "catalogue.csv", b"product_id,name,name,category,image\n"),
            "'name' appears twice",
        ),
        (lambda root: write(root / "catalogue.csv", b"product_id,name,category,image\n1,caf\xe9,,x\n"), "not UTF-8"),
        (lambda root: write(root / "catalogue.csv", "product_id".encode("utf-16")), "not UTF-8"),
        (lambda root: write(root / "photos.csv", b"photo_id,image,scene\n"), "'product_id' or 'claimed_product_id'"),
        (lambda root: write(root / "photos.csv", b"photo_id,image,claim\n"), "'claim'.*'claimed_product_id'"),
    ],
)
def test_a_folder_at_fault_is_one_line_and_nothing_is_written(
    engine: Engine, folder: ImportFolder, break_it: Callable[[Path], None], says: str
) -> None:
    folder.small()
    break_it(folder.root)
    with pytest.raises(BadInput, match=says) as caught:
        import_folder(engine, folder.root)
    assert "\n" not in str(caught.value)
    assert str(folder.root) in str(caught.value)
    assert not stored(engine, products)


def test_a_missing_an_empty_and_no_folder_are_one_line(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name, says in (("absent", "is not found"), ("empty", "is empty"), ("file", "is a file")):
        with pytest.raises(BadInput, match=says):
            import_folder(engine, tmp_path / name)


class Killed(BaseException):
    """As abrupt as Ctrl-C."""


@pytest.mark.parametrize("statements", [1, 3, 6, 9, 12])
def test_an_import_killed_anywhere_can_be_repeated(
    engine: Engine, folder: ImportFolder, monkeypatch: pytest.MonkeyPatch, statements: int
) -> None:
    folder.small(products=3, photos=3)
    monkeypatch.setattr("pipelines.database.import_folder.BATCH_ROWS", 2)
    left = iter(range(statements))

    def count(*_: object) -> None:
        if next(left, None) is None:
            raise Killed

    event.listen(engine, "before_cursor_execute", count)
    with pytest.raises(Killed):
        import_folder(engine, folder.root)
    event.remove(engine, "before_cursor_execute", count)
    report = import_folder(engine, folder.root)
    assert report.products.new + report.products.same == 3
    assert report.photos.new + report.photos.same == 9
    assert len(stored(engine, products)) == 3
    assert len(stored(engine, photos)) == 9


def test_a_row_written_by_another_program_meanwhile_is_not_doubled(engine: Engine, folder: ImportFolder) -> None:
    folder.small(products=2, photos=0)
    once = iter([True])

    def elsewhere(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO products") and next(once, False) and engine.dialect.name == "postgresql":
            with transaction(engine) as connection:
                connection.execute(sa.insert(products).values(product_id="p0", name="Theirs", category=""))

    event.listen(engine, "before_cursor_execute", elsewhere)
    report = import_folder(engine, folder.root)
    event.remove(engine, "before_cursor_execute", elsewhere)
    assert counts(report.products) == ((1, 1, 0, 0) if engine.dialect.name == "postgresql" else (2, 0, 0, 0))
    assert stored(engine, products)["p0"]["name"] == "Product 0"


fields = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["", "p0", "picture.jpg", '"', '"a', "a\nb", "2025-01-01", ".."]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(fields, max_size=7), max_size=8), quoted=st.booleans())
def test_every_row_is_read_or_refused_whatever_it_holds(
    folder: ImportFolder, rows: list[list[str]], quoted: bool
) -> None:
    folder.picture("picture.jpg")
    path = folder.root / "photos.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write("photo_id,image,product_id,taken_at\n")
        if quoted:
            csv.writer(file).writerows(row for row in rows if row)
        else:
            file.writelines(",".join(row) + "\n" for row in rows)
    read = list(read_rows(path, PHOTOS))
    assert len(read) == check_file(path, PHOTOS)
    if quoted:
        assert len(read) == sum(1 for row in rows if row)
    assert all(row.reason for row in read if isinstance(row, RefusedRow))
    ids = [row.id for row in read if not isinstance(row, RefusedRow)]
    assert len(ids) == len(set(ids))


def test_pictures_are_read_one_by_one(folder: ImportFolder) -> None:
    folder.small(products=3)
    rows = read_rows(folder.root / "catalogue.csv", CATALOGUE)
    next(rows)
    (folder.root / "catalogue/p2.jpg").unlink()
    assert [isinstance(row, RefusedRow) for row in rows] == [False, True]
