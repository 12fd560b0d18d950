import dataclasses

import numpy as np
import tensorflow as tf

from training.fitting.camera import Camera, photograph

SIZE = 64
NOTHING = Camera(
    **{field.name: 0.0 for field in dataclasses.fields(Camera)} | {"zoom_out": 1.0, "zoom_in": 1.0, "jpeg": 95}  # pyright: ignore[reportArgumentType]
)


def product_on_white() -> tf.Tensor:
    picture = np.ones((SIZE, SIZE, 3), np.float32)
    picture[16:48, 20:44] = [0.8, 0.1, 0.1]
    picture[26:38, 26:38] = [0.97, 0.97, 0.97]
    return tf.constant(picture)


def test_one_seed_gives_one_photo_eagerly_and_in_a_data_pipeline() -> None:
    picture, seed = product_on_white(), tf.constant([3, 4], tf.int64)
    once = photograph(picture, seed, Camera()).numpy()
    np.testing.assert_array_equal(once, photograph(picture, seed, Camera()).numpy())
    mapped = tf.data.Dataset.from_tensors(seed).map(lambda given: photograph(picture, given, Camera()))
    np.testing.assert_allclose(mapped.get_single_element().numpy(), once, atol=2 / 255)


def test_two_seeds_give_two_photos() -> None:
    first, second = (photograph(product_on_white(), tf.constant([0, at]), Camera()).numpy() for at in range(2))
    assert np.abs(first - second).mean() > 0.05


def test_a_photo_has_the_picture_s_form_and_range() -> None:
    picture = tf.random.stateless_uniform([40, 56, 3], (1, 2))
    for at in range(5):
        photo = photograph(picture, tf.constant([at, 0]), Camera()).numpy()
        assert photo.shape == (40, 56, 3)
        assert photo.dtype == np.float32
        assert photo.min() >= 0
        assert photo.max() <= 1
        assert np.isfinite(photo).all()


def test_white_around_a_product_becomes_a_place_and_white_on_it_stays() -> None:
    camera = dataclasses.replace(NOTHING, background=1.0)
    photos = np.stack([photograph(product_on_white(), tf.constant([at, 1]), camera).numpy() for at in range(8)])
    corners = photos[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners < 0.9).any(2).mean() > 0.5
    assert photos[:, 30:34, 30:34].mean() > 0.93


def test_a_camera_without_strength_gives_the_picture_back() -> None:
    picture = product_on_white()
    photo = photograph(picture, tf.constant([1, 1]), dataclasses.replace(NOTHING, rotation=0.0)).numpy()
    assert np.abs(photo - picture.numpy()).mean() < 0.06  # the surroundings are stretched by a tenth, at most
