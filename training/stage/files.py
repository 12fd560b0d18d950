"""Files and folders that appear by rename: whole, or not at all."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file (UTF-8) that appears by rename."""
    with writing_whole(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def writing_whole(path: Path, durable: bool = False) -> Generator[Path, None, None]:
    """The path of a part to write, beside `path`, whose place it takes when the `with` block ends without an error.

    After an error the part is removed and `path` is what it was. With `durable` the part is on disk before it
    takes the place, so that a power cut leaves the old file or the new one. The folder must exist; the part's
    name ends in ".part", so what goes by a name's suffix must be told the format.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        if durable:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(folder: Path) -> Generator[Path, None, None]:
    """An empty folder to write into, which takes `folder`'s place when the `with` block ends without an error."""
    part = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    for left_behind in (part, old):
        shutil.rmtree(left_behind, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
