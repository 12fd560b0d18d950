"""What the client sends is what the model sees, to the pixel."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from photoproof.pictures.prepare import prepare
from training.model.images import decode

SIDE = 96


def drawn(seed: int = 0) -> Image.Image:
    """A square picture of soft colours, another in each corner."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def saved(image: Image.Image, name: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def turned(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def with_alpha() -> Image.Image:
    image = drawn().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    return image


def deep() -> Image.Image:
    return Image.fromarray((np.arange(SIDE * SIDE, dtype=np.uint16) * 7).reshape(SIDE, SIDE))


def in_palette() -> Image.Image:
    return drawn().quantize(32)


GIVEN = {
    "a JPEG": lambda: saved(drawn(), "JPEG", quality=92),
    "a JPEG with reduced colours": lambda: saved(drawn(), "JPEG", quality=75, subsampling=2),
    "a progressive JPEG": lambda: saved(drawn(), "JPEG", progressive=True),
    "a gray JPEG": lambda: saved(drawn().convert("L"), "JPEG"),
    "a CMYK JPEG": lambda: saved(drawn().convert("CMYK"), "JPEG"),
    "a PNG": lambda: saved(drawn(), "PNG"),
    "a PNG of one bit": lambda: saved(drawn().convert("1"), "PNG"),
    "a PNG of 16 bits": lambda: saved(deep(), "PNG"),
    "a PNG with a palette": lambda: saved(in_palette(), "PNG"),
    "a PNG with alpha": lambda: saved(with_alpha(), "PNG"),
    "a WebP": lambda: saved(drawn(), "WEBP"),
    **{
        f"a JPEG turned by EXIF {turn}": lambda turn=turn: saved(drawn(), "JPEG", exif=turned(turn))
        for turn in (3, 6, 7)
    },
    "a PNG turned by EXIF 8": lambda: saved(drawn(), "PNG", exif=turned(8)),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_sent_decodes_in_the_graph_to_the_pixels_that_pillow_sees(name):
    sent = prepare(GIVEN[name]()).image_bytes
    seen = np.asarray(Image.open(io.BytesIO(sent)).convert("RGB"), np.float32)
    decoded = decode(tf.constant(sent), SIDE).numpy() * 255  # at its own size: nothing is resized
    assert np.abs(decoded - seen).max() <= 2


@pytest.mark.parametrize(
    "name", ["a PNG with alpha", "a PNG of 16 bits", "a PNG with a palette", "a PNG turned by EXIF 8"]
)
def test_what_is_sent_shows_what_was_given(name):
    image = Image.open(io.BytesIO(GIVEN[name]()))
    if name == "a PNG with alpha":
        shown = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    elif name == "a PNG of 16 bits":
        shown = np.repeat((np.asarray(image) >> 8)[..., np.newaxis], 3, axis=2)
    else:
        shown = np.asarray(image.convert("RGB"))
        shown = np.rot90(shown) if "EXIF" in name else shown
    decoded = decode(tf.constant(prepare(GIVEN[name]()).image_bytes), SIDE).numpy() * 255
    assert np.abs(decoded - shown).max() <= 2
