"""`photoproof sample`: a small catalogue to try everything on, drawn and not downloaded.

24 products (pipelines/demo/drawing/), an original and twelve camera-like photos of each, taken by the
same camera code that training augments with, and twelve uploads that only claim a product, four of them
falsely. The folder has the form that `photoproof import` reads. The same seed gives the same bytes.
"""

import csv
import functools
import hashlib
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipelines.demo.drawing.products import PRODUCTS, Flavour
from pipelines.demo.drawing.shapes import draw
from training.stage.errors import BadInput
from training.stage.files import write_whole

if TYPE_CHECKING:
    import tensorflow as tf

SEED = 8
SIZE = 256
STORES, PHOTOS_A_STORE = 4, 3
TWINS_CLAIMED, OTHERS_CLAIMED, CLAIMS = 2, 2, 12

TRUTHS = "claims_truth.csv"
"""What the uploads really show. Import does not read it: in a company nobody would know."""


@dataclass(frozen=True)
class DrawnSample:
    """What was drawn."""

    products: int
    photos: int
    """Those whose product is known."""
    claims: int

    def __str__(self) -> str:
        return f"{self.products} products, {self.photos} photos with a truth, {self.claims} claims without"


@dataclass(frozen=True)
class _Shot:
    """One photo to take."""

    photo_id: str
    image: str
    shows: Flavour
    claims: Flavour | None
    scene: str
    taken_at: datetime


def draw_sample(folder: Path, seed: int = SEED, *, progress: bool = True) -> DrawnSample:
    """Draw the catalogue into a folder that is new, empty, or an earlier sample.

    catalogue.csv and photos.csv come last, so nobody can import half a sample. `progress` shows a bar on a terminal's
    stderr. Raises BadInput for a folder that holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: name a folder to draw the sample into")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TRUTHS).exists():
        raise BadInput(f"{folder} holds something else than a sample: name a new folder")
    (folder / "catalogue").mkdir(parents=True, exist_ok=True)
    for name in ("catalogue.csv", "photos.csv"):
        (folder / name).unlink(missing_ok=True)
    shots = list(_shots(seed))
    _write_csv(
        folder / TRUTHS,
        ["photo_id", "product_id"],
        [[shot.photo_id, shot.shows.product_id] for shot in shots if shot.claims],
    )
    pictures = {product.product_id: draw(product, SIZE) for product in PRODUCTS}
    for product_id, picture in pictures.items():
        (folder / "catalogue" / f"{product_id}.jpg").write_bytes(_jpeg(picture, 90))
    for shot in tqdm(shots, "sample", unit="photo", disable=None if progress else True):
        path = folder / shot.image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_jpeg(_photograph(pictures[shot.shows.product_id], seed, shot.photo_id), 82))
    _write_csv(
        folder / "photos.csv",
        ["photo_id", "image", "product_id", "claimed_product_id", "scene", "taken_at"],
        [
            [
                shot.photo_id,
                shot.image,
                "" if shot.claims else shot.shows.product_id,
                shot.claims.product_id if shot.claims else "",
                shot.scene,
                shot.taken_at.isoformat(),
            ]
            for shot in shots
        ],
    )
    _write_csv(
        folder / "catalogue.csv",
        ["product_id", "name", "category", "image"],
        [
            [product.product_id, product.name, product.package.category, f"catalogue/{product.product_id}.jpg"]
            for product in PRODUCTS
        ],
    )
    return DrawnSample(len(PRODUCTS), len(shots) - CLAIMS, CLAIMS)


def _shots(seed: int) -> Iterator[_Shot]:
    """Twelve photos of each product, three a visit to a store's shelf, then the uploads."""
    first_day = datetime(2025, 3, 3, 9, 0, tzinfo=UTC)
    for index, product in enumerate(PRODUCTS):
        shelf = index // 2 + 1  # twins stand side by side
        for number in range(STORES * PHOTOS_A_STORE):
            store = number // PHOTOS_A_STORE
            yield _Shot(
                photo_id=f"{product.product_id}-{number + 1:02d}",
                image=f"photos/{product.product_id}/{product.product_id}-{number + 1:02d}.jpg",
                shows=product,
                claims=None,
                scene=f"store-{store + 1}-shelf-{shelf:02d}",
                taken_at=first_day + timedelta(days=7 * store, minutes=6 * index + number),
            )
    generator = random.Random(f"claims {seed}")
    claimed = generator.sample(range(len(PRODUCTS)), CLAIMS)
    false = generator.sample(range(CLAIMS), TWINS_CLAIMED + OTHERS_CLAIMED)
    for number, claim in enumerate(claimed):
        shows = claim
        if number in false[:TWINS_CLAIMED]:
            shows = claim ^ 1
        elif number in false:
            shows = (claim + 2 * generator.randrange(1, len(PRODUCTS) // 2)) % len(PRODUCTS)
        yield _Shot(
            photo_id=f"upload-{number + 1:03d}",
            image=f"photos/uploads/upload-{number + 1:03d}.jpg",
            shows=PRODUCTS[shows],
            claims=PRODUCTS[claim],
            scene=f"upload-{number + 1:03d}",
            taken_at=first_day + timedelta(days=35, minutes=11 * number),
        )


def _photograph(picture: Image.Image, seed: int, photo_id: str) -> Image.Image:
    digest = hashlib.sha256(f"{seed} {photo_id}".encode()).digest()
    photo = _camera()(np.asarray(picture, np.float32) / 255, np.frombuffer(digest[:8], "<i4"))
    return Image.fromarray((np.asarray(photo) * 255).round().astype(np.uint8))


@functools.cache
def _camera() -> Callable[[np.ndarray, np.ndarray], "tf.Tensor"]:
    import tensorflow as tf

    from training.fitting.camera import Camera, photograph

    signature = [tf.TensorSpec([SIZE, SIZE, 3], tf.float32), tf.TensorSpec([2], tf.int32)]
    return tf.function(lambda picture, seed: photograph(picture, seed, Camera()), input_signature=signature)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, table.getvalue())
