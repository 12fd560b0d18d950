import io
import json
import shutil
import struct
import zlib
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.decision.decision import Decision
from training.decision.log_ratio import Cohort, LogRatio, log_ratios
from training.export import NotReproduced, digest, export
from training.model.autoencoder import load
from training.model.images import decode
from training.saved_model import loading
from training.saved_model.graph import VerdictGraph, scores_of
from training.stage.errors import BadInput
from training.stage.params import Params

OUTPUTS = {"similarity", "distance", "probability", "accept_at", "reject_at", "decoded", "model_id"}
DECISION = Decision(
    slope=1.3,
    intercept=2.0,
    formula=LogRatio(temperature=0.05, own_copy_cosine=0.95, stretch=1.4, pivot=0.8),
    prior_match=0.9,
    accept_at=0.8,
    reject_at=0.2,
    false_accept_rate=0.01,
    false_reject_rate=0.01,
    data_version=None,
)


def cohort_of(rows, trained=True):
    return Cohort(rows, np.full(len(rows), trained), np.arange(len(rows)).astype(str))


@pytest.fixture(scope="module")
def folder(evaluated):
    return evaluated.root / "models/saved_model"


@pytest.fixture(scope="module")
def model(folder):
    with loading.load(folder, threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def facts(folder):
    return json.loads((folder / "assets.extra/model.json").read_text())


@pytest.fixture(scope="module")
def photos(evaluated, accepted):
    """Bytes of six photos."""
    paths = accepted.query("role == 'photo'").path.iloc[::20]
    return [(evaluated.root / "data" / path).read_bytes() for path in paths]


@pytest.fixture(scope="module")
def originals(evaluated, accepted):
    """Bytes of six originals."""
    paths = accepted.query("role == 'original'").path.iloc[:6]
    return [(evaluated.root / "data" / path).read_bytes() for path in paths]


def strings(values):
    return np.array(values, dtype=object)


def huge_png_header():
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(40)


def oversized_png():
    written = io.BytesIO()
    Image.new("1", (5_100, 5_000)).save(written, "PNG")  # 25.5 Mpx in a few kilobytes
    return written.getvalue()


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def test_signatures_are_the_designs(model, facts):
    size = facts["latent_size"]
    assert set(model.signatures) == {"serving_default", "encode", "verify", "compare", "score"}
    shapes = {
        name: {key: (dtype.name, shape.as_list()) for key, (dtype, shape) in signature.inputs.items()}
        for name, signature in model.signatures.items()
    }
    assert shapes["encode"] == shapes["serving_default"] == {"image_bytes": ("string", [None])}
    assert shapes["verify"] == {"original_bytes": ("string", [None]), "photo_bytes": ("string", [None])}
    assert shapes["compare"] == {"embedding": ("float32", [None, size]), "photo_bytes": ("string", [None])}
    assert shapes["score"] == {
        "original_embedding": ("float32", [None, size]),
        "photo_embedding": ("float32", [None, size]),
    }
    outputs = model.signatures["verify"].outputs
    assert set(outputs) == set(model.signatures["compare"].outputs) == OUTPUTS
    assert set(model.signatures["score"].outputs) == OUTPUTS - {"decoded"}
    assert {name: dtype.name for name, (dtype, _) in outputs.items()} == {
        **dict.fromkeys(OUTPUTS, "float32"),
        "decoded": "bool",
        "model_id": "string",
    }
    embedding, shape = model.signatures["encode"].outputs["embedding"]
    assert (embedding.name, shape.as_list()) == ("float32", [None, size])


def test_the_graph_encodes_as_the_keras_model_does(model, evaluated, photos):
    encoder = load(evaluated.root / "models/autoencoder").encoder
    pictures = tf.stack([decode(photo, encoder.input_shape[1]) for photo in photos])
    outputs = model.run("encode", {"image_bytes": strings(photos)})
    np.testing.assert_allclose(outputs["embedding"], encoder(pictures, training=False), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, atol=1e-5)


def test_verify_compare_and_score_say_the_same(model, originals, photos):
    verified = model.run("verify", {"original_bytes": strings(originals), "photo_bytes": strings(photos)})
    of_originals = model.run("encode", {"image_bytes": strings(originals)})["embedding"]
    of_photos = model.run("encode", {"image_bytes": strings(photos)})["embedding"]
    compared = model.run("compare", {"embedding": of_originals, "photo_bytes": strings(photos)})
    scored = model.run("score", {"original_embedding": of_originals, "photo_embedding": of_photos})
    assert verified["decoded"].all() and compared["decoded"].all()
    for name in OUTPUTS - {"decoded", "model_id"}:
        np.testing.assert_allclose(compared[name], verified[name], atol=1e-5)
        np.testing.assert_allclose(scored[name], verified[name], atol=1e-5)


def test_every_answer_carries_model_id_and_thresholds(model, facts, originals, photos):
    outputs = model.run("verify", {"original_bytes": strings(originals), "photo_bytes": strings(photos)})
    assert set(outputs["model_id"]) == {facts["model_id"].encode()}
    assert set(outputs["accept_at"]) == {np.float32(facts["accept_at"])}
    assert set(outputs["reject_at"]) == {np.float32(facts["reject_at"])}


def test_broken_pictures_leave_the_good_ones_of_their_batch_as_they_were(model, photos):
    bad = [b"", photos[0][:300], b"garbled" * 50, photos[1][:40] + b"\0" * 500, huge_png_header(), oversized_png()]
    batch = [picture for pair in zip(bad, photos, strict=True) for picture in pair]
    mixed = model.run("encode", {"image_bytes": strings(batch)})
    assert mixed["decoded"].tolist() == [False, True] * 6
    for row, photo in enumerate(photos):
        alone = model.run("encode", {"image_bytes": strings([photo])})
        np.testing.assert_allclose(mixed["embedding"][2 * row + 1], alone["embedding"][0], atol=1e-6)
    assert np.isfinite(mixed["embedding"]).all()


def test_a_pair_with_a_broken_picture_is_undecoded_and_scores_the_worst(model, originals, photos):
    outputs = model.run(
        "verify",
        {
            "original_bytes": strings([originals[0], b"", originals[1]]),
            "photo_bytes": strings([b"no picture", photos[0], photos[1]]),
        },
    )
    assert outputs["decoded"].tolist() == [False, False, True]
    for name, worst in (("similarity", -1), ("distance", 2), ("probability", 0)):
        assert outputs[name][:2].tolist() == [worst, worst]
    assert outputs["probability"][2] > 0


def test_no_pairs_give_no_answers(model, facts):
    nothing, vectors = strings([]), np.zeros((0, facts["latent_size"]), np.float32)
    assert model.run("encode", {"image_bytes": nothing})["embedding"].shape == vectors.shape
    assert model.run("verify", {"original_bytes": nothing, "photo_bytes": nothing})["probability"].shape == (0,)
    assert model.run("compare", {"embedding": vectors, "photo_bytes": nothing})["decoded"].shape == (0,)
    assert model.run("score", {"original_embedding": vectors, "photo_embedding": vectors})["model_id"].shape == (0,)


def test_originals_and_photos_that_are_not_equally_many_are_refused(model, facts, originals, photos):
    with pytest.raises(tf.errors.InvalidArgumentError, match="equally many"):
        model.run("verify", {"original_bytes": strings(originals[:3]), "photo_bytes": strings(photos[:1])})
    vectors = np.ones((3, facts["latent_size"]), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="equally many"):
        model.run("score", {"original_embedding": vectors, "photo_embedding": vectors[:1]})


def test_an_embedding_that_is_no_number_scores_the_worst(model, facts):
    vectors = np.ones((2, facts["latent_size"]), np.float32)
    odd = vectors * np.array([[np.nan], [np.inf]], np.float32)
    outputs = model.run("score", {"original_embedding": odd, "photo_embedding": vectors})
    assert outputs["similarity"].tolist() == [-1, -1] and outputs["probability"].tolist() == [0, 0]


def test_a_longer_embedding_points_the_same_way(model, facts, photos):
    vectors = model.run("encode", {"image_bytes": strings(photos)})["embedding"]
    plain = model.run("score", {"original_embedding": vectors, "photo_embedding": vectors[::-1]})
    longer = model.run("score", {"original_embedding": 7 * vectors, "photo_embedding": vectors[::-1]})
    np.testing.assert_allclose(longer["similarity"], plain["similarity"], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 6), st.floats(0.02, 1), st.floats(0, 0.99))
