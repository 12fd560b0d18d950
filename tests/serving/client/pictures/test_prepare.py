import hashlib
import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from photoproof import InvalidImage
from photoproof.pictures.prepare import prepare, upright


def opened(image_bytes: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image_bytes))


def furthest(first: Image.Image, second: Image.Image) -> int:
    """The largest difference of any value of two pictures of one size."""
    assert first.size == second.size
    return int(np.abs(np.asarray(first.convert("RGB"), int) - np.asarray(second.convert("RGB"), int)).max())


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_upright_jpeg_or_png_is_kept_byte_for_byte(scene, encoded, name, mode):
    source = encoded(scene(1).convert(mode), name)
    assert upright(source).image_bytes is source
    assert prepare(source).image_bytes == source


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_is_applied(scene, encoded, turn, name):
    shown = scene(2)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn]
    stored = shown.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = turn
    lossless = {"lossless": True} if name == "WEBP" else {"quality": 98, "subsampling": 0} if name == "JPEG" else {}
    source = encoded(stored, name, exif=exif, **lossless)
    made = upright(source)
    assert made.source_format == name and made.source_orientation == turn
    assert opened(made.image_bytes).getexif().get(0x0112, 1) == 1
    assert furthest(opened(made.image_bytes), shown) <= (0 if name == "PNG" else 40)
    assert (prepare(source).width, prepare(source).height) == shown.size


@pytest.mark.parametrize("name", ["BMP", "GIF"])
def test_a_lossless_format_becomes_a_png_of_the_same_pixels(scene, encoded, name):
    source = scene(3).quantize(64) if name == "GIF" else scene(3)
    made = prepare(encoded(source, name))
    assert opened(made.image_bytes).format == "PNG"
    assert furthest(opened(made.image_bytes), source.convert("RGB")) == 0


@pytest.mark.parametrize("name", ["WEBP", "HEIF"])
def test_a_lossy_format_becomes_a_jpeg_that_looks_the_same(scene, encoded, name):
    if name == "HEIF":
        import pillow_heif

        buffer = io.BytesIO()
        pillow_heif.from_pillow(scene(4)).save(buffer, quality=90)
        source = buffer.getvalue()
    else:
        source = encoded(scene(4), name, quality=90)
    made = upright(source)
    assert made.source_format == {"WEBP": "WEBP", "HEIF": "HEIC"}[name]
    assert opened(made.image_bytes).format == "JPEG"
    difference = np.asarray(opened(made.image_bytes), float) - np.asarray(scene(4), float)
    assert np.abs(difference).mean() < 6


def test_the_first_frame_of_an_animation_is_taken(scene, encoded):
    first, second = scene(5).quantize(64), scene(6).quantize(64)
    made = prepare(encoded(first, "GIF", save_all=True, append_images=[second]))
    assert furthest(opened(made.image_bytes), first.convert("RGB")) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(scene, encoded, mode):
    image = scene(7).convert("RGBA")
    image.paste((255, 0, 0, 0), (0, 0, 40, 40))
    source = encoded(image.quantize(64) if mode == "P" else image.convert(mode), "PNG")
    made = opened(prepare(source).image_bytes).convert("RGB")
    assert made.getpixel((10, 10)) == (255, 255, 255)
    assert made.getpixel((100, 80)) != (255, 255, 255)


def test_cmyk_becomes_the_same_colours_in_rgb(scene, encoded):
    cmyk = scene(8).convert("CMYK")
    made = opened(prepare(encoded(cmyk, "JPEG", quality=98)).image_bytes)
    assert made.mode == "RGB"
    assert np.abs(np.asarray(made, float) - np.asarray(scene(8), float)).mean() < 3


def test_sixteen_bits_keep_their_upper_eight(encoded):
    deep = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    made = opened(prepare(encoded(Image.fromarray(deep), "PNG")).image_bytes)
    assert made.mode == "L"
    assert np.array_equal(np.asarray(made), deep >> 8)


def test_one_bit_becomes_black_and_white(scene, encoded):
    bits = scene(9).convert("1")
    assert furthest(opened(prepare(encoded(bits, "PNG")).image_bytes), bits) == 0


