"""Data Docs that work without a network.

Great Expectations' pages load their styles and scripts from other people's servers. Here the pages get
the few that they need from static/ beside them, and lose the rest.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

FILES = Path(__file__).with_name("data_docs_files")
STYLES = ("bootstrap.min.css", "bootstrap-table.min.css", "icons.css")
SCRIPTS = ("jquery.min.js", "bootstrap.bundle.min.js", "bootstrap-table.min.js")

FROM_AFAR = re.compile(
    r"<script\s[^>]*src=[\"']https?://[^>]*></script>\s*|<link\s[^>]*href=[\"']https?://[^>]*>\s*", re.IGNORECASE
)
LOGO = re.compile(r"https?://[^\"']*/logo-long\.png[^\"']*")
NEWS = re.compile(r"<footer>.*?</footer>", re.DOTALL)
ICON = re.compile(r"[^\"']*static/images/favicon\.ico")
FILTERS = re.compile(r"<button[^>]*clearTableFilters[^>]*>.*?</button>", re.DOTALL)


def write_data_docs(folder: Path, build: Callable[[Path], object]) -> None:
    """Have `build` write Data Docs into a new folder, make them self-contained, and put them in `folder`'s place.

    `folder` holds the old pages until the new ones are whole.
    """
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    build(part)
    _make_self_contained(part)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _make_self_contained(site: Path) -> None:
    images = site / "static" / "images"
    for picture in images.iterdir():
        if picture.name not in ("favicon.ico", "logo-long.png"):
            picture.unlink()
    for name in (*STYLES, *SCRIPTS):
        shutil.copyfile(FILES / name, site / "static" / name)
    shutil.copyfile(FILES / "LICENCES.md", site / "static" / "LICENCES.md")
    for page in site.rglob("*.html"):
        static = Path(os.path.relpath(site / "static", page.parent)).as_posix()
        page.write_text(_rewrite(page.read_text(encoding="utf-8"), static), encoding="utf-8")


def _rewrite(html: str, static: str) -> str:
    html = FROM_AFAR.sub("", html)
    html = LOGO.sub(f"{static}/images/logo-long.png", html)
    html = ICON.sub(f"{static}/images/favicon.ico", html)
    html = html.replace("(prefers-color-scheme: dark)", "not all")  # half of the dark colours came from afar
    html = FILTERS.sub("", NEWS.sub("", html))
    styles = [f'<link rel="stylesheet" href="{static}/{name}">' for name in STYLES]
    scripts = [f'<script src="{static}/{name}"></script>' for name in SCRIPTS]
    # Before the page's own styles, which refine these.
    return html.replace('<meta charset="UTF-8">', '<meta charset="UTF-8">\n' + "\n".join([*styles, *scripts]), 1)
