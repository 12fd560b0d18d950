import json

import keras
import numpy as np
import pytest
from PIL import Image

from photoproof.errors import InvalidImage
from pipelines.commands.explain import explain as command
from training.decision.decision import Decision
from training.decision.log_ratio import Cohort, LogRatio
from training.evaluation.explain import PairScorer, explain, read_pair_scorer
from training.evaluation.pairs import compare
from training.model.autoencoder import Autoencoder
from training.stage.errors import BadInput
from training.stage.params import Train

SIZE = 32
DECISION = Decision(1.0, 0.0, LogRatio(1.0, 0.95), 0.5, 0.8, 0.3, 0.01, 0.01, None)


@pytest.fixture
def looks_left():
    """A model that sees the mean colour of the left half, less grey, and nothing else."""
    pictures = keras.Input([SIZE, SIZE, 3])
    half = keras.layers.Cropping2D(((0, 0), (0, SIZE // 2)))(keras.layers.Rescaling(1.0, -0.5)(pictures))
    encoder = keras.Model(pictures, keras.layers.GlobalAveragePooling2D()(half))
    latents = keras.Input([3])
    decoder = keras.Model(latents, keras.layers.Reshape([1, 1, 3])(keras.layers.Activation("sigmoid")(latents)))
    return PairScorer(
        Autoencoder(encoder, decoder, Train(image_size=SIZE, latent_size=3)),
        Cohort(np.zeros((0, 3), np.float32), np.zeros(0, bool), np.zeros(0, str)),
        DECISION,
    )


def half_and_half(left, right):
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    picture[:, : SIZE // 2], picture[:, SIZE // 2 :] = left, right
    return picture


RED, GREEN = (0.9, 0.1, 0.1), (0.1, 0.9, 0.1)


def test_what_the_model_does_not_see_speaks_neither_for_nor_against(looks_left):
    explanation = explain(looks_left, half_and_half(RED, RED), half_and_half(RED, GREEN))
    left, right = np.abs(explanation.evidence[:, :8]).mean(), np.abs(explanation.evidence[:, -8:]).mean()
    assert left > 20 * right


def test_what_the_photo_shares_with_the_original_speaks_for_the_claim(looks_left):
    explanation = explain(looks_left, half_and_half(RED, RED), half_and_half(RED, GREEN))
    assert explanation.evidence[:, :10].min() > 0
    place = explanation.figures()["speaks_for"]
    assert place["log_odds"] > 0 and place["x"] < 0.5


def test_what_differs_speaks_against_it(looks_left):
    photo = half_and_half(RED, RED)
    photo[: SIZE // 3, : SIZE // 2] = GREEN
    explanation = explain(looks_left, half_and_half(RED, RED), photo)
    assert explanation.evidence[2:8, 4:12].max() < 0
    assert explanation.figures()["speaks_against"]["y"] < 1 / 3


def test_an_explanation_has_the_scores_that_evaluation_measures(evaluated, accepted):
    scorer = read_pair_scorer(evaluated.root)
    rows = accepted.query("product_id == 'product-00'")
    generator = np.random.default_rng(0)
    original, photo = generator.random((2, scorer.size, scorer.size, 3), np.float32)
    explanation = explain(scorer, original, photo)
    vectors = np.asarray(scorer.autoencoder.encoder(np.stack([original, photo]), training=False))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    decision = scorer.decision
    pairs = compare(rows[1:2], rows[:1], vectors[1:], vectors[:1], scorer.cohort, decision.formula)
    assert explanation.log_ratio == pytest.approx(pairs.log_ratio[0, 0], abs=1e-5)
    assert explanation.probability == pytest.approx(decision.probability(pairs.log_ratio)[0, 0], abs=1e-5)
    assert len(explanation.nearest) == 3
    assert explanation.nearest[0][1] == pytest.approx(float((scorer.cohort.embeddings @ vectors[1]).max()), abs=1e-5)


@pytest.fixture
def here(evaluated, monkeypatch, tmp_path):
    """The evaluated workspace, for a command that is called in another folder."""
    (evaluated.root / "dvc.yaml").touch()
    monkeypatch.setenv("PHOTOPROOF_WORKSPACE", str(evaluated.root))
    monkeypatch.chdir(tmp_path)
    return evaluated.root


@pytest.fixture
def pair(here):
    return str(here / "data/originals/product-03.png"), str(here / "data/photos/product-03_004.jpg")


def test_the_command_draws_a_picture_and_says_the_verdict(pair, tmp_path, capsys):
    command(*pair, to=tmp_path / "why.png")
    printed = capsys.readouterr().out
    assert printed.startswith("explain: ") and printed.rstrip().endswith(f"-> {tmp_path / 'why.png'}")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000


def test_as_json_it_says_scores_thresholds_places_and_the_nearest_products(pair, tmp_path, capsys):
    command(*pair, to=tmp_path / "why.png", as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["outcome"] in ("match", "mismatch", "review")
    assert 0 <= printed["probability"] <= 1 and printed["reject_at"] <= printed["accept_at"]
    assert 0 <= printed["speaks_for"]["x"] < 1
    assert [set(product) for product in printed["nearest"]] == [{"product_id", "similarity"}] * 3


def test_a_file_that_is_no_picture_is_named(pair, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    with pytest.raises(InvalidImage, match=r"broken\.jpg"):
        command(pair[0], str(tmp_path / "broken.jpg"))


def test_a_name_that_is_no_png_is_bad_input(pair, tmp_path):
    with pytest.raises(BadInput, match=r"\.png"):
        command(*pair, to=tmp_path / "why.pdf")


def test_a_workspace_without_a_model_says_what_to_run(tmp_path):
    with pytest.raises(BadInput, match="dvc repro train"):
        read_pair_scorer(tmp_path)
