"""The pictures of an evaluation: curves, histograms and contact sheets, as matplotlib figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import norm

from training.decision.decision import Decision
from training.decision.log_ratio import Bools, Floats
from training.evaluation.metrics import Roc
from training.report.numbers import percent

INK, MUTED, LINE = "#1c2230", "#6b7385", "#d9dde6"
GENUINE, IMPOSTOR, HARD = "#1f6feb", "#d1495b", "#edae49"
BASELINES = {
    "array_equal": ":",
    "perceptual_hash": "--",
    "colour_histogram": "-.",
    "raw_pixels": (0, (1, 3)),
    "plain_autoencoder": "-",
}


@dataclass(frozen=True)
class Card:
    """A pair on a contact sheet: two pictures float [h, w, 3] in [0, 1] and the words around them."""

    original: NDArray[np.float32]
    photo: NDArray[np.float32]
    claimed: str
    shown: str
    note: str
    wrong: bool
    """Whether the verdict is wrong; else the pair is only among the nearest to that."""


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is the same for the same figure."""
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None}, facecolor="white")


def roc_curves(groups: dict[str, dict[str, Roc]]) -> Figure:
    """A panel a group ({"known": {"model": …, "perceptual_hash": …}}), the false accept rate on a log axis."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (group, curves) in zip(panels, groups.items(), strict=True):
        for rate in (0.001, 0.01):
            axes.axvline(rate, color=LINE, linewidth=1, zorder=0)
        for name, curve in curves.items():
            label = f"{name.replace('_', ' ')}  (AUC {curve.auc:.3f})"
            rate = np.maximum(curve.false_accept, 1e-6)
            axes.step(rate, curve.true_accept, where="post", label=label, **_line(name))
        axes.set(xscale="log", xlim=(1e-4, 1), ylim=(-0.01, 1.01), xlabel="false accept rate")
        axes.set_title(f"{group} products", loc="left", color=INK)
        _legend_below(axes)
        _quiet(axes)
    panels[0].set_ylabel("true accept rate")
    return figure


def det_curves(groups: dict[str, dict[str, Roc]]) -> Figure:
    """A panel a group: both error rates against each other, on normal-deviate axes (Martin et al., 1997)."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    ticks = [0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95]
    low, high = 0.0005, 0.98
    for axes, (group, curves) in zip(panels, groups.items(), strict=True):
        axes.plot(norm.ppf([low, high]), norm.ppf([low, high]), color=LINE, linewidth=1, zorder=0)
        for name, curve in curves.items():
            rates = (curve.false_accept, 1 - curve.true_accept)
            errors = [norm.ppf(np.clip(rate, low / 10, 1 - low)) for rate in rates]
            label = f"{name.replace('_', ' ')}  (EER {curve.eer:.3f})"
            axes.step(*errors, where="post", label=label, **_line(name))
        axes.set(xlim=norm.ppf([low, high]), ylim=norm.ppf([low, high]), xlabel="false accept rate")
        axes.set_xticks(norm.ppf(ticks), [f"{tick:g}" for tick in ticks])
        axes.set_yticks(norm.ppf(ticks), [f"{tick:g}" for tick in ticks])
        axes.set_title(f"{group} products", loc="left", color=INK)
        _legend_below(axes)
        _quiet(axes)
    panels[0].set_ylabel("false reject rate")
    return figure


