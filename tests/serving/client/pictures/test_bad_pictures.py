"""More than forty bad pictures: each is refused with its reason, and none takes long or much memory."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from photoproof import InvalidImage
from photoproof.pictures.prepare import prepare


def good(name: str, size: tuple[int, int] = (200, 160), **options) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, name, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))


def png_bomb(width: int, height: int, colour: int = 2) -> bytes:
    """A PNG of that many pixels, all alike, in a few kilobytes to megabytes."""
    row = bytes(1 + width * {0: 1, 2: 3, 6: 4}[colour])
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png_header(width, height, colour) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    source = good("JPEG")
    at = source.index(b"\xff\xc0")
    return source[: at + 5] + struct.pack(">HH", height, width) + source[at + 9 :]


def many_scans() -> bytes:
    source = good("JPEG", progressive=True)
    at = source.rindex(b"\xff\xda")
    return source[:at] + source[at:-2] * 200 + source[-2:]


def hidden_scans() -> bytes:
    """As many, behind what looks like the picture's end but is in a comment, and behind stuffed and fill bytes."""
    source = many_scans()
    at = source.index(b"\xff\xda")
    return source[:at] + b"\xff\xfe\0\x04\xff\xd9" + b"\xff\0\xff\xff\xff" + source[at:]


TRUNCATED, BROKEN, NONE, MANY = "truncated", "broken", "is not a picture", "pixels; at most 64 million"
CORPUS = {
    **{
        f"{name} cut at {part} %": ((lambda n=name, p=part: good(n)[: len(good(n)) * p // 100]), reason)
        for name, reason in {"JPEG": "truncated|broken", "PNG": "truncated|broken", "BMP": "truncated|broken"}.items()
        for part in (1, 10, 50, 80, 98)
    },
    **{
        f"{name} cut in half": ((lambda n=name: good(n)[: len(good(n)) // 2]), "truncated|broken")
        for name in ("GIF", "WEBP")
    },
    "a progressive JPEG cut in half": (lambda: good("JPEG", progressive=True)[:9000], "truncated|broken"),
    "JPEG's first bytes alone": (lambda: b"\xff\xd8\xff\xe0", "broken JPEG"),
    "PNG's first bytes alone": (lambda: b"\x89PNG\r\n\x1a\n", "broken PNG"),
    "WebP's first bytes alone": (lambda: b"RIFF\0\0\0\0WEBP", "broken WEBP"),
    "GIF's first bytes alone": (lambda: b"GIF89a", "broken GIF"),
    "BMP's first bytes alone": (lambda: b"BM", "broken BMP"),
    "HEIC's first bytes alone": (lambda: b"\0\0\0\x18ftypheic" + bytes(12), "broken HEIC"),
    "a PNG whose pixels are noise": (
        lambda: png_header(64, 64) + png_chunk(b"IDAT", bytes(range(256))) + png_chunk(b"IEND", b""),
        BROKEN,
    ),
    "a PNG with too few pixels": (
        lambda: png_header(64, 64) + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b""),
        "truncated|broken",
    ),
    "a PNG with a wrong checksum": (lambda: good("PNG")[:40] + b"\0" + good("PNG")[41:], BROKEN),
    "a PNG without pixels": (lambda: png_header(64, 64) + png_chunk(b"IEND", b""), "truncated|broken"),
    "a PNG of no width": (lambda: png_header(0, 64), "pixels|broken"),
    "a PNG of 60,000 x 60,000": (lambda: png_header(60_000, 60_000) + png_chunk(b"IDAT", b""), MANY),
    "a PNG of two billion pixels a side": (lambda: png_header(2**31 - 1, 2**31 - 1) + png_chunk(b"IDAT", b""), MANY),
    "a real PNG of 100 megapixels": (lambda: png_bomb(10_000, 10_000, 0), MANY),
    "a JPEG of 65,500 x 65,500": (lambda: jpeg_header(65_500, 65_500), MANY),
    "a GIF of 65,535 x 65,535": (lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + good("GIF")[10:], MANY),
    "a BMP of a billion pixels": (
        lambda: good("BMP")[:18] + struct.pack("<ii", 40_000, 40_000) + good("BMP")[26:],
        MANY,
    ),
    "a JPEG of 200 scans": (many_scans, "scans"),
    "a JPEG of 200 scans, cut": (lambda: many_scans()[:-1000], "scans"),
    "a JPEG of 200 scans, a comment before them": (hidden_scans, "scans"),
    "a JPEG of a million segments and as many scans behind its end": (
        lambda: good("JPEG")[:-2] + b"\xff\xfe\0\x02" * 10**6 + b"\xff\xd9" + b"\xff\xda" * 200,
        "scans",
    ),
    "a WebP of 16,383 x 16,383": (lambda: webp_header(16_383, 16_383), f"{MANY}|broken"),
    "a compressed text of 64 MiB in a PNG": (
        lambda: (
            png_header(64, 64) + png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26))) + png_chunk(b"IEND", b"")
        ),
        "truncated|broken",
    ),
    "65 MiB": (lambda: good("JPEG") + bytes(65 * 2**20), "more than 64 MiB"),
    "one side of 31 pixels": (lambda: good("PNG", (31, 200)), "at least 32"),
    "one pixel": (lambda: good("JPEG", (1, 1)), "at least 32"),
    "nothing": (lambda: b"", "empty"),
    "one byte": (lambda: b"\xff", NONE),
    "words": (lambda: b"this is not a picture at all", NONE),
    "zeros": (lambda: bytes(10_000), NONE),
    "a web page": (lambda: b"<!DOCTYPE html><html></html>", "is HTML"),
    "an SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is SVG"),
    "a PDF": (lambda: b"%PDF-1.7\n", "is PDF"),
    "a TIFF": (lambda: good("TIFF"), "is TIFF"),
    "an AVIF": (lambda: b"\0\0\0\x1cftypavif" + bytes(16), "is AVIF"),
    "a zip": (lambda: b"PK\3\4" + bytes(30), "is zip"),
    "a PPM": (lambda: good("PPM"), NONE),
}


def webp_header(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + good("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def test_there_are_more_than_forty_bad_pictures():
    assert len(CORPUS) > 40


@pytest.mark.parametrize("name", CORPUS)
def test_a_bad_picture_is_refused_soon_with_its_reason(name):
    make, reason = CORPUS[name]
    source = make()
    start = time.process_time()
    with pytest.raises(InvalidImage, match=reason) as refused:
        prepare(source, "photo")
    assert time.process_time() - start < 2
    assert str(refused.value).startswith("photo: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ("/nowhere/a.jpg", "no such file"),
        ("/tmp", "is a folder"),
        (None, "NoneType is not a picture"),
        (3, "int is not a"),
    ],
)
def test_what_is_no_picture_at_all_is_refused(picture, reason):
    with pytest.raises(InvalidImage, match=reason):
        prepare(picture)


def test_a_file_open_as_text_is_refused(tmp_path):
    (tmp_path / "a").write_text("text")
    with (tmp_path / "a").open() as file, pytest.raises(InvalidImage, match="not open in binary mode"):
        prepare(file)  # type: ignore[arg-type]


def test_a_file_that_was_read_before_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "a.jpg").write_bytes(good("JPEG"))
    with (tmp_path / "a.jpg").open("rb") as file:
        first = prepare(file)
        with pytest.raises(InvalidImage, match=r"read before: `file\.seek\(0\)`"):
            prepare(file)
        file.seek(0)
        assert prepare(file).sha256 == first.sha256


def test_an_asynchronous_file_is_refused_with_the_way_out():
    """Such as FastAPI's UploadFile; no warning of a coroutine that nobody awaited."""

    class Upload:
        async def read(self, size: int = -1) -> bytes:
            return good("JPEG")

    with pytest.raises(InvalidImage, match=r"`await file\.read\(\)`"):
        prepare(Upload())  # type: ignore[arg-type]


def test_eight_bits_in_a_pil_image_of_32_are_refused_and_not_made_black():
    eight = np.arange(64 * 64, dtype=np.int32).reshape(64, 64) % 256
    with pytest.raises(InvalidImage, match="mode I with no value above 255"):
        prepare(Image.fromarray(eight))
    sixteen = Image.open(io.BytesIO(prepare(Image.fromarray(eight * 256)).image_bytes))
    assert np.array_equal(np.asarray(sixteen), eight)


def test_a_path_names_itself_in_the_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(good("JPEG")[:500])
    with pytest.raises(InvalidImage, match=r"a\.jpg: is a (truncated|broken) JPEG"):
        prepare(tmp_path / "a.jpg")


def test_an_endless_file_is_read_to_the_limit_only():
    with pytest.raises(InvalidImage, match="more than 64 MiB"):
        prepare("/dev/zero")


@pytest.mark.parametrize("colour", [0, 6])
def test_the_largest_picture_that_is_read_stays_within_600_mebibytes(tmp_path, colour):
    file = tmp_path / "large.png"
    file.write_bytes(png_bomb(8_000, 8_000, colour))
    script = "import sys; from photoproof.pictures.prepare import prepare; prepare(sys.argv[1])"
    print_memory = "; print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    environment = {"OPENBLAS_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script + print_memory, file], capture_output=True, text=True, env=environment, check=True
    )
    assert int(done.stdout) / 1024 < 600
