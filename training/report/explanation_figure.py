"""Explanations as a picture: a row a pair."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.decision.decision import Decision
from training.decision.log_ratio import Floats
from training.evaluation.explain import Explanation
from training.report.figures import GENUINE, IMPOSTOR, INK, LINE, MUTED, shortened
from training.report.numbers import probability as in_words

AGAINST_FOR = LinearSegmentedColormap.from_list("against_for", [IMPOSTOR, "#ffffff", GENUINE])
LEAST = 0.5
"""Log-odds at which colours end where nothing in the photo says more."""


@dataclass(frozen=True)
class ExplainedPair:
    """An explanation and its words; pictures of the products that the photo is most like, where they exist."""

    title: str
    explanation: Explanation
    nearest: Sequence[tuple[str, NDArray[np.float32] | None]]
    """What to write under each, and its picture."""


def explanation_figure(rows: Sequence[ExplainedPair], decision: Decision) -> Figure:
    """Original, photo, map, what the decoder draws, and the nearest products, with the scores above each row."""
    figure = Figure(figsize=(12.9, 3.15 * len(rows)))
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, rows, strict=True):
        explanation = row.explanation
        panels = part.subplots(1, 6, width_ratios=[1, 1, 1, 1, 1, 0.8])
        part.subplots_adjust(0.008, 0.05, 0.995, 0.78, wspace=0.06)
        part.text(0.008, 0.96, shortened(row.title, 110), fontsize=11.5, color=INK, va="top", fontweight="bold")
        part.text(0.008, 0.885, _scores(explanation, decision), fontsize=9, color=MUTED, va="top")
        _picture(panels[0], explanation.original, "original")
        _picture(panels[1], explanation.photo, "photo")
        _evidence(panels[2], explanation)
        _picture(panels[3], explanation.drawn_photo, "drawn from the photo")
        _picture(panels[4], explanation.drawn_original, "drawn from the original")
        _nearest(panels[5], row.nearest)
    return figure


def label(name: str, cosine: float) -> str:
    """The caption of one of the products that the photo is most like."""
    return "\n".join([*textwrap.wrap(name, 16, max_lines=3, placeholder="…"), f"{cosine:.2f}"])


def _scores(explanation: Explanation, decision: Decision) -> str:
    thresholds = f"reject below {in_words(decision.reject_at)}, accept from {in_words(decision.accept_at)}"
    return (
        f"{explanation.outcome} · probability {in_words(explanation.probability)} ({thresholds}) · "
        f"cosine {explanation.similarity:.2f}"
    )


def _picture(axes: Axes, picture: Floats, title: str) -> None:
    axes.imshow(np.clip(picture, 0, 1), interpolation="bilinear")
    axes.set_title(title, fontsize=9, color=MUTED, pad=3)
    _bare(axes)


def _evidence(axes: Axes, explanation: Explanation) -> None:
    reach = max(LEAST, float(np.abs(explanation.evidence).max()))
    scaled = Normalize(-reach, reach)
    grey = np.repeat(explanation.photo.mean(axis=2, keepdims=True), 3, axis=2)
    strength = np.clip(np.abs(explanation.evidence)[..., None] / reach, 0, 1) ** 0.7
    colours = AGAINST_FOR(scaled(np.where(explanation.evidence > 0, reach, -reach)))[..., :3]
    _picture(axes, (0.35 + 0.65 * grey) * (1 - 0.75 * strength) + colours * 0.75 * strength, "")
    axes.set_title("speaks against / for, in log-odds", fontsize=9, color=MUTED, pad=3)
    inside = axes.inset_axes((0.1, 0.035, 0.8, 0.035))
    bar = axes.figure.colorbar(ScalarMappable(scaled, AGAINST_FOR), cax=inside, orientation="horizontal")
    bar.set_ticks([-reach, 0, reach], labels=[f"−{reach:.1f}", "0", f"+{reach:.1f}"])
    inside.xaxis.set_ticks_position("top")
    inside.tick_params(labelsize=7.5, colors=INK, length=0, pad=1)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _nearest(axes: Axes, nearest: Sequence[tuple[str, NDArray[np.float32] | None]]) -> None:
    axes.axis("off")
    if nearest:
        axes.set_title("most like, of all", fontsize=9, color=MUTED, pad=3)
    for place, (name, picture) in enumerate(nearest):
        inside = axes.inset_axes((0, 1 - (place + 1) / 3 + 0.01, 0.4, 1 / 3 - 0.02))
        inside.imshow(np.ones((2, 2, 3)) if picture is None else np.clip(picture, 0, 1), interpolation="bilinear")
        _bare(inside)
        axes.text(0.44, 1 - (place + 0.5) / 3, name, fontsize=7.5, color=INK, va="center", transform=axes.transAxes)


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(LINE)
