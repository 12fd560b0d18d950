"""Pictures of a training run: augmented photos, what the decoder draws, and the losses by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def write_picture_grid(rows: Sequence[np.ndarray], path: Path) -> None:
    """Write a PNG of rows of pictures, each row float [n, s, s, 3] in [0, 1], all pictures of one size."""
    strips = [np.concatenate(list(row), axis=1) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=1.0) for strip in strips]
    Image.fromarray(_as_bytes(np.concatenate(padded))).save(path)


def resize(pictures: np.ndarray, side: int) -> np.ndarray:
    """Float [n, s, s, 3] in [0, 1] -> float [n, side, side, 3]."""
    images = (Image.fromarray(_as_bytes(picture)) for picture in pictures)
    return np.stack([np.asarray(image.resize((side, side)), np.float32) / 255.0 for image in images])


def write_loss_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write a PNG with the losses above and the validation split's AUC below, by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    losses, aucs = figure.subplots(2, 1, sharex=True)
    for axes, names in (
        (losses, ("loss", "reconstruction", "classification", "contrast")),
        (aucs, ("validation_auc_known", "validation_auc_new")),
    ):
        for name in names:
            points = [(epoch["epoch"], epoch[name]) for epoch in history if name in epoch]
            if points:
                axes.plot(
                    *zip(*points, strict=True), label=name.replace("_", " "), marker="." if axes is aucs else None
                )
        if axes.lines:
            axes.legend(frameon=False)
    losses.set_ylabel("loss")
    aucs.set(xlabel="epoch", ylabel="AUC")
    figure.savefig(path, dpi=100)


def _as_bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture * 255.0 + 0.5, 0, 255).astype(np.uint8)
