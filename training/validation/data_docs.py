"""Data Docs that work without a network.

Great Expectations' pages load their styles and scripts from other people's servers. Here the few that they need are
copied to static/ beside the pages, and the rest is removed.
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

from training.stage.files import replacing, write_whole

FILES = Path(__file__).with_name("data_docs_files")
STYLES = ("bootstrap.min.css", "bootstrap-table.min.css", "icons.css")
SCRIPTS = ("jquery.min.js", "bootstrap.bundle.min.js", "bootstrap-table.min.js")

REMOTE_FILE = re.compile(
    r"<script\s[^>]*src=[\"']https?://[^>]*></script>\s*|<link\s[^>]*href=[\"']https?://[^>]*>\s*", re.IGNORECASE
)
LOGO = re.compile(r"https?://[^\"']*/logo-long\.png[^\"']*")
FOOTER = re.compile(r"<footer>.*?</footer>", re.DOTALL)
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
    """Have `build` write Data Docs into a new folder, make them self-contained, and put them in `folder`'s place."""
    with replacing(folder) as part:
        build(part)
        _make_self_contained(part)


def folder_of(docs: Path, version: str) -> Path:
    """Where Data Docs of a data version lie."""
    return docs / version[:12]


def write_summary(
    site: Path, version: str, pictures: int, quarantined: int, broken: Sequence[str], stopped: str = ""
) -> None:
    """Add the result for a data version to its Data Docs, and list all versions in index.html above.

    `broken` are the broken promises as lines, `stopped` is why nothing of the version may be used.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    summary = {"version": version, "at": at, "pictures": pictures, "set_aside": quarantined, "broken": list(broken)}
    (site / SUMMARY).write_text(json.dumps(summary | {"stopped": stopped}, indent=1) + "\n")
    write_index(site.parent)


def write_index(docs: Path) -> None:
    """Write index.html, which lists the Data Docs of every data version in the folder, newest first."""
    summaries = [(json.loads(path.read_text()), path.parent.name) for path in docs.glob(f"*/{SUMMARY}")]
    rows = []
    for summary, name in sorted(summaries, key=lambda pair: (pair[0]["at"], pair[1]), reverse=True):
        stopped = summary["stopped"]
        outcome = f"stopped: {stopped}" if stopped else "; ".join(summary["broken"]) or "every promise is kept"
        mark = '<span class="text-danger">✘</span>' if stopped else '<span class="text-success">✔</span>'
        cells = [f'<a href="{name}/index.html">{name}</a>', summary["at"]]
        cells += [f"{summary['pictures']:,}", f"{summary['set_aside']:,}", mark, markup.escape(outcome)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    page = INDEX.format(style=(FILES / STYLES[0]).read_text(encoding="utf-8"), rows="\n".join(rows))
    write_whole(docs / "index.html", page)


def pages(site: Path) -> dict[str, Path]:
    """The page of each suite's validation, by the suite's name."""
    validations = site / "validations"
    return {page.relative_to(validations).parts[0]: page for page in sorted(validations.rglob("*.html"))}


def inline_files(page: Path) -> str:
    """A page with its styles, scripts and pictures inside, to be shown without its folder.

    Links to other pages become text.
    """

    def style(match: re.Match[str]) -> str:
        return f"<style>{(page.parent / match[1]).read_text(encoding='utf-8')}</style>"

    def script(match: re.Match[str]) -> str:
        text = (page.parent / match[1]).read_text(encoding="utf-8").replace("</script", "<\\/script")
        return f"<script>{text}</script>"

    def picture(match: re.Match[str]) -> str:
        kind = "x-icon" if match[2].endswith(".ico") else "png"
        return f"{match[1]}data:image/{kind};base64,{base64.b64encode((page.parent / match[2]).read_bytes()).decode()}"

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
    html = REMOTE_FILE.sub("", html)
    html = LOGO.sub(f"{static}/images/logo-long.png", html)
    html = ICON.sub(f"{static}/images/favicon.ico", html)
    html = html.replace("(prefers-color-scheme: dark)", "not all")  # half of its colours are in remote files
    html = FILTERS.sub("", FOOTER.sub("", html))
    styles = [f'<link rel="stylesheet" href="{static}/{name}">' for name in STYLES]
    scripts = [f'<script src="{static}/{name}"></script>' for name in SCRIPTS]
    # Before the page's own styles, which override these.
    return html.replace('<meta charset="UTF-8">', '<meta charset="UTF-8">\n' + "\n".join([*styles, *scripts]), 1)
