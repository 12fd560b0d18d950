import re

import pytest

from training.report.numbers import percent, probability


@pytest.fixture
def page(evaluated):
    return (evaluated.root / "reports/evaluation/report.html").read_text()


def test_the_page_loads_nothing_from_elsewhere(page):
    sources = re.findall(r"""(?:src|href)=["']([^"']*)["']""", page)
    assert len(sources) == 8
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "@import" not in page and "url(" not in page


def test_the_page_shows_model_and_baselines_for_known_and_new_products(page):
    text = re.sub(r"<[^>]+>", " ", page)
    methods = ("equal pixels", "perceptual hash", "raw pixels", "colour histogram", "plain autoencoder", "Photoproof")
    for words in ("known products", "new products", *methods):
        assert words in text


@pytest.mark.parametrize(
    ("share", "text"), [(0.01, "1 %"), (0.973, "97.3 %"), (1.0, "100 %"), (0.0, "0 %"), (0.2, "20 %")]
)
def test_percent(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.53, "0.53"), (0.9996, "0.9996"), (0.00012, "0.00012"), (0.0, "0"), (1.0, "1")]
)
def test_a_probability_is_told_from_0_and_1(value, text):
    assert probability(value) == text
