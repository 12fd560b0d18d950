"""catalogue.csv and photos.csv as rows that are sound in themselves, and the reason for each that is not."""

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
    """Of these a file must have one, and each of its rows a value in one."""

    @property
    def known(self) -> tuple[str, ...]:
        """Every column that the file may have."""
        return self.required + self.one_of + self.optional


CATALOGUE = Form("catalogue.csv", "product_id", ("product_id", "name", "category", "image"))
PHOTOS = Form(
    "photos.csv", "photo_id", ("photo_id", "image"), ("scene", "taken_at"), ("product_id", "claimed_product_id")
)


@dataclass(frozen=True)
class Row:
    """A row as the file has it; an empty field is None. `number` counts as a spreadsheet does: the header is 1."""

    number: int
    id: str
    fields: dict[str, str | None]
    image_bytes: bytes
    taken_at: datetime | None = None


@dataclass(frozen=True)
class Refused:
    """A row that was not imported, and why."""

    file: str
    row: int
    id: str
    reason: str


class _Refusal(Exception):
    """The reason, on its way to a Refused."""


def check_file(path: Path, form: Form) -> int:
    """Look at a whole file before anything of it is imported; its number of rows.

    Raises BadInput, in one line, where it is no UTF-8, has no header, an unknown column or lacks one.
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


def read_rows(path: Path, form: Form) -> Iterator[Row | Refused]:
    """The file's rows one by one, each with its picture's bytes, or refused. Blank lines are no rows."""
    folder = path.parent.resolve()
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = _records(file)
        header = next(records)
        assert isinstance(header, list), "check_file has read the header"
        columns = [column.strip() for column in header]
        at = columns.index(form.id_column)
        for number, record in enumerate(records, 2):
            if not record:
                continue
            row_id = record[at].strip() if isinstance(record, list) and len(record) > at else ""
            try:
                yield _row(form, folder, columns, number, record, row_id, seen)
            except _Refusal as refusal:
                yield Refused(form.file, number, row_id[:LONGEST_ID], str(refusal))


def _records(file: io.TextIOBase) -> Iterator[list[str] | csv.Error]:
    """What csv.reader gives, with an error in its record's place instead of the end of everything."""
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
            near = difflib.get_close_matches(column.lower(), form.known, n=1, cutoff=0.0)[0]
            raise BadInput(f"{path}: unknown column {column!r}; the nearest known one is {near!r}")
        if columns.count(column) > 1:
            raise BadInput(f"{path}: column {column!r} stands there twice")
    for column in form.required:
        if column not in columns:
            raise BadInput(f"{path}: column {column!r} is missing (there are {', '.join(columns)})")
    if form.one_of and not set(form.one_of) & set(columns):
        raise BadInput(f"{path}: it needs a column {' or '.join(map(repr, form.one_of))}")


def _row(
    form: Form,
    folder: Path,
    columns: list[str],
    number: int,
    record: list[str] | csv.Error,
    row_id: str,
    seen: dict[str, int],
) -> Row:
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
    taken_at = _time(fields.get("taken_at"))
    image_bytes = _image(folder, fields["image"])
    seen[row_id] = number
    return Row(number, row_id, fields, image_bytes, taken_at)


def _time(value: str | None) -> datetime | None:
    """An ISO 8601 time; in UTC where it names no zone."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _Refusal(f"taken_at {value!r} is no ISO 8601 time such as 2025-03-31T14:05:00Z") from None


def _image(folder: Path, name: str | None) -> bytes:
    if not name:
        raise _Refusal("image is empty")
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise _Refusal(f"image {name!r} lies outside the folder")
        if not path.exists():
            raise _Refusal(f"image {name!r} is not there")
        if not path.is_file():
            raise _Refusal(f"image {name!r} is no file")
        size = os.path.getsize(path)
        if size > MOST_BYTES:
            raise _Refusal(f"image {name!r} has {size / 1e6:,.0f} MB, more than {MOST_BYTES / 1e6:,.0f}")
        image_bytes = path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise _Refusal(f"image {name!r} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not image_bytes:
        raise _Refusal(f"image {name!r} is an empty file")
    return image_bytes
