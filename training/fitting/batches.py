"""Which pictures each step of training sees, and the pictures: the same for a seed, whichever step a run resumes at."""

import numpy as np
import tensorflow as tf

from training.fitting.camera import REPRODUCED, RETAKEN, Camera, photograph
from training.fitting.catalogue import Catalogue, read_all
from training.model.images import decode, on_all_cores
from training.stage.params import Train


def step_size(catalogue: Catalogue, train: Train) -> tuple[int, int]:
    """Products in a step, and pictures in a step: each product's original and its photos."""
    products = min(train.products_per_step, catalogue.count)
    return products, products * (1 + train.photos_per_product)


def steps_per_epoch(catalogue: Catalogue, train: Train, replicas: int = 1) -> int:
    """Steps that show as many photos as the catalogue has, where each replica takes a step's pictures at a time."""
    products, _ = step_size(catalogue, train)
    return max(1, -(-catalogue.photos // (products * train.photos_per_product * replicas)))


def plan_steps(catalogue: Catalogue, train: Train, steps: int) -> np.ndarray:
    """Numbers of the pictures of each step: int32 [steps, pictures in a step], originals first, then by product.

    Products, and each product's photos, are dealt like cards: none is repeated before all were dealt. A photo's
    place goes to the product's original with chance drawn_share, or where the product has no photo.
    """
    rng = np.random.default_rng(train.seed)
    in_step, _ = step_size(catalogue, train)
    products = _Deck(np.arange(catalogue.count), rng)
    photos_of = [np.flatnonzero(catalogue.products == product)[1:] for product in range(catalogue.count)]
    photos = [_Deck(numbers, rng) for numbers in photos_of]
    plan = []
    for _ in range(steps):
        dealt = products.deal(in_step)
        plan.append(list(dealt))
        for product in dealt:
            hand = photos[product].deal(train.photos_per_product)
            drawn = rng.random(train.photos_per_product) < train.drawn_share
            plan[-1] += [product if draw or photo is None else photo for draw, photo in zip(drawn, hand, strict=True)]
    return np.array(plan, np.int32)


def batches(catalogue: Catalogue, train: Train, plan: np.ndarray, first: int, replicas: int = 1) -> tf.data.Dataset:
    """Steps `first`, … of the plan: (pictures float32 [B, S, S, 3], products int32 [B]); `replicas` of them in a batch.

    What a step shows depends on the seed and its number alone. Decoded pictures stay in memory where they fit.
    """
    in_step, size = step_size(catalogue, train)
    side = train.image_size
    numbers, products = tf.constant(plan.reshape(-1)), tf.constant(catalogue.products)
    fits = len(catalogue.paths) * side * side * 3 <= train.cache_gigabytes * 1e9
    cache = read_all(catalogue.paths, side) if fits else tf.constant(catalogue.paths)

    def augment(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        number = numbers[place]
        picture = tf.cast(cache[number], tf.float32) / 255.0 if fits else decode(tf.io.read_file(cache[number]), side)
        picture = tf.ensure_shape(picture, [side, side, 3])
        seed = tf.stack([tf.constant(train.seed, tf.int64), place])
        is_photo = number >= catalogue.count
        as_photo = tf.math.floormod(place, size) >= in_step
        which = tf.where(is_photo, 2, tf.where(as_photo, 1, 0))
        cameras = [
            lambda camera=camera: photograph(picture, seed, camera) for camera in (REPRODUCED, Camera(), RETAKEN)
        ]
        return tf.switch_case(which, cameras), products[number]

    places = tf.data.Dataset.range(first * size, plan.size)
    return on_all_cores(places, augment).batch(size * replicas, drop_remainder=True).prefetch(4)


class _Deck:
    """Deals without repeating before all were dealt; a hand no larger than the deck holds no card twice."""

    def __init__(self, cards: np.ndarray, rng: np.random.Generator):
        self._cards, self._rng, self._left = cards, rng, []

    def deal(self, count: int) -> list:
        if not len(self._cards):
            return [None] * count
        while len(self._left) < count:
            left = set(self._left)
            self._left += sorted(self._rng.permutation(self._cards).tolist(), key=left.__contains__)
        dealt, self._left = self._left[:count], self._left[count:]
        return dealt
