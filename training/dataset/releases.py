"""Pictures that a person let out of quarantine: data/released.csv, part of the data version like the pictures."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.stage.files import writing_whole

FILE = "released.csv"
COLUMNS = ("role", "picture_id", "sha256", "who", "at")

NO_PICTURE = "does not decode"
NO_FORMAT = "neither JPEG nor PNG"
NO_ORIGINAL = "the original of its product"
"""Beginnings of the reasons that no person can overrule: training could not use the picture."""


def read_released(data: Path) -> dict[tuple[str, str, str], str]:
    """Who let a picture in, by (role, picture_id, sha256); empty where data/ has no such file."""
    try:
        with (data / FILE).open(newline="", encoding="utf-8") as file:
            return {(row["role"], row["picture_id"], row["sha256"]): row["who"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        return {}


def write_released(rows: Iterable[Mapping[str, Any]], data: Path) -> None:
    """Write the file, a row of COLUMNS each, or remove it where there are no rows."""
    rows, path = list(rows), data / FILE
    if not rows:
        path.unlink(missing_ok=True)
        return
    with writing_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([row[name] for name in COLUMNS] for row in rows)


def can_release(reason: str) -> bool:
    """Whether a person may let in what was set aside for this reason."""
    return not any(part.startswith((NO_PICTURE, NO_FORMAT, NO_ORIGINAL)) for part in reason.split("; "))
