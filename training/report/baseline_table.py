"""The model in one table with what it has to beat, as the report and reports/evaluation/table.md show it."""

from dataclasses import dataclass
from typing import Any

from training.evaluation.plain_autoencoder import LATENT, SIDE
from training.stage.params import Train

COLUMNS = (
    ("known", "auc", "AUC"),
    ("known", "eer", "EER"),
    ("known", "tar_at_far_1pct", "TAR at 1 % FAR"),
    ("known", "top1", "top-1"),
    ("new", "auc", "AUC"),
    ("new", "tar_at_far_1pct", "TAR at 1 % FAR"),
)
"""Group of products, key in metrics.json, and what people call it."""

NAMES = {
    "array_equal": "equal pixels (array_equal)",
    "perceptual_hash": "perceptual hash (64 bit)",
    "raw_pixels": "raw pixels, cosine",
    "colour_histogram": "colour histogram",
}


@dataclass(frozen=True)
class Methods:
    """What was compared: how the model was trained, and for how many epochs the plain autoencoder."""

    model: Train
    baseline_epochs: int

    def name(self, key: str) -> str:
        """What people call a baseline in metrics.json, or the "model"."""
        if key == "model":
            model = self.model
            start = "from scratch" if model.encoder == "scratch" else model.encoder
            fixed = ", with the first weights' features" if model.fixed_weight else ""
            return f"Photoproof: {start}, {model.image_size} px, latent {model.latent_size}{fixed}"
        if key == "plain_autoencoder":
            return f"plain autoencoder, {SIDE} px, latent {LATENT}, {self.baseline_epochs} epochs, cosine"
        return NAMES.get(key, key.replace("_", " "))


def rows(metrics: dict[str, Any], methods: Methods) -> list[tuple[str, list[str]]]:
    """(method, figures as in COLUMNS): the baselines in their order, then the model; "–" where not measured."""
    by_method = metrics["baselines"] | {"model": metrics}
    return [
        (methods.name(key), [_figure(groups, group, figure) for group, figure, _ in COLUMNS])
        for key, groups in by_method.items()
    ]


def markdown(metrics: dict[str, Any], methods: Methods) -> str:
    """The table, and a line that says what it was measured on."""
    heads = ["method", *(f"{group}: {title}" for group, _, title in COLUMNS)]
    *others, (model, figures) = rows(metrics, methods)
    body = [[name, *cells] for name, cells in others] + [[f"**{cell}**" for cell in (model, *figures)]]
    lines = [heads, ["---", *("---:" for _ in COLUMNS)], *body]
    counts = metrics["counts"]
    source = (
        f"{counts['photos']} test photos, each against all {counts['originals']} originals; known products were "
        "trained on, in other scenes, new ones never. Made by `dvc repro evaluate`."
    )
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", source, ""])


def _figure(groups: dict[str, Any], group: str, key: str) -> str:
    return f"{groups[group][key]:.3f}" if group in groups else "–"