@pytest.mark.parametrize("size", [(4032, 3024), (1100, 1100), (1024, 5000), (9000, 300)])
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_larger_picture_is_reduced_to_640_to_1024_pixels_in_its_form(scene, encoded, size, name):
    made = prepare(encoded(scene(10, *size), name))
    small = opened(made.image_bytes)
    assert 640 <= max(small.size) <= 1024
    assert (made.width, made.height) == size
    assert small.width / small.height == pytest.approx(size[0] / size[1], rel=0.04)
    assert np.abs(np.asarray(small, float) - np.asarray(scene(10, *size).resize(small.size), float)).mean() < 4


def test_a_picture_of_1024_pixels_is_kept(scene, encoded):
    source = encoded(scene(11, 1024, 768))
    assert prepare(source).image_bytes == source


def test_a_rotated_large_photo_is_reduced_and_upright(scene, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    made = prepare(encoded(scene(12, 2000, 1000).transpose(Image.Transpose.ROTATE_90), exif=exif))
    assert opened(made.image_bytes).size == (1000, 500)


def test_paths_bytes_files_and_images_are_the_same_picture(scene, encoded, tmp_path):
    source = encoded(scene(13), "PNG")
    file = tmp_path / "a.png"
    file.write_bytes(source)
    with file.open("rb") as opened_file:
        given = [str(file), file, source, bytearray(source), memoryview(source), io.BytesIO(source), opened_file]
        made = [prepare(source_form) for source_form in given]
    assert {picture.image_bytes for picture in made} == {source}
    assert {picture.sha256 for picture in made} == {hashlib.sha256(source).hexdigest()}
    image = prepare(scene(13))
    assert furthest(opened(image.image_bytes), scene(13)) == 0
    assert image.sha256 == hashlib.sha256(image.image_bytes).hexdigest()


def test_a_callers_image_is_left_as_it_was(scene):
    image = scene(14).convert("RGBA")
    before = image.tobytes()
    prepare(image)
    assert image.mode == "RGBA" and image.tobytes() == before


@pytest.mark.parametrize("name", ["PNG", "JPEG"])
def test_an_image_that_pil_has_not_read_yet_is_the_same_in_every_thread(scene, encoded, tmp_path, name):
    """As the original of several pairs of `verify_many` is."""
    file = tmp_path / "original"
    exif = Image.Exif()
    exif[0x0112] = 6
    file.write_bytes(encoded(scene(14, 1000, 800).effect_spread(20), name, exif=exif))
    with Image.open(file) as image:
        alone = prepare(image).image_bytes
    with ThreadPoolExecutor(8) as threads:
        for _ in range(6):
            with Image.open(file) as image:
                made = [picture.image_bytes for picture in threads.map(prepare, [image] * 8)]
            assert [image_bytes == alone for image_bytes in made] == [True] * 8


def test_a_jpegs_own_thumbnail_and_comments_are_no_trouble(scene, encoded):
    source = encoded(scene(15), comment=b"\xff\xda" * 20)
    assert prepare(source).image_bytes == source


@pytest.mark.parametrize("progressive", [False, True])
def test_a_motion_photo_is_read_whatever_its_film_holds(scene, encoded, progressive):
    source = encoded(scene(15), progressive=progressive, comment=b"\xff\xd9\xff\xda")
    film = bytes(4) + b"ftypmp42" + b"\xff\xda\0\x02" * 500
    assert prepare(source + film).image_bytes == source + film


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_garbled_bytes_are_refused_or_read_and_nothing_else(data, scene, encoded):
    name = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))
    source = bytearray(encoded(scene(16, 64, 48), name))
    for _ in range(data.draw(st.integers(1, 8))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    try:
        prepare(bytes(source[: data.draw(st.integers(0, len(source)))]))
    except InvalidImage as error:
        assert error.reason


def test_a_12_megapixel_photo_is_made_small_without_decoding_it_in_full(scene, encoded):
    """By JPEG's own reduced decoding; the bench has the figures."""
    source = encoded(scene(17, 4000, 3000))

    def the_plain_way() -> None:
        opened(source).resize((1000, 750), Image.Resampling.BICUBIC).save(io.BytesIO(), "JPEG", quality=95)

    def cost(work) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    assert min(cost(lambda: prepare(source)) for _ in range(3)) < 0.6 * min(cost(the_plain_way) for _ in range(3))