def test_the_graphs_formula_is_calibrations(seed, rows, temperature, own_copy_cosine):
    generator = np.random.default_rng(seed)
    originals, photos = unit(generator.normal(size=(5, 8))), unit(generator.normal(size=(5, 8)))
    against = np.vstack([originals, unit(originals[:1] + 0.02)])[:rows].astype(np.float32)
    cohort = Cohort(against, generator.random(rows) < 0.5, np.arange(rows).astype(str))
    formula = replace(DECISION.formula, temperature=temperature, own_copy_cosine=own_copy_cosine)
    decision = replace(DECISION, formula=formula)
    ratios = log_ratios(photos, originals, cohort, formula)
    pairs = [(i, j) for i in range(5) for j in range(5)]
    outputs = scores_of(
        tf.constant(originals[[j for _, j in pairs]]),
        tf.constant(photos[[i for i, _ in pairs]]),
        tf.constant(cohort.embeddings.reshape(-1, 8)),
        tf.constant(cohort.trained),
        decision,
    )
    np.testing.assert_allclose(outputs["probability"], decision.probability(ratios).ravel(), atol=1e-5)
    np.testing.assert_allclose(outputs["similarity"], (photos @ originals.T).ravel(), atol=1e-5)


def test_a_graph_without_a_cohort_decides_by_the_plain_cosine(evaluated, tmp_path):
    encoder = load(evaluated.root / "models/autoencoder").encoder
    module = VerdictGraph(
        encoder,
        cohort_of(np.zeros((0, encoder.output_shape[-1]), np.float32)),
        DECISION,
        "none",
        32,
        10_000,
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.signatures())
    vectors = unit(np.random.default_rng(0).normal(size=(8, encoder.output_shape[-1])))
    with loading.load(tmp_path, threads=1) as plain:
        outputs = plain.run("score", {"original_embedding": vectors, "photo_embedding": vectors[::-1]})
    cosine = (vectors * vectors[::-1]).sum(axis=1)
    np.testing.assert_allclose(
        outputs["probability"], DECISION.probability(cosine / DECISION.formula.temperature), atol=1e-5
    )


