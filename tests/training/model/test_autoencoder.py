import dataclasses
import io
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.model.autoencoder import Autoencoder, build, fit_fixed, load, save
from training.model.efficientnet_lite0 import efficientnet_lite0, load_imagenet
from training.model.torch_weights import package_weights, read_torch_weights
from training.stage.errors import BadInput
from training.stage.params import Train

TINY = Train(image_size=32, latent_size=16, decoded_size=16)


def pictures(size: int) -> tf.Tensor:
    return tf.random.stateless_uniform([5, size, size, 3], (1, 2))


def test_latents_have_unit_length_and_decoded_pictures_lie_in_range() -> None:
    autoencoder = build(TINY)
    latents = autoencoder.encoder(pictures(32), training=False).numpy()
    assert latents.shape == (5, 16)
    assert latents.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(latents, axis=1), 1, atol=1e-5)
    decoded = autoencoder.decoder(latents, training=False).numpy()
    assert decoded.shape == (5, 16, 16, 3)
    assert 0 <= decoded.min() <= decoded.max() <= 1


def test_the_demo_s_autoencoder_is_small() -> None:
    autoencoder = build(Train())
    assert autoencoder.encoder.count_params() < 1_000_000


def test_the_same_seed_builds_the_same_weights() -> None:
    first, second, other = (build(dataclasses.replace(TINY, seed=seed)).encoder.get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(weight, same) for weight, same in zip(first, second, strict=True))
    assert not all(np.array_equal(weight, same) for weight, same in zip(first, other, strict=True))


@pytest.mark.parametrize("encoder", ["scratch", "efficientnet_lite0"])
def test_what_is_saved_is_loaded(encoder: str, tmp_path: Path) -> None:
    saved = build(dataclasses.replace(TINY, encoder=encoder))
    save(saved, tmp_path)
    loaded = load(tmp_path)
    assert loaded.train == saved.train
    some = pictures(32)
    np.testing.assert_array_equal(loaded.encoder(some, training=False), saved.encoder(some, training=False))
    latents = saved.encoder(some, training=False)
    np.testing.assert_array_equal(loaded.decoder(latents, training=False), saved.decoder(latents, training=False))


def with_first_weights(image_size: int = 64) -> Autoencoder:
    settings = Train(image_size=image_size, latent_size=16, decoded_size=16, encoder="efficientnet_lite0")
    return build(dataclasses.replace(settings, frozen_blocks=5, fixed_weight=2.0, fixed_size=3))


def test_frozen_blocks_and_first_weights_do_not_train() -> None:
    autoencoder = with_first_weights()
    trains = {variable.path.split("/")[-2] for variable in autoencoder.encoder.trainable_variables}
    assert "_blocks.5._project_conv" in trains
    assert not trains & {"_conv_stem", "_blocks.0._depthwise_conv", "_blocks.4._project_conv", "fixed_components"}
    assert not [name for name in trains if name.startswith("fixed.")]
    latents, drawing = autoencoder.learned
    assert {variable.path for variable in latents.trainable_variables} == {
        variable.path for variable in autoencoder.encoder.trainable_variables
    }
    assert drawing(latents(pictures(64))).shape == (5, 16, 16, 3)


def test_the_embedding_is_the_latent_and_the_weighted_components_of_what_first_weights_see() -> None:
    autoencoder = with_first_weights()
    some = pictures(64)
    fit_fixed(autoencoder, [some.numpy()[:3], some.numpy()[3:]])
    embedding = autoencoder.encoder(some, training=False).numpy()
    latents = autoencoder.learned[0](some, training=False).numpy()
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embedding[:, :16], latents / 5**0.5, atol=1e-5)
    first = efficientnet_lite0(64)
    load_imagenet(first)
    seen = first(some).numpy().mean((1, 2))
    centred = (seen - seen.mean(0)).astype(np.float64)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
    expected = components / np.linalg.norm(components, axis=1, keepdims=True) * (4 / 5) ** 0.5
    np.testing.assert_allclose(embedding[:, 16:] @ embedding[:, 16:].T, expected @ expected.T, atol=1e-4)


def test_the_decoder_draws_from_the_latent_in_the_embedding(tmp_path: Path) -> None:
    autoencoder = with_first_weights()
    save(autoencoder, tmp_path)
    latents, drawing = autoencoder.learned
    some = pictures(64)
    drawn = autoencoder.decoder(autoencoder.encoder(some, training=False), training=False)
    np.testing.assert_allclose(drawn, drawing(latents(some, training=False), training=False), atol=1e-4)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.encoder(some, training=False), autoencoder.encoder(some, training=False))


