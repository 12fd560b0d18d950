import shutil

import numpy as np
import pytest
import tensorflow as tf

from training.evaluation import plain_autoencoder
from training.evaluation.embedding import embed
from training.evaluation.plain_autoencoder import plain_encoder
from training.stage.errors import BadInput


@pytest.fixture
def root(evaluated, tmp_path):
    shutil.copytree(evaluated.root / "data", tmp_path / "data")
    return tmp_path


@pytest.fixture
def kept(root):
    return lambda: sorted((root / ".photoproof/baselines").glob("*.npz"))


def test_what_was_learned_is_read_again_without_the_pictures(root, accepted, kept):
    learned = plain_encoder(root, accepted, epochs=1).get_weights()
    shutil.rmtree(root / "data")
    reread = plain_encoder(root, accepted, epochs=1).get_weights()
    assert len(kept()) == 1
    assert all(np.array_equal(first, second) for first, second in zip(learned, reread, strict=True))


def test_other_pictures_are_learned_anew(root, accepted, kept):
    plain_encoder(root, accepted, epochs=1)
    plain_encoder(root, accepted[accepted.product_id != "product-00"], epochs=1)
    assert len(kept()) == 2


def test_a_broken_file_is_learned_again(root, accepted, kept):
    plain_encoder(root, accepted[:8], epochs=1)
    kept()[0].write_bytes(b"PK\x03\x04 half a file")
    plain_encoder(root, accepted[:8], epochs=1)
    assert np.load(kept()[0]).files


def test_it_learns_to_reconstruct_its_input(root, accepted):
    encoder, decoder = plain_autoencoder._networks(1)
    paths = [root / "data" / path for path in accepted.path[:32]]
    pictures = tf.stack(list(plain_autoencoder.read_pictures(paths, plain_autoencoder.SIDE)))

    def error() -> float:
        return float(tf.reduce_mean(tf.square(decoder(encoder(pictures)) - pictures)))

    before = error()
    plain_autoencoder._train(encoder, decoder, paths, epochs=80, seed=1)
    assert error() < 0.7 * before


def test_an_encoder_that_gives_no_numbers_is_bad_input(root, accepted):
    encoder, _ = plain_autoencoder._networks(1)
    encoder.set_weights([np.full_like(weight, np.nan) for weight in encoder.get_weights()])
    with pytest.raises(BadInput, match="NaN"):
        embed(encoder, [root / "data" / accepted.path.iloc[0]], 4)