def test_an_encoder_whose_layers_have_odd_names_is_exported_too(tmp_path):
    pictures = keras.Input([32, 32, 3])
    x = keras.layers.Conv2D(4, 3, name="_conv_stem")(pictures)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(name="_blocks.0._bn0")(x))
    encoder = keras.Model(pictures, keras.layers.Dropout(0.5, seed=1)(x))
    module = VerdictGraph(
        encoder,
        cohort_of(np.eye(4, dtype=np.float32)),
        DECISION,
        "odd",
        32,
        10_000,
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.signatures())
    with loading.load(tmp_path, threads=1) as odd:
        assert odd.run("encode", {"image_bytes": strings([b""])})["model_id"].tolist() == [b"odd"]


def test_the_graph_holds_no_weights_as_constants(folder):
    assert (folder / "saved_model.pb").stat().st_size < 2 * 2**20


def test_warm_up_requests_are_answered_by_every_signature(folder, model):
    from tensorflow_serving.apis import prediction_log_pb2

    warmed = set()
    for record in tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request  # pyright: ignore[reportAttributeAccessIssue] (generated)
        assert request.model_spec.name == "product-encoder"
        warmed.add(request.model_spec.signature_name)
        outputs = model.run(
            request.model_spec.signature_name, {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        )
        assert outputs["model_id"].shape == (1,)
    assert warmed == set(model.signatures)


def test_the_model_id_is_that_of_weights_cohort_calibration_and_params(evaluated):
    encoder, params = load(evaluated.root / "models/autoencoder").encoder, Params()
    rows = np.ones((2, 3), np.float32)
    cohort = cohort_of(rows)
    ids = [digest(encoder, cohort, DECISION, params)]
    assert digest(encoder, cohort_of(rows.copy()), DECISION, Params()) == ids[0]
    ids.append(digest(encoder, cohort_of(rows + 1), DECISION, params))
    ids.append(digest(encoder, cohort_of(rows, trained=False), DECISION, params))
    ids.append(digest(encoder, cohort, replace(DECISION, accept_at=0.81), params))
    ids.append(digest(encoder, cohort, DECISION, replace(params, export=replace(params.export, max_pixels=1))))
    encoder.set_weights([array + 1 for array in encoder.get_weights()])
    ids.append(digest(encoder, cohort, DECISION, params))
    assert len(set(ids)) == 6


@pytest.fixture
def copied(evaluated, tmp_path):
    """A workspace of its own with everything that export reads and what it wrote."""
    shutil.copytree(evaluated.root / "models", tmp_path / "models")
    return tmp_path


def test_exporting_again_gives_the_same_model(copied, evaluated, facts):
    assert export(copied, evaluated.params).model_id == facts["model_id"]


def test_a_graph_that_does_not_reproduce_the_golden_pairs_takes_nobodys_place(copied, evaluated, facts):
    path = copied / "models/decision/golden.json"
    golden = json.loads(path.read_text())
    golden["pairs"][0]["similarity"] += 0.001
    path.write_text(json.dumps(golden))
    with pytest.raises(NotReproduced, match=r"0\.001"):
        export(copied, evaluated.params)
    assert json.loads((copied / "models/saved_model/assets.extra/model.json").read_text()) == facts
    assert [path.name for path in (copied / "models").iterdir() if path.name.startswith(".")] == []


def test_export_without_an_evaluation_is_bad_input_that_says_what_to_run(copied, evaluated):
    shutil.rmtree(copied / "models/decision")
    with pytest.raises(BadInput, match="evaluate"):
        export(copied, evaluated.params)
