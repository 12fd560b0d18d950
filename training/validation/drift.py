"""How the photos are distributed, and how far from those that the champion was trained on.

validate writes distributions.json; a model's version keeps it in MLflow. Before new data is validated the flow puts the
champion's into reference.json, a committed file, so that the stage depends on no server.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.stage.files import write_whole

COLUMNS = {
    "size": "drift_size",
    "light": "drift_light",
    "sharpness": "drift_sharpness",
    "photos per product": "drift_photos",
}
"""The column of each distribution, as `add_columns` adds it."""

QUANTILES = np.linspace(0, 1, 51)
CHANCE = 1.63
"""Kolmogorov-Smirnov: this, times the square root of 1/n + 1/m, is passed by chance once in a hundred times."""


@dataclass(frozen=True)
class Reference:
    """The distributions that new data is compared with; empty where there is no champion yet."""

    data_version: str | None
    distributions: Mapping[str, Mapping[str, Any]]


def add_columns(pictures: pd.DataFrame) -> pd.DataFrame:
    """The same rows with COLUMNS.

    Of each photo its size (square root of its pixels), light and sharpness, of each original how many photos its
    product has; else missing.
    """
    photo = pictures.role == "photo"
    size = np.sqrt(pictures.width.astype(float) * pictures.height.astype(float))
    count = pictures.product_id.map(pictures.product_id[photo].value_counts()).fillna(0.0)
    return pictures.assign(
        drift_size=size.where(photo),
        drift_light=pictures.light_mean.astype(float).where(photo),
        drift_sharpness=pictures.sharpness.astype(float).where(photo),
        drift_photos=count.where(~photo),
    )


def describe(values: np.ndarray) -> dict[str, Any]:
    """A distribution in brief: at up to 51 of its values, the share of all that is below and that is at most it."""
    values = np.sort(np.asarray(values, float))
    points = np.unique(np.quantile(values, QUANTILES, method="inverted_cdf")) if len(values) else values
    below, at_most = _shares(values, points)
    return {
        "count": len(values),
        "values": [float(f"{point:.6g}") for point in points],
        "below": below.round(6).tolist(),
        "at_most": at_most.round(6).tolist(),
    }


def distance(values: np.ndarray, reference: Mapping[str, Any]) -> float:
    """The largest difference between the shares of both that lie below some value: 0 the same, 1 wholly apart.

    The Kolmogorov-Smirnov statistic, at the reference's values (within a fiftieth of that at all values).
    """
    points = np.asarray(reference["values"])
    values = np.sort([float(f"{value:.6g}") for value in values])  # as the reference's were rounded
    differences = np.abs(np.array(_shares(values, points)) - np.array([reference["below"], reference["at_most"]]))
    return float(differences.max())


def by_chance(count: int, reference: Mapping[str, Any]) -> float:
    """The distance that so many independent photos reach by chance in one of a hundred data versions without drift."""
    return CHANCE * float(np.sqrt(1 / max(count, 1) + 1 / max(reference["count"], 1)))


def quantiles(distribution: Mapping[str, Any], shares: tuple[float, ...]) -> list[float]:
    """A described distribution's quantiles, about: the values that such shares of it are at most."""
    values = distribution["values"]
    places = np.searchsorted(distribution["at_most"], np.asarray(shares) - 1e-9)
    return [values[min(place, len(values) - 1)] for place in places]


def describe_all(pictures: pd.DataFrame) -> dict[str, Any]:
    """Every distribution by its name, of rows from `add_columns`."""
    return {name: describe(pictures[column].dropna().to_numpy()) for name, column in COLUMNS.items()}


def read_reference(path: Path) -> Reference:
    """reference.json, or validate's distributions.json; no distributions where the file is missing or has none."""
    try:
        contents = json.loads(path.read_text())
    except FileNotFoundError:
        contents = {}
    return Reference(contents.get("data_version"), contents.get("distributions", {}))


def write_reference(reference: Reference, path: Path) -> None:
    """Write it, a line for each list of numbers."""
    lines = ["{", f'"data_version": {json.dumps(reference.data_version)},', '"distributions": {']
    for number, (name, distribution) in enumerate(reference.distributions.items()):
        inside = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in distribution.items())
        comma = "," if number + 1 < len(reference.distributions) else ""
        lines.append(f"{json.dumps(name)}: {{\n{inside}}}{comma}")
    lines.append("}}")
    write_whole(path, "\n".join(lines) + "\n")


def _shares(values: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the sorted values the share below each point, and the share at most each point."""
    count = max(len(values), 1)
    return np.searchsorted(values, points, "left") / count, np.searchsorted(values, points, "right") / count
