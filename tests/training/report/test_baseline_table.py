import pytest

from training.report.baseline_table import Methods, markdown
from training.stage.params import Train

FIGURES = {"auc": 0.9, "eer": 0.1, "tar_at_far_1pct": 0.5, "top1": 0.25}


@pytest.fixture
def lines():
    metrics = {
        "known": FIGURES,
        "new": FIGURES | {"auc": 0.8},
        "baselines": {"raw_pixels": {"known": FIGURES | {"auc": 0.6}}, "plain_autoencoder": {"known": FIGURES}},
        "counts": {"photos": 7, "originals": 3},
    }
    return markdown(metrics, Methods(Train(image_size=160, latent_size=256, epochs=9), 25)).splitlines()


def test_the_model_comes_last_and_stands_out(lines):
    model = "| **Photoproof: from scratch, 160 px, latent 256** |"
    assert lines[4] == f"{model} **0.900** | **0.100** | **0.500** | **0.250** | **0.800** | **0.500** |"


def test_what_was_not_measured_is_a_dash(lines):
    assert lines[2] == "| raw pixels, cosine | 0.600 | 0.100 | 0.500 | 0.250 | – | – |"


def test_every_line_of_the_table_has_as_many_cells(lines):
    assert {line.count("|") for line in lines[:5]} == {8}


def test_the_plain_autoencoder_says_how_long_it_trained(lines):
    assert "25 epochs" in lines[3]
