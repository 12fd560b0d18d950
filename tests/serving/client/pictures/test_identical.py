import io

import numpy as np
import pytest
from PIL import Image

from photoproof.pictures.identical import copy_reason
from photoproof.pictures.prepare import prepare


@pytest.fixture(scope="module")
def original(scene, encoded):
    return scene(20, 400, 300)


COPIES = {
    "saved again": lambda image: ("JPEG", image, {"quality": 75}),
    "saved at low quality": lambda image: ("JPEG", image, {"quality": 50}),
    "as WebP": lambda image: ("WEBP", image, {"quality": 80}),
    "as PNG": lambda image: ("PNG", image, {}),
    "at half size": lambda image: ("JPEG", image.resize((200, 150)), {"quality": 85}),
    "at five times the size": lambda image: ("JPEG", image.resize((2000, 1500)), {"quality": 85}),
    "a little off in form": lambda image: ("JPEG", image.resize((401, 299)), {"quality": 85}),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_the_original_is_found(original, encoded, how):
    name, image, options = COPIES[how](original)
    assert copy_reason(prepare(encoded(original)), prepare(encoded(image, name, **options)))


def test_the_very_same_bytes_are_said_to_be_so(original, encoded):
    reason = copy_reason(prepare(encoded(original)), prepare(encoded(original)))
    assert reason == "the photo is the original picture itself, byte for byte"


def test_equal_pixels_in_other_bytes_are_found(original, encoded):
    fast, small = encoded(original, "PNG", compress_level=1), encoded(original, "PNG", compress_level=9)
    reason = copy_reason(prepare(fast), prepare(small))
    assert reason and "equal pixels" in reason


def test_a_rotated_copy_with_exif_is_found(original, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(original.transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert copy_reason(prepare(encoded(original)), prepare(turned))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.crop((20, 15, 380, 285)),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.rotate(3, fillcolor="white"),
        lambda image: image.point(lambda value: value * 0.8),
        lambda image: image.resize((300, 300)),
    ],
    ids=["cropped", "mirrored", "turned a little", "darker", "in another form"],
)
def test_what_a_camera_changes_is_no_copy(original, encoded, change):
    assert copy_reason(prepare(encoded(original)), prepare(encoded(change(original)))) is None


def test_near_twins_of_one_package_are_no_copies(original, encoded):
    twin = original.copy()
    twin.paste((230, 120, 40), (160, 120, 240, 180))
    original = original.copy()
    original.paste((230, 60, 120), (160, 120, 240, 180))
    assert copy_reason(prepare(encoded(original)), prepare(encoded(twin))) is None


def test_a_glance_is_the_same_through_jpegs_reduced_decoding(original, encoded):
    large = original.resize((1000, 750))
    jpeg, png = prepare(encoded(large)), prepare(encoded(Image.open(io.BytesIO(encoded(large))), "PNG"))
    assert np.abs(jpeg.thumbnail.astype(int) - png.thumbnail).max() <= 8