def score_histograms(groups: dict[str, tuple[Floats, Bools, Bools]], decision: Decision) -> Figure:
    """A panel a group: (probability, genuine, hard), [n] each, on a log-odds axis, with the two thresholds."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, len(groups), sharex=True, squeeze=False)[0]
    low, high = 1e-4, 1 - 1e-4
    bins = list(np.linspace(logit(low), logit(high), 61))
    for axes, (group, (probability, genuine, hard)) in zip(panels, groups.items(), strict=True):
        odds = logit(np.clip(probability.astype(np.float64), low, high))
        accept_at, reject_at = logit(np.clip([decision.accept_at, decision.reject_at], low, high))
        axes.axvspan(reject_at, accept_at, color=LINE, alpha=0.6, zorder=0, linewidth=0, label="to a person")
        axes.axvline(reject_at, color=IMPOSTOR, linewidth=1)
        axes.axvline(accept_at, color=GENUINE, linewidth=1)
        for name, which, colour, filled in (
            ("impostor pairs", ~genuine, IMPOSTOR, True),
            ("of the same category", hard, HARD, False),
            ("genuine pairs", genuine, GENUINE, True),
        ):
            if which.any():
                share = np.full(which.sum(), 1 / which.sum())
                style: dict[str, Any] = {"alpha": 0.55} if filled else {"histtype": "step", "linewidth": 1.6}
                axes.hist(odds[which], bins=bins, weights=share, color=colour, label=name, **style)
        ticks = [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999]
        axes.set_xticks(logit(ticks), [f"{tick:g}" for tick in ticks], fontsize=8)
        axes.set(yscale="log", xlabel="probability (log-odds axis; the ends hold what lies beyond)")
        axes.set_title(f"{group} products", loc="left", color=INK)
        axes.legend(frameon=False, fontsize=9)
        _quiet(axes)
    panels[0].set_ylabel("share of pairs")
    return figure


def reliability_plot(bins: list[dict], error: float, prior_match: float) -> Figure:
    """Predicted against observed probability in the team's mix; a dot's area is its share of the pairs."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1.5, zorder=0)
    predicted, observed = [point["predicted"] for point in bins], [point["observed"] for point in bins]
    axes.plot(predicted, observed, color=GENUINE, linewidth=1, alpha=0.25)
    axes.scatter(predicted, observed, s=[12 + 500 * point["share"] for point in bins], color=GENUINE, alpha=0.8)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="probability stated", ylabel="share that was genuine")
    axes.set_title(f"{percent(prior_match)} genuine claims · calibration error {error:.3f}", loc="left", color=INK)
    _quiet(axes)
    return figure


def contact_sheet(cards: Sequence[Card], columns: int = 4) -> Figure:
    """Pairs side by side, original left and photo right; a red frame where the verdict is wrong."""
    rows = max(1, math.ceil(len(cards) / columns))
    figure = Figure(figsize=(3.1 * columns, 1.95 * rows))
    figure.subplots_adjust(0.005, 0.01, 0.995, 1 - 0.2 / rows, wspace=0.03, hspace=0.28)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, card in zip(grid, cards, strict=False):
        side = card.original.shape[0]
        side_by_side = np.ones((side, 2 * side + side // 12, 3), np.float32)
        side_by_side[:, :side], side_by_side[:, -side:] = card.original, card.photo
        axes.imshow(side_by_side, interpolation="bilinear")
        names = (card.claimed,) if card.claimed == card.shown else (card.claimed, card.shown)
        title = " ← ".join(shortened(name, 44 // len(names)) for name in names)
        axes.set_title(f"{title}\n{card.note}", fontsize=7.5, color=INK, pad=4)
        colour = IMPOSTOR if card.wrong else LINE
        size = (side_by_side.shape[1], side_by_side.shape[0])
        axes.add_patch(Rectangle((-0.5, -0.5), *size, fill=False, edgecolor=colour, linewidth=3 if card.wrong else 1))
    return figure


def reconstruction_sheet(rows: dict[str, NDArray[np.float32]]) -> Figure:
    """Named rows of pictures float [n, h, w, 3] in [0, 1], above one another."""
    count = len(next(iter(rows.values())))
    width = 1.05 * count + 1.3
    figure = Figure(figsize=(width, 1.1 * len(rows)))
    figure.subplots_adjust(1.3 / width, 0.01, 0.995, 0.99, wspace=0.06, hspace=0.06)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for (name, pictures), line in zip(rows.items(), grid, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(np.clip(picture, 0, 1), interpolation="bilinear")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", color=INK, fontsize=9)
    return figure


def _line(name: str) -> dict[str, Any]:
    model = name == "model"
    return {
        "color": GENUINE if model else HARD if name == "plain_autoencoder" else MUTED,
        "linestyle": BASELINES.get(name, "-"),
        "linewidth": 2.4 if model else 1.2,
    }


def _legend_below(axes: Axes) -> None:
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=2, fontsize=9)


def shortened(name: str, length: int) -> str:
    """The name, cut at so many characters."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
