"""The evaluation as one HTML page to send around: every picture is inside it, nothing is loaded from elsewhere."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.decision.decision import Decision
from training.evaluation.slices import LEAST
from training.report.baseline_table import COLUMNS, Methods, rows
from training.report.numbers import percent, probability
from training.stage.pages import render_page

TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class Illustration:
    """A PNG of the report, with the words around it."""

    path: Path
    title: str
    caption: str


def render(
    metrics: dict[str, Any], decision: Decision, methods: Methods, pictures: list[Illustration], facts: dict[str, str]
) -> str:
    """The page, from the contents of metrics.json, the decision, the PNGs in their order, and named facts."""
    return render_page(
        TEMPLATE,
        groups={name: {"hard": None} | metrics[name] for name in ("known", "new") if name in metrics},
        columns=COLUMNS,
        compared=rows(metrics, methods),
        slices={cut: _stated(slices, cut == "category") for cut, slices in metrics["slices"].items()},
        thresholds=metrics["calibration"]["interval"],
        calibration_error=metrics["calibration"]["expected_calibration_error"],
        least=LEAST,
        counts=metrics["counts"],
        decision=decision,
        figures=[
            {
                "title": picture.title,
                "caption": picture.caption,
                "base64": base64.b64encode(picture.path.read_bytes()).decode(),
            }
            for picture in pictures
        ],
        facts=facts,
        pct=percent,
        prob=probability,
        between=_between,
        range=_range,
    )


def _stated(slices: dict[str, Any], categories: bool) -> dict[str, list]:
    """A cut's slices for the page: rows, and "name (3 known, 8 new)" of categories that state no figure."""
    if not categories:
        return {"rows": list(slices.items()), "few": []}
    rows = [(name, groups) for name, groups in slices.items() if any("auc" in group for group in groups.values())]
    rows.sort(key=lambda row: min(group["share_decided"] for group in row[1].values() if "auc" in group))
    few = [
        f"{name} (" + ", ".join(f"{figures['photos']} {group}" for group, figures in groups.items()) + ")"
        for name, groups in slices.items()
        if not any("auc" in figures for figures in groups.values())
    ]
    return {"rows": rows, "few": few}


def _between(group: dict[str, Any], key: str, digits: int = 1) -> str:
    if key not in group["interval"]:
        return "no interval"
    interval = group["interval"][key]
    return f"{percent(interval['low'], digits)} to {percent(interval['high'], digits)}"


def _range(group: dict[str, Any], key: str) -> str:
    if key not in group["interval"]:
        return ""
    return f"{group['interval'][key]['low']:.3f}–{group['interval'][key]['high']:.3f}"
