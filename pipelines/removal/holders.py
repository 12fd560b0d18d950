"""Which registered models know a picture: trained on it, measured with it, or holding it in cohort or golden pairs."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipelines.registry import artifacts, versions
from pipelines.registry.artifacts import ARTIFACT, EVIDENCE
from pipelines.registry.evidence import PICTURES
from pipelines.registry.versions import MODEL
from pipelines.workspace.places import Workspace
from training.saved_model import assets

TRAINED, MEASURED, COHORT, GOLDEN = "trained on it", "measured with it", "in its cohort", "in its golden pairs"
PERHAPS = "of a data version that holds it (it keeps no list of its pictures)"


@dataclass(frozen=True)
class Holder:
    """A version in MLflow that knows a picture, and how."""

    version: int
    aliases: tuple[str, ...]
    uses: tuple[str, ...]

    def __str__(self) -> str:
        aliases = f" ({', '.join(self.aliases)})" if self.aliases else ""
        return f"{MODEL} version {self.version}{aliases}: {', '.join(self.uses)}"


def find_holders(
    workspace: Workspace, products: frozenset[str], photos: frozenset[str], holds_it: Callable[[str], bool]
) -> list[Holder]:
    """The versions that know any of the products' originals or of the photos, the oldest first.

    `holds_it`: whether the data version of an md5 has one of them; it decides for versions without evidence. Raises
    RegistryUnreachable.
    """
    holders = []
    for version in versions.all_versions(workspace):
        with tempfile.TemporaryDirectory() as folder:
            uses = _find_uses(workspace, version, Path(folder), products, photos, holds_it)
        if uses:
            holders.append(Holder(version.version, version.aliases, uses))
    return sorted(holders, key=lambda holder: holder.version)


def _find_uses(
    workspace: Workspace,
    version: versions.ModelVersion,
    folder: Path,
    products: frozenset[str],
    photos: frozenset[str],
    holds_it: Callable[[str], bool],
) -> tuple[str, ...]:
    pictures_path = artifacts.download_part(workspace, version.version, f"{EVIDENCE}/{PICTURES}", folder)
    if pictures_path is not None:
        pictures = pd.read_parquet(pictures_path)
        original = pictures.role == "original"
        mine = pictures[original & pictures.picture_id.isin(products) | ~original & pictures.picture_id.isin(photos)]
        if mine.empty:
            return ()
        uses = [TRAINED] if (mine.split == "train").any() else [MEASURED]
        if "cohort" in mine and mine.cohort.any():
            uses.append(COHORT)
    elif holds_it(version.tags.get("data_version", "")):
        uses = [PERHAPS]
    else:
        return ()
    golden = artifacts.download_part(workspace, version.version, f"{ARTIFACT}/{assets.GOLDEN}", folder)
    pairs = assets.read_golden(golden) if golden else []
    if any(pair.get("photo_id") in photos or pair.get("product_id") in products for pair in pairs):
        uses.append(GOLDEN)
    return tuple(uses)
