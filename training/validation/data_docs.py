"""Data Docs that work without a network.

Great Expectations' pages load their styles and scripts from other people's servers. Here the pages get
the few that they need from static/ beside them, and lose the rest.
"""

import base64
import html as markup
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
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

SUMMARY = "summary.json"
INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="UTF-8"><title>Data Docs by data version</title><style>{style}</style></head>
<body><div class="container-fluid p-4"><h1>Data Docs by data version</h1>
<table class="table"><thead><tr><th>data version</th><th>validated</th><th>pictures</th><th>set aside</th><th></th>
<th>promises</th></tr></thead><tbody>
{rows}
</tbody></table></div></body></html>
"""


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


def folder_of(docs: Path, version: str) -> Path:
    """Where Data Docs of a data version lie."""
    return docs / version[:12]


def sum_up(site: Path, version: str, pictures: int, aside: int, broken: Sequence[str], stopped: str = "") -> None:
    """Add what came of a data version to its Data Docs, and list them in index.html above."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    said = {"version": version, "at": at, "pictures": pictures, "set_aside": aside, "broken": list(broken)}
    (site / SUMMARY).write_text(json.dumps(said | {"stopped": stopped}, indent=1) + "\n")
    list_versions(site.parent)


def list_versions(docs: Path) -> None:
    """Write index.html of the Data Docs that are there."""
    found = [(json.loads(path.read_text()), path.parent.name) for path in docs.glob(f"*/{SUMMARY}")]
    rows = []
    for one, name in sorted(found, key=lambda pair: (pair[0]["at"], pair[1]), reverse=True):
        outcome = (
            f"stopped: {one['stopped']}" if one["stopped"] else "; ".join(one["broken"]) or "every promise is kept"
        )
        cells = [f'<a href="{name}/index.html">{name}</a>', one["at"], f"{one['pictures']:,}", f"{one['set_aside']:,}"]
        mark = '<span class="text-danger">✘</span>' if one["stopped"] else '<span class="text-success">✔</span>'
        cells += [mark, markup.escape(outcome)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    page = INDEX.format(style=(FILES / STYLES[0]).read_text(encoding="utf-8"), rows="\n".join(rows))
    (docs / "index.html").write_text(page, encoding="utf-8")


def pages(site: Path) -> dict[str, Path]:
    """The page of each suite's validation, by the suite's name."""
    found = sorted((site / "validations").rglob("*.html"))
    return {page.relative_to(site / "validations").parts[0]: page for page in found}


def in_one_file(page: Path) -> str:
    """A page with its styles, scripts and pictures inside, for where a page is shown without its folder.

    Links to other pages are text in it.
    """

    def style(found: re.Match[str]) -> str:
        return f"<style>{(page.parent / found[1]).read_text(encoding='utf-8')}</style>"

    def script(found: re.Match[str]) -> str:
        text = (page.parent / found[1]).read_text(encoding="utf-8").replace("</script", "<\\/script")
        return f"<script>{text}</script>"

    def picture(found: re.Match[str]) -> str:
        kind = "x-icon" if found[2].endswith(".ico") else "png"
        return f"{found[1]}data:image/{kind};base64,{base64.b64encode((page.parent / found[2]).read_bytes()).decode()}"

    html = page.read_text(encoding="utf-8")
    html = re.sub(r'<link rel="stylesheet" href="([^":]+)">', style, html)
    html = re.sub(r'<script src="([^":]+)"></script>', script, html)
    html = re.sub(r"""((?:src|href)=["'])([^"':]+/static/images/[^"':]+)""", picture, html)
    return re.sub(r"""(<a\s[^>]*?)href=["'](?!#)[^"']*["']""", r"\1", html)


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
