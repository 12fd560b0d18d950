"""The one rule by which a picture becomes what a Photoproof model reads: an upright JPEG or PNG.

An upright JPEG or PNG of plain grey or colour is kept byte for byte. Everything else that can be decoded is turned into
one: EXIF orientation applied, alpha laid on white, CMYK, palettes and 16 bits converted; a lossless source becomes a
PNG, any other a JPEG of quality 95 without chroma subsampling. `upright` is that rule alone, which ingestion uses too;
`prepare` is the same for one call: it reads what it is given, refuses what is too small, and reduces what is larger
than a model needs, so that the longer side has at most 1,024 pixels.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import threading
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from photoproof.errors import InvalidImage
from photoproof.pictures.formats import MAX_BYTES, load, open_image, orientation

PictureSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image
"""What a picture may be given as: a path, bytes, an open binary file or a PIL image."""

MIN_SIDE = 32
SENT_SIDE = 1024
LEAST_REDUCED_SIDE = 640  # what JPEG's own reduced decoding may leave of the longer side
THUMBNAIL_SIDE = 32
THUMBNAIL_DECODED_SIDE = 128

_LOADING = [threading.Lock() for _ in range(61)]  # one for a PIL image, by its id; a few images share one
_LOSSLESS = ("PNG", "BMP", "GIF", "PIL")
_UPRIGHT_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Upright:
    """An upright JPEG or PNG, with the format and EXIF orientation (1 to 8) of what it was made from."""

    image_bytes: bytes
    source_format: str
    source_orientation: int


@dataclass(frozen=True)
class PreparedPicture:
    """A picture ready to be sent.

    image_bytes is an upright JPEG or PNG. sha256 is of the bytes as they were given (of image_bytes for a PIL image).
    width and height are the upright source's. thumbnail is uint8 [32, 32, 3], the whole picture.
    """

    image_bytes: bytes
    sha256: str
    width: int
    height: int
    thumbnail: np.ndarray


def upright(image_bytes: bytes) -> Upright:
    """An upright JPEG or PNG of the same picture in full size; the very same bytes where they are one already.

    Raises InvalidImage where the bytes can't be decoded, also for those that would be kept.
    """
    image, source_format = open_image(image_bytes)
    turn = orientation(image, source_format)
    if _needs_no_change(image, source_format, turn):
        _decode_thumbnail(image, source_format)
        return Upright(image_bytes, source_format, turn)
    load(image, source_format)
    return Upright(_encode(_apply_orientation(_to_8_bits(image), turn), source_format), source_format, turn)


def prepare(picture: PictureSource, name: str = "picture") -> PreparedPicture:
    """Reads a path, bytes, a binary file object or a PIL image and makes it ready to be sent.

    `name` is what an error calls a picture without a path. Raises InvalidImage.
    """
    if isinstance(picture, str | os.PathLike):
        name = os.fspath(picture)
    try:
        if isinstance(picture, Image.Image):
            return _prepare(picture, "PIL", _load_pil(picture), None)
        image_bytes = _read(picture)
        image, source_format = open_image(image_bytes)
        return _prepare(image, source_format, orientation(image, source_format), image_bytes)
    except InvalidImage as error:
        raise InvalidImage(error.reason, name) from error.__cause__


def _load_pil(image: Image.Image) -> int:
    """Decodes a PIL image; its EXIF orientation. It may be in several pairs, and Pillow does neither thread-safely."""
    with _LOADING[id(image) % len(_LOADING)]:
        load(image, "PIL image")
        turn = orientation(image, "PIL")
    deepest = image.getextrema()[1] if image.mode == "I" else None
    if isinstance(deepest, int | float) and deepest <= 255:  # as 16 bits it would be black
        raise InvalidImage("is a PIL image in mode I with no value above 255: give it in mode L if it has 8 bits")
    return turn


def _prepare(image: Image.Image, source_format: str, turn: int, source: bytes | None) -> PreparedPicture:
    width, height = image.size if turn < 5 else image.size[::-1]
    if min(width, height) < MIN_SIDE:
        raise InvalidImage(f"has {width} x {height} pixels; each side needs at least {MIN_SIDE}")
    if source is not None and max(width, height) <= SENT_SIDE and _needs_no_change(image, source_format, turn):
        sent, thumbnail = source, _decode_thumbnail(image, source_format)
    else:
        reduced = max(width, height) > SENT_SIDE
        if source_format == "JPEG" and reduced:
            _set_reduced_decoding(image, _jpeg_divisor(max(width, height)))
        load(image, source_format)
        small = _apply_orientation(_to_8_bits(_reduce(image, SENT_SIDE)), turn)
        sent = _encode(small, "JPEG" if reduced else source_format)
        thumbnail = _thumbnail(small)
    return PreparedPicture(
        sent, hashlib.sha256(sent if source is None else source).hexdigest(), width, height, thumbnail
    )


def _read(picture: object) -> bytes:
    """The bytes of a picture, at most one more than are allowed."""
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    try:
        if isinstance(picture, str | os.PathLike):
            with open(picture, "rb") as file:
                return file.read(MAX_BYTES + 1)
        image_bytes = picture.read(MAX_BYTES + 1)  # type: ignore[attr-defined]
    except AttributeError:
        kind = type(picture).__name__
        raise InvalidImage(f"{kind} is not a picture: give a path, bytes, a binary file or a PIL image") from None
    except FileNotFoundError as error:
        raise InvalidImage("no such file") from error
    except IsADirectoryError as error:
        raise InvalidImage("is a folder") from error
    except (OSError, ValueError) as error:
        raise InvalidImage(f"can't be read: {error}") from error
    if inspect.isawaitable(image_bytes):
        if inspect.iscoroutine(image_bytes):
            image_bytes.close()
        raise InvalidImage("the file is asynchronous: give the bytes, `await file.read()`")
    if image_bytes == b"" and not isinstance(picture, str | os.PathLike):
        raise InvalidImage("the file is empty or was read before: `file.seek(0)` lets it be read again")
    if not isinstance(image_bytes, bytes):
        raise InvalidImage("the file is not open in binary mode")
    return image_bytes


def _needs_no_change(image: Image.Image, source_format: str, turn: int) -> bool:
    plain = image.mode in ("RGB", "L") and "transparency" not in image.info
    return source_format in ("JPEG", "PNG") and turn == 1 and plain


def _jpeg_divisor(longer_side: int) -> int:
    """By how much JPEG's reduced decoding may divide a side: to at most SENT_SIDE, or to just above it."""
    divisor = next((d for d in (2, 4, 8) if longer_side <= d * SENT_SIDE), 8)
    return divisor if longer_side / divisor >= LEAST_REDUCED_SIDE else max(1, divisor // 2)


def _set_reduced_decoding(image: Image.Image, divisor: int) -> None:
    image.draft(image.mode, (max(1, image.width // divisor), max(1, image.height // divisor)))


def _reduce(image: Image.Image, longer_side: int) -> Image.Image:
    """The picture with at most this many pixels on its longer side, its aspect ratio kept."""
    if max(image.size) <= longer_side:
        return image
    if image.mode in ("1", "P", "PA", "CMYK") or image.mode.startswith("I"):
        image = _to_8_bits(image)
    scale = longer_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """The picture in 8 bits of grey or colour, what is transparent on white."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(deep, 0, 65535) >> 8).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        rgba = image.convert("RGBA")
        white = Image.new("RGB", rgba.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    if image.mode == "F":
        raise InvalidImage("has floating-point pixels, whose white is not known")
    return image.convert("L" if image.mode == "1" else "RGB")


def _apply_orientation(image: Image.Image, turn: int) -> Image.Image:
    return image if turn == 1 else image.transpose(_UPRIGHT_TURNS[turn])


def _encode(image: Image.Image, source_format: str) -> bytes:
    buffer = io.BytesIO()
    if source_format in _LOSSLESS:
        image.save(buffer, "PNG", compress_level=1, icc_profile=None, exif=b"", pnginfo=None)
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=None, exif=b"", comment=b"")
    return buffer.getvalue()


def _decode_thumbnail(image: Image.Image, source_format: str) -> np.ndarray:
    """The thumbnail of a picture that needs no change; a JPEG is decoded no larger than that takes."""
    width, height = image.size
    if source_format == "JPEG":
        divisor = next((d for d in (8, 4, 2) if min(width, height) // d >= THUMBNAIL_DECODED_SIDE), 1)
        _set_reduced_decoding(image, divisor)
        load(image, source_format)
        # A reduced side is rounded up to whole blocks; the part of them that the picture fills is known.
        box = (0.0, 0.0, min(image.width, width / divisor), min(image.height, height / divisor))
        return _thumbnail(image, box)
    load(image, source_format)
    return _thumbnail(image)


def _thumbnail(image: Image.Image, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    small = image.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    return np.asarray(small.convert("RGB"))
