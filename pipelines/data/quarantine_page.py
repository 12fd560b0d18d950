"""A folder in which a person looks at what validation set aside: thumbnails, and a page with the reasons."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from pipelines.data import quarantine
from pipelines.data.versioning import DataVersion
from pipelines.database.engine import opened
from pipelines.workspace.places import Workspace
from training.dataset.releases import can_release
from training.stage.files import replacing
from training.stage.pages import render_page

SIDE = 200
"""Pixels of a thumbnail's longer side."""
SHOWN = 1000
"""Pictures on the page, at most."""


def write_page(table: Path, data: Path, folder: Path, data_version: str) -> None:
    """Write the folder anew from quarantine.parquet: thumbnails/ and index.html; a missing table means no rows."""
    rows = pq.read_table(table).to_pylist() if table.is_file() else []
    reasons = Counter(kind for row in rows for kind in {_kind(reason) for reason in row["reason"].split("; ")})
    with replacing(folder) as part:
        (part / "thumbnails").mkdir()
        shown = [_card(row, data, part) for row in sorted(rows, key=_order)[:SHOWN]]
        page = render_page(
            Path(__file__).with_name("quarantine.html.jinja"),
            shown=shown,
            count=len(rows),
            reasons=reasons.most_common(),
            version=data_version[:12],
        )
        (part / "index.html").write_text(page, encoding="utf-8")


def _card(row: dict[str, Any], data: Path, folder: Path) -> dict[str, Any]:
    thumbnail = Path("thumbnails", f"{row['role']}-{Path(row['path']).stem}.jpg")
    with Image.open(data / row["path"]) if row["decodes"] else Image.new("RGB", (1, 1)) as picture:
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    if row["decodes"]:
        small.save(folder / thumbnail, quality=85)
    return {
        "thumbnail": thumbnail.as_posix() if row["decodes"] else "",
        "size": f"{row['width']} x {row['height']}" if row["width"] else "",
        "releasable": can_release(row["reason"]),
        **{name: row[name] for name in ("role", "picture_id", "product_id", "name", "reason")},
    }


def _order(row: dict[str, Any]) -> tuple[str, str, str]:
    return (row["reason"], row["role"], row["picture_id"])


def _kind(reason: str) -> str:
    """The reason without what it says of one picture alone."""
    if reason.startswith("the original of its product"):
        return "the original of its product is set aside"
    return reason.partition(" (")[0]


def record_quarantine(workspace: Workspace, data: DataVersion) -> int:
    """Fill the database's quarantine and reports/validation/quarantine/ with what was set aside; how many pictures."""
    table = workspace.reports / "validation" / "quarantine.parquet"
    with opened(workspace.database_url) as engine:
        count = quarantine.record(engine, data.md5, table)
    write_page(table, workspace.data, table.with_suffix(""), data.md5)
    return count
