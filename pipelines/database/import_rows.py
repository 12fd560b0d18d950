"""The rows of catalogue.csv and photos.csv, each checked on its own, and the reason for each that is refused."""

import csv
import difflib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from training.stage.errors import BadInput

LONGEST_ID = 255
MOST_BYTES = 100_000_000
"""An image file over this is refused."""


@dataclass(frozen=True)
class Form:
    """The columns of one of the two files."""

    file: str
    id_column: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    """A file must have one of these columns, and each of its rows a value in one of them."""

    @property
    def known(self) -> tuple[str, ...]:
        """Every column that the file may have."""
        return self.required + self.one_of + self.optional


CATALOGUE = Form("catalogue.csv", "product_id", ("product_id", "name", "category", "image"))
PHOTOS = Form(
    "photos.csv", "photo_id", ("photo_id", "image"), ("scene", "taken_at"), ("product_id", "claimed_product_id")
)


@dataclass(frozen=True)
class ImportRow:
    """A row as the file has it; an empty field is None. `number` counts as a spreadsheet does: the header is 1."""

    number: int
    id: str
    fields: dict[str, str | None]
    image_bytes: bytes
    taken_at: datetime | None = None


@dataclass(frozen=True)
class RefusedRow:
    """A row that was not imported, and why."""

    file: str
    row: int
    id: str
    reason: str


class _Refusal(Exception):
    """Why a row is refused; becomes a RefusedRow."""


def check_file(path: Path, form: Form) -> int:
    """Check a whole file before any of it is imported, and count its rows.

    Raises BadInput, in one line, where it is not UTF-8, has no header, has an unknown column or lacks a required one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), None)
            _check_header(path, form, header)
            file.seek(0)
            return max(0, sum(1 for record in _records(file) if record) - 1)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 (byte {error.object[error.start]:#04x}): save it as UTF-8") from None
    except csv.Error as error:
        raise BadInput(f"{path}: the first line can't be read as CSV: {error}") from None
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from None


def read_rows(path: Path, form: Form) -> Iterator[ImportRow | RefusedRow]:
    """The file's rows one by one, each with its picture's bytes, or refused. Blank lines are not rows."""
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = _records(file)
        header = next(records)
        assert isinstance(header, list), "check_file has read the header"
        columns = [column.strip() for column in header]
        id_index = columns.index(form.id_column)
        for number, record in enumerate(records, 2):
            if not record:
                continue
            row_id = record[id_index].strip() if isinstance(record, list) and len(record) > id_index else ""
            try:
                yield _check_row(form, folder, columns, number, record, row_id, seen)
            except _Refusal as refusal:
                yield RefusedRow(form.file, number, row_id[:LONGEST_ID], str(refusal))


def _records(file: io.TextIOBase) -> Iterator[list[str] | csv.Error]:
    """What csv.reader reads, with an error in place of a record that can't be read."""
    reader = csv.reader(file)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _check_header(path: Path, form: Form, header: list[str] | None) -> None:
    columns = [column.strip() for column in header or []]
    if not any(columns):
        raise BadInput(f"{path} is empty: its first line must name the columns {', '.join(form.required)}")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise BadInput(f"{path}: the columns must be separated by commas")
    for column in columns:
        if column not in form.known:
            nearest = difflib.get_close_matches(column.lower(), form.known, n=1, cutoff=0.0)[0]
            raise BadInput(f"{path}: unknown column {column!r}; the nearest known one is {nearest!r}")
        if columns.count(column) > 1:
            raise BadInput(f"{path}: column {column!r} appears twice")
    for column in form.required:
        if column not in columns:
            raise BadInput(f"{path}: column {column!r} is missing (the columns are {', '.join(columns)})")
    if form.one_of and not set(form.one_of) & set(columns):
        raise BadInput(f"{path}: it needs a column {' or '.join(map(repr, form.one_of))}")


def _check_row(
    form: Form,
    folder: Path,
    columns: list[str],
    number: int,
    record: list[str] | csv.Error,
    row_id: str,
    seen: dict[str, int],
) -> ImportRow:
    if isinstance(record, csv.Error):
        raise _Refusal(f"can't be read as CSV: {record}")
    if len(record) != len(columns):
        unclosed = "; a quote that is not closed?" if any("\n" in value for value in record) else ""
        raise _Refusal(f"{len(record)} fields, the header has {len(columns)}{unclosed}")
    fields = {column: value.strip() or None for column, value in zip(columns, record, strict=True)}
    for column, value in fields.items():
        if value and any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise _Refusal(f"{column} holds a line break or another control character")
    for column in (form.id_column, *form.one_of):
        if len(fields.get(column) or "") > LONGEST_ID:
            raise _Refusal(f"{column} is longer than {LONGEST_ID} characters")
    if not row_id:
        raise _Refusal(f"{form.id_column} is empty")
    if row_id in seen:
        raise _Refusal(f"{form.id_column} {row_id!r} is in row {seen[row_id]} already")
    if form is CATALOGUE and not fields["name"]:
        raise _Refusal("name is empty")
    if form.one_of and not any(fields.get(column) for column in form.one_of):
        raise _Refusal(f"neither {' nor '.join(form.one_of)} is given")
    taken_at = _parse_time(fields.get("taken_at"))
    image_bytes = _read_image(folder, fields["image"])
    seen[row_id] = number
    return ImportRow(number, row_id, fields, image_bytes, taken_at)


def _parse_time(value: str | None) -> datetime | None:
    """An ISO 8601 time; in UTC where it has no time zone."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _Refusal(f"taken_at {value!r} is not an ISO 8601 time such as 2025-03-31T14:05:00Z") from None


def _read_image(folder: Path, name: str | None) -> bytes:
    if not name:
        raise _Refusal("image is empty")
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise _Refusal(f"image {name!r} lies outside the folder")
        if not path.exists():
            raise _Refusal(f"image {name!r} is not found")
        if not path.is_file():
            raise _Refusal(f"image {name!r} is not a file")
        size = os.path.getsize(path)
        if size > MOST_BYTES:
            raise _Refusal(f"image {name!r} has {size / 1e6:,.0f} MB, more than {MOST_BYTES / 1e6:,.0f}")
        image_bytes = path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise _Refusal(f"image {name!r} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not image_bytes:
        raise _Refusal(f"image {name!r} is an empty file")
    return image_bytes
