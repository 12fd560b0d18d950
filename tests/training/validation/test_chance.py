"""A real training run on drawn photos: true labels tell products apart, shuffled ones must not seem to."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from training.dataset.manifest import SCHEMA, read_manifest, write_manifest
from training.dataset.splits import assign_splits
from training.evaluate import chosen_pictures
from training.evaluation.embedding import embed
from training.evaluation.metrics import genuine_pairs, identification
from training.model.autoencoder import load
from training.stage.params import Params, Split, Train
from training.train import train

PRODUCTS, PHOTOS = 8, 30
PARAMS = Params(
    split=Split(salt="chance", scene_run=1, test=0.5, new_products=0.0),
    train=Train(
        image_size=32,
        latent_size=16,
        decoded_size=16,
        epochs=6,
        products_per_step=8,
        photos_per_product=2,
        validate_every=0,
    ),
)


def write_data(root, shuffled):
    """Squares in a product's colour, on white and on grey; `shuffled` deals the photos' products anew."""
    generator = np.random.default_rng(5)
    shows = np.repeat(np.arange(PRODUCTS), PHOTOS)
    labels = generator.permutation(shows) if shuffled else shows
    colours = generator.integers(0, 255, (PRODUCTS, 3))
    pictures = [("original", f"p{at}", at, at) for at in range(PRODUCTS)]
    pictures += [("photo", f"photo_{at:03}", shows[at], labels[at]) for at in range(len(shows))]
    rows = []
    for role, name, shown, product in pictures:
        picture = Image.new("RGB", (40, 40), "white" if role == "original" else (120, 125, 130))
        left, top = (8, 8) if role == "original" else (int(place) for place in generator.integers(2, 16, 2))
        level = [int(value) for value in np.clip(colours[shown] * generator.uniform(0.8, 1.1), 0, 255)]
        ImageDraw.Draw(picture).rectangle([left, top, left + 20, top + 22], tuple(level))
        path = root / "data" / f"{role}s" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        row = dict.fromkeys(SCHEMA.names) | {"role": role, "picture_id": name, "product_id": f"p{product}"}
        rows.append(row | {"name": "", "category": "", "path": f"{role}s/{name}.png", "sha256": name})
    (root / "reports/validation").mkdir(parents=True)
    write_manifest(pa.Table.from_pylist(rows, SCHEMA), root / "reports/validation/accepted.parquet")


def figures_after_training(root, shuffled):
    write_data(root, shuffled)
    train(root, PARAMS)
    rows = assign_splits(read_manifest(root / "reports/validation/accepted.parquet"), PARAMS.split)
    originals, _, test = chosen_pictures(rows, 1_000_000)
    encoder = load(root / "models/autoencoder").encoder
    of_originals, of_test = (
        embed(encoder, [root / "data" / path for path in some.path], 64) for some in (originals, test)
    )
    truth = pd.Index(originals.product_id).get_indexer(pd.Index(test.product_id))
    assert genuine_pairs(truth, PRODUCTS).sum() > 80
    return identification(of_test @ of_originals.T, truth)


@pytest.mark.slow
def test_a_model_trained_on_shuffled_labels_scores_at_chance(tmp_path):
    figures = figures_after_training(tmp_path, shuffled=True)
    assert figures["auc"] == pytest.approx(0.5, abs=0.1)
    assert figures["top1"] < 0.3


@pytest.mark.slow
def test_the_same_training_on_true_labels_does_not(tmp_path):
    figures = figures_after_training(tmp_path, shuffled=False)
    assert figures["auc"] > 0.8
    assert figures["top1"] > 0.5
