import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.evaluation.baselines import baseline_scores, read_features


def drawn(colour, mode="RGB", size=(80, 60)):
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).rectangle([20, 10, 50, 40], fill=colour)
    return picture.convert(mode)


@pytest.fixture
def scores(tmp_path):
    """Three photos (a copy of the first original, a brighter one, another colour) against two originals."""
    pictures = {
        "copy.png": drawn("red"),
        "noisy.png": Image.fromarray((np.asarray(drawn("red")) * 0.97).astype(np.uint8)),
        "blue.jpg": drawn("blue"),
        "first.png": drawn("red"),
        "second.png": drawn("blue", "RGBA"),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    photos, originals = ["copy.png", "noisy.png", "blue.jpg"], ["first.png", "second.png"]
    return baseline_scores(
        read_features([tmp_path / name for name in photos]), read_features([tmp_path / name for name in originals])
    )


def test_array_equal_knows_the_copy_alone(scores):
    assert scores["array_equal"].tolist() == [[1, 0], [0, 0], [0, 0]]


def test_an_equal_picture_has_all_hash_bits_and_the_whole_histogram(scores):
    assert scores["perceptual_hash"][0, 0] == 64
    assert scores["colour_histogram"][0, 0] == pytest.approx(1)


def test_the_histogram_tells_colours_apart(scores):
    assert scores["colour_histogram"][2, 1] > scores["colour_histogram"][2, 0]


def test_scores_stay_in_their_range(scores):
    assert scores["perceptual_hash"].min() >= 0
    assert 0 <= scores["colour_histogram"].min() <= scores["colour_histogram"].max() <= 1 + 1e-6
