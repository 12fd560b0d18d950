"""What the benchmarks run on: a model exported as the stage exports it, and pictures as of the sample's camera."""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from pipelines.demo.drawing.products import PRODUCTS
from pipelines.demo.drawing.shapes import draw
from training.decision.decision import Decision
from training.decision.log_ratio import Cohort, LogRatio
from training.fitting.camera import Camera, photograph
from training.model.autoencoder import build
from training.saved_model.assets import write_assets
from training.saved_model.graph import VerdictGraph
from training.stage.params import Params

PICTURE_SIDE = 348  # as the Grocery Store Dataset's

COHORT = 65
DECISION = Decision(
    slope=2.0,
    intercept=3.0,
    formula=LogRatio(temperature=0.05, own_copy_cosine=0.95),
    prior_match=0.95,
    accept_at=0.9,
    reject_at=0.5,
    false_accept_rate=0.01,
    false_reject_rate=0.01,
    data_version=None,
)

Pairs = list[tuple[bytes, bytes]]


def export_model(folder: Path, params: Params, model_id: str = "benchmark") -> Path:
    """The params' encoder, untrained, as a SavedModel with a random cohort; the same for the same params."""
    encoder = build(params.train).encoder
    latent_size = int(encoder.output_shape[-1])
    cohort = np.random.default_rng(1).normal(size=(COHORT, latent_size)).astype(np.float32)
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    against = Cohort(cohort, np.ones(COHORT, bool), np.arange(COHORT).astype(str))
    image_size = params.train.image_size
    module = VerdictGraph(encoder, against, DECISION, model_id, image_size, params.export.max_pixels)
    tf.saved_model.save(module, str(folder), signatures=module.signatures())
    write_assets(folder, {"model_id": model_id, "image_size": image_size}, [], latent_size)
    return folder


def draw_pairs(count: int, picture_bytes: int) -> Pairs:
    """(original, photo) of one product each, JPEGs of about so many bytes; always the same."""
    photographed = tf.function(lambda picture, seed: photograph(picture, seed, Camera()))
    pairs = []
    for number in range(count):
        original = draw(PRODUCTS[number % len(PRODUCTS)], PICTURE_SIDE)
        photo = np.asarray(photographed(np.asarray(original, np.float32) / 255, np.array([number, 8], np.int32)))
        picture = Image.fromarray((photo * 255).round().astype(np.uint8))
        pairs.append((_jpeg(original, picture_bytes), _jpeg(picture, picture_bytes)))
    return pairs


def _jpeg(picture: Image.Image, most_bytes: int) -> bytes:
    """The picture at the highest quality, up to 98, that takes no more bytes."""
    low, high = 30, 98
    while low < high:
        quality = (low + high + 1) // 2
        low, high = (quality, high) if len(_saved(picture, quality)) <= most_bytes else (low, quality - 1)
    return _saved(picture, low)


def _saved(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
