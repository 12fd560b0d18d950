"""Opens the bytes of a picture no further than its header, and never more of it than is safe.

Pillow's plug-ins are asked one by one, by the first bytes, instead of `Image.open`: its own guard against decompression
bombs warns through a process-wide filter and lets 179 megapixels through.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable

from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin

from photoproof.errors import InvalidImage

MAX_PIXELS = 64_000_000
MAX_BYTES = 64 * 1024 * 1024
MAX_JPEG_SCANS = 100  # a progressive JPEG has about ten; each further one costs a pass over all pixels
MAX_JPEG_SEGMENTS = 10_000  # the largest that can be read has some 1,000, of metadata

READABLE = "JPEG, PNG, WebP, BMP, GIF, or HEIC with the extra `heic`"
_ORIENTATION = 0x0112
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # not a stuffed byte, a fill byte or a marker without a segment
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_FOREIGN = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xm": "XML",
    b"<!DO": "HTML",
    b"<htm": "HTML",
    b"8BPS": "Photoshop",
    b"PK\3\4": "zip",
}


def _webp() -> Callable[..., Image.Image]:
    from PIL import WebPImagePlugin

    return WebPImagePlugin.WebPImageFile


def _heic() -> Callable[..., Image.Image]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise InvalidImage("is HEIC, which needs `pip install 'photoproof[heic]'`") from None
    return HeifImageFile


def _format_of(image_bytes: bytes) -> tuple[str, Callable[..., Image.Image]]:
    head = image_bytes[:12]
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG", JpegImagePlugin.JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", PngImagePlugin.PngImageFile
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP", _webp()
    if head.startswith(b"BM"):
        return "BMP", BmpImagePlugin.BmpImageFile
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", GifImagePlugin.GifImageFile
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "HEIC", _heic()
    if not image_bytes:
        raise InvalidImage("is empty")
    kind = "AVIF" if head[4:12] == b"ftypavif" else _FOREIGN.get(head[:4])
    raise InvalidImage(f"is {kind}, not a picture of a kind that is read here ({READABLE})" if kind else
                       f"is not a picture ({READABLE})")  # fmt: skip


def open_image(image_bytes: bytes) -> tuple[Image.Image, str]:
    """The picture with its pixels not yet decoded, and its format ("JPEG", "PNG", "WEBP", "BMP", "GIF" or "HEIC").

    Raises InvalidImage for what is not a picture of these formats, has a broken header, more than 64 megapixels, more
    than 64 MiB or, as a JPEG, more than 100 scans or 10,000 segments.
    """
    if len(image_bytes) > MAX_BYTES:
        raise InvalidImage(f"has more than {MAX_BYTES // 1024**2} MiB")
    name, opener = _format_of(image_bytes)
    try:
        image = opener(io.BytesIO(image_bytes))
    except InvalidImage:
        raise
    except Exception as error:  # Pillow's plug-ins raise nearly anything on a broken header
        raise InvalidImage(f"is a broken {name}: {_first_line(error)}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InvalidImage(f"has {width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are read")
    if width < 1 or height < 1:
        raise InvalidImage(f"has {width} x {height} pixels")
    if name == "JPEG" and _has_too_many_scans(image_bytes):
        raise InvalidImage(f"is a JPEG with more than {MAX_JPEG_SCANS} scans or {MAX_JPEG_SEGMENTS:,} segments")
    return image, name


def _has_too_many_scans(jpeg: bytes) -> bool:
    """Whether the decoder would find too many scans or segments, as it looks for them: up to the picture's end.

    What follows the end may be anything: phones append a film, or further pictures.
    """
    if jpeg.count(b"\xff\xda") <= MAX_JPEG_SCANS:  # almost always, and fast
        return False
    scans = at = 0
    for _ in range(MAX_JPEG_SEGMENTS):
        match = _JPEG_MARKER.search(jpeg, at)
        if match is None or jpeg[match.end() - 1] == _EOI:
            return False
        at, marker = match.end(), jpeg[match.end() - 1]
        if marker == _SOI:
            continue
        scans += marker == _SOS
        if scans > MAX_JPEG_SCANS:
            return True
        at += max(2, int.from_bytes(jpeg[at : at + 2], "big"))
    return True


def load(image: Image.Image, name: str) -> None:
    """Decodes the pixels; raises InvalidImage where they are truncated or broken."""
    try:
        image.load()
    except Exception as error:  # as above, with the decoders' own
        kind = "truncated" if "truncated" in str(error) or "not enough" in str(error) else "broken"
        raise InvalidImage(f"is a {kind} {name}: {_first_line(error)}") from error


def orientation(image: Image.Image, name: str) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where it is missing or invalid. Decodes a PNG's pixels."""
    if name == "PNG":
        load(image, name)  # a PNG may have it after its pixels, so `getexif` would load them, and lose their error
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF is common, and no reason to refuse a picture that decodes
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
