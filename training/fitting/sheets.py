"""Pictures of a training run: what the camera makes, what the decoder draws, how the losses fell."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def contact_sheet(rows: Sequence[np.ndarray], path: Path) -> None:
    """Write a PNG: each row float [n, s, s, 3] in [0, 1], all of one size."""
    strips = [np.concatenate(list(row), axis=1) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=1.0) for strip in strips]
    sheet = np.clip(np.concatenate(padded) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    Image.fromarray(sheet).save(path)


def resized(pictures: np.ndarray, side: int) -> np.ndarray:
    """Float [n, s, s, 3] in [0, 1] -> float [n, side, side, 3]."""
    images = (Image.fromarray(np.clip(one * 255.0 + 0.5, 0, 255).astype(np.uint8)) for one in pictures)
    return np.stack([np.asarray(image.resize((side, side)), np.float32) / 255.0 for image in images])


def loss_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a PNG with the losses above and the validation split's AUC below, by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    losses, aucs = figure.subplots(2, 1, sharex=True)
    for axes, names in (
        (losses, ("loss", "reconstruction", "classification", "contrast")),
        (aucs, ("validation_auc_known", "validation_auc_new")),
    ):
        for name in names:
            points = [(one["epoch"], one[name]) for one in history if name in one]
            if points:
                axes.plot(
                    *zip(*points, strict=True), label=name.replace("_", " "), marker="." if axes is aucs else None
                )
        if axes.lines:
            axes.legend(frameon=False)
    losses.set_ylabel("loss")
    aucs.set(xlabel="epoch", ylabel="AUC")
    figure.savefig(path, dpi=100)
