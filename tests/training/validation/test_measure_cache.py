import time

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from training.stage.errors import BadInput
from training.stage.params import Workers
from training.validation import measure, measure_cache
from training.validation.measure import measure_all
from training.validation.measure_cache import measure_new

MAX_PIXELS = 10_000


@pytest.fixture
def pictures(tmp_path):
    """Paths: four pictures, one of them broken, one a copy of the first."""
    paths = [tmp_path / f"{name}.png" for name in ("one", "other", "copy", "broken")]
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    paths[2].write_bytes(paths[0].read_bytes())
    paths[3].write_bytes(b"broken")
    return paths


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are measured from here on."""
    names = []
    measure_one = measure.measure

    def noted(path, max_pixels):
        names.append(path.name)
        return measure_one(path, max_pixels)

    monkeypatch.setattr(measure, "measure", noted)
    return names


def test_only_bytes_that_were_not_measured_before_are_decoded(pictures, decoded, tmp_path):
    folder = tmp_path / "measured"
    first = measure_new(pictures, MAX_PIXELS, folder)
    assert first.equals(measure_all(pictures, MAX_PIXELS))
    decoded.clear()
    new = tmp_path / "new.png"
    Image.new("RGB", (8, 8), "red").save(new)
    order = [pictures[3], new, *pictures[:3]]
    reordered = measure_new(order, MAX_PIXELS, folder)
    assert decoded == ["new.png"]
    assert reordered.equals(measure_all(order, MAX_PIXELS))


def test_a_copy_is_measured_once(pictures, decoded, tmp_path):
    measure_new(pictures, MAX_PIXELS, tmp_path / "measured")
    assert sorted(decoded) == ["broken.png", "one.png", "other.png"]


def test_a_file_that_changed_in_its_place_is_measured_again(pictures, decoded, tmp_path):
    folder = tmp_path / "measured"
    measure_new(pictures, MAX_PIXELS, folder)
    decoded.clear()
    pictures[1].write_bytes(pictures[1].read_bytes()[:60])
    assert not measure_new(pictures, MAX_PIXELS, folder)["decodes"][1].as_py()
    assert decoded == ["other.png"]


def test_a_missing_file_is_looked_for_each_time(pictures, tmp_path):
    folder = tmp_path / "measured"
    gone = tmp_path / "gone.png"
    assert measure_new([gone], MAX_PIXELS, folder)["error"].to_pylist() == ["the file is missing"]
    gone.write_bytes(pictures[0].read_bytes())
    assert measure_new([gone], MAX_PIXELS, folder)["decodes"].to_pylist() == [True]


def test_measures_of_another_limit_or_a_damaged_file_of_them_are_not_taken(pictures, decoded, tmp_path):
    folder = tmp_path / "measured"
    assert not measure_new(pictures[:1], 500, folder)["decodes"][0].as_py()
    assert measure_new(pictures[:1], MAX_PIXELS, folder)["decodes"][0].as_py()
    for damage in (lambda whole: whole[:100], lambda whole: whole[:4] + bytes(200) + whole[204:]):
        (kept,) = folder.iterdir()
        kept.write_bytes(damage(kept.read_bytes()))
        decoded.clear()
        assert measure_new(pictures[:1], MAX_PIXELS, folder)["decodes"][0].as_py()
        assert decoded == ["one.png"]


def test_a_picture_that_could_not_be_read_or_held_is_measured_again(pictures, decoded, tmp_path, monkeypatch):
    folder = tmp_path / "measured"
    with monkeypatch.context() as patch:
        patch.setattr(measure.Image, "open", out_of_memory)
        assert "memory" in measure_new(pictures[:1], MAX_PIXELS, folder)["error"][0].as_py()
    with monkeypatch.context() as patch:
        patch.setattr(measure, "_read", lambda _path: "Input/output error")
        assert measure_new(pictures[:1], MAX_PIXELS, folder)["error"].to_pylist() == ["Input/output error"]
    assert measure_new(pictures[:1], MAX_PIXELS, folder)["decodes"].to_pylist() == [True]


def out_of_memory(*_args):
    raise MemoryError


def test_many_old_measures_are_found_quickly(tmp_path, pictures):
    file = tmp_path / "measured" / f"{measure_cache._key(MAX_PIXELS)}.parquet"
    many = [{"sha256": f"{number:064x}", "decodes": False} for number in range(100_000)]
    measure_cache._write([pa.Table.from_pylist(many, measure_cache._SCHEMA)], file)
    started = time.process_time()
    measure_new(pictures * 5_000, MAX_PIXELS, file.parent)
    assert time.process_time() - started < 10


def test_nothing_is_kept_of_pictures_that_went(pictures, decoded, tmp_path):
    folder = tmp_path / "measured"
    measure_new(pictures, MAX_PIXELS, folder)
    assert len(measure_new([], MAX_PIXELS, folder)) == 0
    decoded.clear()
    measure_new(pictures[:1], MAX_PIXELS, folder)
    assert decoded == ["one.png"]


def test_what_was_measured_before_a_run_ended_early_is_not_measured_again(pictures, decoded, tmp_path, monkeypatch):
    folder = tmp_path / "measured"
    noted = measure.measure

    def stopped(path, max_pixels):
        if path == pictures[3]:
            raise KeyboardInterrupt
        return noted(path, max_pixels)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            measure_new(pictures, MAX_PIXELS, folder)
    decoded.clear()
    measure_new(pictures, MAX_PIXELS, folder)
    assert decoded == ["broken.png"]


@pytest.mark.parametrize("save_every", [0.0, measure_cache.SAVE_EVERY])
def test_measures_kept_on_the_way_are_those_kept_at_the_end(pictures, tmp_path, monkeypatch, save_every):
    monkeypatch.setattr(measure_cache, "SAVE_EVERY", save_every)
    folder = tmp_path / "measured"
    first = measure_new(pictures, MAX_PIXELS, folder)
    assert measure_new(pictures, MAX_PIXELS, folder).equals(first)


def test_a_cluster_is_asked_for_only_where_there_is_something_to_measure(pictures, tmp_path):
    folder = tmp_path / "measured"
    nowhere = Workers(dask="tcp://127.0.0.1:1")
    first = measure_new(pictures, MAX_PIXELS, folder)
    assert measure_new(pictures, MAX_PIXELS, folder, nowhere).equals(first)
    with pytest.raises(BadInput, match="no Dask scheduler answers"):
        measure_new(pictures, MAX_PIXELS + 1, folder, nowhere)
