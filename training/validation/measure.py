"""Measures of a picture, by which validation accepts it: one row a picture, from its file alone."""

import io
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image, ImageChops
from tqdm import tqdm

from training.dataset.workers import chunked, in_order, open_pool
from training.stage.params import Workers

SCHEMA = pa.schema(
    [
        pa.field("decodes", pa.bool_(), nullable=False),
        pa.field("error", pa.string()),  # why it does not decode
        pa.field("format", pa.string()),  # "JPEG", "PNG", …; with mode, width and height from the header
        pa.field("mode", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("light_mean", pa.float32()),  # of the grey picture, 0 black to 1 white
        pa.field("light_spread", pa.float32()),  # standard deviation of the same
        pa.field(
            "sharpness", pa.float32()
        ),  # standard deviation of the grey picture's Laplacian, at most 256 px a side
        pa.field("near_white", pa.float32()),  # share of pixels whose three channels are at least 245 of 255
        pa.field("perceptual_hash", pa.string()),  # imagehash.phash, 16 hex digits
    ]
)

SIDE = 256  # pixels; light, sharpness and the hash are of pictures of at most this side
FEW = 100  # fewer pictures than these are measured sooner than worker processes start
CHUNK = 16  # pictures that a worker takes at a time
ALL_CORES = Workers()


@dataclass(frozen=True)
class Measured:
    """One row of SCHEMA; what could not be measured is None."""

    decodes: bool
    error: str | None = None
    format: str | None = None
    mode: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    light_mean: float | None = None
    light_spread: float | None = None
    sharpness: float | None = None
    near_white: float | None = None
    perceptual_hash: str | None = None


def measure_all(paths: Sequence[Path], max_pixels: int, workers: Workers = ALL_CORES) -> pa.Table:
    """A row of SCHEMA for each path, in order, measured where `workers` says.

    Raises BadInput where that is a Dask cluster that is unavailable.
    """
    return pa.Table.from_pylist([vars(row) for row in measure_each(paths, max_pixels, workers)], schema=SCHEMA)


def measure_each(
    paths: Sequence[Path], max_pixels: int, workers: Workers = ALL_CORES
) -> Generator[Measured, None, None]:
    """As `measure_all`, a row at a time."""
    with tqdm(total=len(paths), desc="measure", unit=" pictures", disable=None, leave=False) as progress:
        if len(paths) < FEW and (not workers.dask or not paths):
            for path in paths:
                yield measure(path, max_pixels)
                progress.update()
        else:
            with open_pool(workers) as pool:
                for rows in in_order(pool, _measure_chunk, chunked(map(_read, paths), CHUNK), max_pixels):
                    yield from rows
                    progress.update(len(rows))


def measure(path: Path, max_pixels: int) -> Measured:
    """Measure one picture. A file that is missing or does not decode is a row that says so, never an error.

    A picture whose header claims more than max_pixels is not decoded.
    """
    return _measure(_read(path), max_pixels)


def _read(path: Path) -> bytes | str:
    """A file's bytes, or why it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        return str(error.strerror) if path.exists() else "the file is missing"


def _measure_chunk(files: list[bytes | str], max_pixels: int) -> list[Measured]:
    return [_measure(file, max_pixels) for file in files]


def _measure(image_bytes: bytes | str, max_pixels: int) -> Measured:
    if isinstance(image_bytes, str):
        return Measured(decodes=False, error=image_bytes)
    header: dict = {"bytes": len(image_bytes)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(image_bytes)) as image:
                header |= {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height}
                if image.width * image.height > max_pixels:
                    error = f"{image.width} x {image.height} px are more than {max_pixels / 1e6:g} million pixels"
                    return Measured(decodes=False, error=error, **header)
                image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded as small as suffices
                picture = image.convert("RGB")
    except MemoryError:  # says nothing about the picture: without `bytes` it is measured anew next time
        return Measured(decodes=False, error="there was not enough memory to decode it")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more for broken bytes
        return Measured(decodes=False, error=_in_a_line(error), **header)
    return Measured(decodes=True, **header, **_measure_pixels(picture))


def _measure_pixels(picture: Image.Image) -> dict:
    red, green, blue = picture.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue).histogram()  # far quicker than numpy's min
    thumbnail = picture.convert("L")
    thumbnail.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    grey = np.asarray(thumbnail, np.float32) / 255
    padded = np.pad(grey, 1, mode="edge")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * grey
    return {
        "light_mean": float(grey.mean()),
        "light_spread": float(grey.std()),
        "sharpness": float(laplacian.std()),
        "near_white": sum(darkest[245:]) / sum(darkest),
        "perceptual_hash": str(imagehash.phash(thumbnail.reduce(2))),
    }


def _in_a_line(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    return " ".join(str(error).split()) or type(error).__name__