def test_fewer_pictures_than_components_leave_the_rest_zero() -> None:
    autoencoder = with_first_weights()
    fit_fixed(autoencoder, [pictures(64).numpy()[:2]])
    embedding = autoencoder.encoder(pictures(64), training=False).numpy()
    assert np.isfinite(embedding).all()
    assert not embedding[:, 18:].any()


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    autoencoder = build(TINY)
    for name in ("first", "second"):
        save(autoencoder, tmp_path / name)
    for file in ("encoder.weights.npz", "decoder.weights.npz", "autoencoder.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_bfloat16_is_only_for_training(tmp_path: Path) -> None:
    save(build(dataclasses.replace(TINY, precision="mixed_bfloat16")), tmp_path)
    loaded = load(tmp_path)
    assert {layer.compute_dtype for layer in loaded.encoder.layers} == {"float32"}


def test_loading_what_is_not_there_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="dvc repro train"):
        load(tmp_path)


def test_loading_weights_of_another_size_is_refused(tmp_path: Path) -> None:
    save(build(TINY), tmp_path)
    facts = tmp_path / "autoencoder.json"
    facts.write_text(facts.read_text().replace('"latent_size": 16', '"latent_size": 8'))
    with pytest.raises(BadInput, match="does not hold"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"encoder": "resnet"}, "efficientnet_lite0"),
        ({"image_size": 8}, "at least 32"),
        ({"encoder": "efficientnet_lite0", "weights": "nowhere.pth"}, "nowhere.pth not found"),
    ],
)
def test_params_that_nothing_can_be_built_from_are_refused(change: dict, names: str) -> None:
    with pytest.raises(BadInput, match=names):
        build(dataclasses.replace(TINY, **change))


def test_the_encoder_starts_from_the_weights_in_the_package() -> None:
    weights = read_torch_weights(package_weights())
    assert weights["_fc.weight"].shape == (1000, 1280)
    backbone = efficientnet_lite0(32)
    load_imagenet(backbone)
    stem = backbone.get_layer("_conv_stem").get_weights()[0]
    np.testing.assert_array_equal(stem, weights["_conv_stem.weight"].transpose(2, 3, 1, 0))
    spread = backbone(pictures(32), training=False).numpy().std()
    assert 0.05 < spread < 2  # a wrong order of axes or statistics makes features vanish or saturate


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's save_weights, not ours
def test_any_keras_application_is_an_encoder_by_its_name(tmp_path: Path) -> None:
    """From a file here; without one Keras downloads its own."""
    first = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=[64, 64, 3])  # pyright: ignore[reportArgumentType]
    first.save_weights(tmp_path / "first.weights.h5")
    settings = Train(image_size=64, latent_size=16, decoded_size=16, fixed_weight=1.0, fixed_size=4)
    settings = dataclasses.replace(settings, encoder="MobileNetV3Small", weights=str(tmp_path / "first.weights.h5"))
    autoencoder = build(settings)
    some = pictures(64)
    fit_fixed(autoencoder, [some.numpy()])
    assert autoencoder.encoder(some, training=False).shape == (5, 20)
    seen = first(keras.applications.mobilenet_v3.preprocess_input(some * 255), training=False)
    pooled = keras.Model(autoencoder.encoder.input, autoencoder.encoder.get_layer("fixed_pool").output)
    np.testing.assert_allclose(pooled(some), np.mean(seen, (1, 2)), atol=1e-4)
    save(autoencoder, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.encoder(some, training=False), autoencoder.encoder(some, training=False))


def test_a_weight_file_can_run_no_code(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple:
            return (print, ("ran",))

    path = tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(BadInput, match="is not part of a state dict"):
        read_torch_weights(path)


def test_a_truncated_weight_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(package_weights().read_bytes()[:100_000])
    with pytest.raises(BadInput, match=r"short\.pth is not a state dict"):
        read_torch_weights(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.pth"
    out = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []):
        pickle.dump(part, out, protocol=2)
    path.write_bytes(out.getvalue())
    with pytest.raises(BadInput, match="does not hold the weights of EfficientNet-Lite0"):
        load_imagenet(efficientnet_lite0(32), path)
