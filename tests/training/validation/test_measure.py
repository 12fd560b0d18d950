import io

import numpy as np
from PIL import Image, ImageFilter

from training.stage.params import Workers
from training.validation.measure import FEW, SCHEMA, measure, measure_all


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def noise(seed=0, shape=(40, 60, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape)


def test_a_picture_is_measured_by_its_header_and_its_light(tmp_path):
    half = np.zeros((40, 60, 3))
    half[:, 30:] = 255
    measured = measure(save(tmp_path / "half.png", half), 10_000)
    assert (measured.decodes, measured.format, measured.mode, measured.width, measured.height) == (
        True,
        "PNG",
        "RGB",
        60,
        40,
    )
    assert (measured.light_mean, measured.light_spread, measured.near_white) == (0.5, 0.5, 0.5)


def test_a_blurred_picture_is_less_sharp(tmp_path):
    sharp = save(tmp_path / "sharp.png", noise())
    Image.open(sharp).filter(ImageFilter.GaussianBlur(3)).save(tmp_path / "blurred.png")
    assert measure(tmp_path / "blurred.png", 10_000).sharpness < measure(sharp, 10_000).sharpness / 5  # pyright: ignore


def test_one_pixel_has_a_row_like_any_other(tmp_path):
    assert measure(save(tmp_path / "dot.png", noise(shape=(1, 1, 3))), 10).decodes


def test_a_folder_is_a_row_that_does_not_decode(tmp_path):
    measured = measure(tmp_path, 10)
    assert not measured.decodes
    assert measured.error


def test_many_pictures_measured_in_processes_are_as_measured_one_by_one(tmp_path):
    paths = [save(tmp_path / f"{seed}.jpg", noise(seed)) for seed in range(FEW)]
    paths[7].write_bytes(b"broken")
    measured = measure_all(paths, 10_000, Workers(processes=2))
    assert measured.schema == SCHEMA
    assert measured.slice(5, 4).to_pylist() == measure_all(paths[5:9], 10_000).to_pylist()
    assert measured["decodes"].to_pylist().count(False) == 1


def test_greyscale_and_transparent_pictures_are_measured_as_rgb(tmp_path):
    grey, clear = io.BytesIO(), io.BytesIO()
    Image.new("L", (32, 32), 128).save(grey, "PNG")
    Image.new("RGBA", (32, 32), (128, 128, 128, 0)).save(clear, "PNG")
    (tmp_path / "grey.png").write_bytes(grey.getvalue())
    (tmp_path / "clear.png").write_bytes(clear.getvalue())
    grey, clear = (measure(tmp_path / name, 10_000) for name in ("grey.png", "clear.png"))
    assert (grey.mode, clear.mode) == ("L", "RGBA")
    assert grey.perceptual_hash == clear.perceptual_hash


def test_a_large_jpeg_that_is_cut_off_does_not_decode_though_only_a_small_one_is_made_of_it(tmp_path):
    coarse = np.random.default_rng(1).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((2400, 1800), Image.Resampling.BICUBIC).save(out, "JPEG")
    (tmp_path / "whole.jpg").write_bytes(out.getvalue())
    (tmp_path / "cut.jpg").write_bytes(out.getvalue()[:-2000])
    whole, cut = (measure(tmp_path / name, 10_000_000) for name in ("whole.jpg", "cut.jpg"))
    assert (whole.decodes, whole.width, whole.height) == (True, 2400, 1800)
    assert not cut.decodes and "truncated" in (cut.error or "")
