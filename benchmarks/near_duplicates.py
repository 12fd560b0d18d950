"""What `validate.duplicate_distance` means: how many different photos count as copies, how many copies are found.

    python -m benchmarks.near_duplicates [FOLDER]      # a folder to import; by default ../shared/grocery-store, or
                                                       # the sample where that is missing

Prints a table by distance: of pairs of different photos the share within it (another product, another scene of one
product, a photo and an original), and of copies of photos, made anew in several ways, the share within it.
"""

import argparse
import csv
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table

from training.dataset.splits import scene_of
from training.validation.measure import measure
from training.validation.near_duplicates import hash_values

GROCERY = Path("../shared/grocery-store")
DISTANCES = (0, 2, 4, 6, 8, 10, 12)
COPIED = 300
"""Photos that copies are made of."""
SCENE_RUN = 8
MAX_PIXELS = 25_000_000

COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again, quality 50": lambda image: image,
    "half its width": lambda image: image.resize((max(1, image.width // 2), max(1, image.height // 2))),
    "a fifth brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "2 % cut off each side": lambda image: _cut(image, 0.02),
    "5 % cut off each side": lambda image: _cut(image, 0.05),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="with catalogue.csv and photos.csv")
    folder = parser.parse_args().folder or (GROCERY if GROCERY.is_dir() else None)
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            folder = Path(scratch, "sample")
            subprocess.run([sys.executable, "-m", "photoproof", "sample", str(folder)], check=True)
        originals = _rows(folder, "catalogue.csv")
        photos = [row for row in _rows(folder, "photos.csv") if row["product_id"]]
        table = Table(title=f"{folder}: {len(photos):,} photos, {len(originals):,} originals", title_justify="left")
        table.add_column("share within so many bits of 64")
        for distance in DISTANCES:
            table.add_column(str(distance), justify="right")
        for name, apart in (_different(folder, originals, photos) | _copies(folder, photos)).items():
            table.add_row(
                f"{name} ({len(apart):,})", *(_share(int((apart <= bits).sum()), len(apart)) for bits in DISTANCES)
            )
        Console(width=150).print(table)


def _different(folder: Path, originals: list[dict], photos: list[dict]) -> dict[str, np.ndarray]:
    """Distances of pairs of pictures that are not copies of each other."""
    of_photos = hash_values(_hash(folder / row["image"]) for row in photos)
    of_originals = hash_values(_hash(folder / row["image"]) for row in originals)
    product = np.array([row["product_id"] for row in photos])
    scene = np.array([scene_of(row["photo_id"], row.get("scene"), SCENE_RUN) for row in photos])
    first, second = np.triu_indices(len(photos), 1)
    apart = np.bitwise_count(of_photos[first] ^ of_photos[second])
    elsewhere = scene[first] != scene[second]
    return {
        "pairs of photos of two products, other scene": apart[elsewhere & (product[first] != product[second])],
        "pairs of photos of one product, other scene": apart[elsewhere & (product[first] == product[second])],
        "pairs of a photo and an original": np.bitwise_count(of_photos[:, None] ^ of_originals).ravel(),
    }


def _copies(folder: Path, photos: list[dict]) -> dict[str, np.ndarray]:
    """Distances of photos to copies of themselves."""
    chosen = photos[:: max(1, len(photos) // COPIED)][:COPIED]
    distances: dict[str, list[int]] = {name: [] for name in COPIES}
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy.jpg")
        for row in chosen:
            of_photo = imagehash.hex_to_hash(_hash(folder / row["image"]))
            image = Image.open(io.BytesIO((folder / row["image"]).read_bytes())).convert("RGB")
            for name, change in COPIES.items():
                change(image).save(copy, quality=50 if "quality" in name else 85)
                distances[name].append(of_photo - imagehash.hex_to_hash(_hash(copy)))
    return {f"copies: {name}": np.array(each) for name, each in distances.items()}


def _hash(path: Path) -> str:
    measured = measure(path, MAX_PIXELS)
    assert measured.perceptual_hash, f"{path}: {measured.error}"
    return measured.perceptual_hash


def _cut(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


def _share(count: int, total: int) -> str:
    if count == 0 or total == 0:
        return "0"
    share = count / total
    return f"{share:.1%}" if share >= 0.001 else f"{count} in {total / 1e6:.1f} M" if total >= 1e5 else f"{share:.2%}"


def _rows(folder: Path, file: str) -> list[dict]:
    with (folder / file).open(newline="", encoding="utf-8-sig") as opened:
        return list(csv.DictReader(opened))


if __name__ == "__main__":
    main()
