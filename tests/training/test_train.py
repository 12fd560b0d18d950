import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from PIL import Image, ImageDraw

from pipelines.workspace.ports import free_port
from training.dataset.manifest import SCHEMA, write_manifest
from training.fitting import losses
from training.fitting.batches import batches, plan_steps, steps_per_epoch
from training.fitting.catalogue import Catalogue, catalogue_of, read_splits
from training.fitting.distributed import strategy_of
from training.fitting.learner import LOSSES
from training.fitting.validation_sample import ValidationSample
from training.model.autoencoder import load
from training.stage.errors import BadInput
from training.stage.params import Params, Split, Train
from training.train import TrainingFailed, train

PRODUCTS, PHOTOS = 10, 6
TINY = Train(
    image_size=32,
    latent_size=16,
    decoded_size=16,
    epochs=4,
    products_per_step=4,
    photos_per_product=2,
    validate_every=2,
    checkpoint_every=0,
)
PARAMS = Params(split=Split(salt="train-15", scene_run=1), train=TINY)
ROUNDING = 0.01
"""Weights of the same steps whose sums were added up in another order: bit for bit the same in 24 runs here, idle and
busy, 2e-4 apart seen, 3e-3 with one thread. Steps that begin without the optimizers', or the latents', memory, or
that show other pictures: 0.06 and more."""


def write_data(root: Path) -> None:
    """data/ and accepted.parquet: products that differ in colour, on white, and photos of them on gray."""
    rows = []
    for product in range(PRODUCTS):
        rng = np.random.default_rng(product)
        colour = tuple(int(level) for level in rng.integers(0, 200, 3))
        for shot in range(PHOTOS + 1):
            role = "photo" if shot else "original"
            picture = Image.new("RGB", (48, 48), (120, 130, 125) if shot else "white")
            left, top = rng.integers(4, 16, 2) if shot else (10, 10)
            ImageDraw.Draw(picture).rectangle([int(left), int(top), int(left) + 24, int(top) + 28], colour)
            name = f"p{product}_{shot:03}" if shot else f"p{product}"
            path = root / "data" / f"{role}s" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
            row = dict.fromkeys(SCHEMA.names)
            row |= {"role": role, "picture_id": name, "product_id": f"p{product}", "name": "", "category": ""}
            row |= {"path": f"{role}s/{name}.png", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            rows.append(row)
    accepted = root / "reports/validation/accepted.parquet"
    accepted.parent.mkdir(parents=True)
    write_manifest(pa.Table.from_pylist(rows, SCHEMA), accepted)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    write_data(root)
    train(root, PARAMS)
    return root


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    write_data(tmp_path)
    return tmp_path


def weights(root: Path) -> list[np.ndarray]:
    autoencoder = load(root / "models/autoencoder")
    return [*autoencoder.encoder.get_weights(), *autoencoder.decoder.get_weights()]


def test_training_leaves_an_autoencoder_its_history_and_its_run(trained: Path) -> None:
    history = json.loads((trained / "models/autoencoder/history.json").read_text())
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4]
    assert history[-1]["loss"] < history[0]["loss"]
    assert {"validation_auc_known", "validation_auc_new"} <= history[1].keys()
    curves = pd.read_csv(trained / "models/autoencoder/losses.csv")
    assert curves.to_dict("records") == [
        pytest.approx({name: epoch[name] for name in ("epoch", *LOSSES)}) for epoch in history
    ]
    assert json.loads((trained / "models/autoencoder/run.json").read_text())["experiment"] == "photoproof"
    assert load(trained / "models/autoencoder").train == TINY


def test_the_run_in_mlflow_has_params_losses_speed_and_pictures(trained: Path) -> None:
    import mlflow

    run_id = json.loads((trained / "models/autoencoder/run.json").read_text())["run_id"]
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.latent_size"] == "16"
    assert {"loss", "reconstruction", "classification", "contrast", "pictures_per_second"} <= run.data.metrics.keys()
    names = {Path(artifact.path).name for artifact in mlflow.MlflowClient().list_artifacts(run_id, "pictures")}
    assert names == {"augmentation.png", "reconstructions.png", "losses.png"}


def test_training_again_takes_no_step_and_gives_the_same_weights(trained: Path) -> None:
    before = weights(trained)
    assert train(trained, PARAMS).pictures_per_second == 0
    assert all(np.array_equal(old, new) for old, new in zip(before, weights(trained), strict=True))


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_result(trained: Path, untrained: Path) -> None:
    (untrained / "params.yaml").write_text(params_yaml())
    command = [sys.executable, "-m", "training.train"]
    process = subprocess.Popen(command, cwd=untrained, stderr=subprocess.PIPE)
    folder = untrained / ".photoproof/checkpoints"
    until = time.monotonic() + 300
    while not list(folder.glob("*/step-*.npz")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (untrained / "models/autoencoder").exists()
    assert subprocess.run(command, cwd=untrained).returncode == 0
    for whole, resumed in zip(weights(trained), weights(untrained), strict=True):
        np.testing.assert_allclose(whole, resumed, atol=ROUNDING)


@pytest.mark.slow
def test_a_training_that_is_told_to_stop_stops_within_seconds(untrained: Path) -> None:
    (untrained / "params.yaml").write_text(params_yaml(epochs=10_000))
    command = [sys.executable, "-m", "training.train"]
    process = subprocess.Popen(command, cwd=untrained, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    until = time.monotonic() + 300
    while not list((untrained / ".photoproof/checkpoints").glob("*/step-*.npz")):
        assert time.monotonic() < until
        time.sleep(0.05)
    stopped = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - stopped < 20
    assert process.returncode == 143
    assert b"Traceback" not in output + errors


def params_yaml(**changes: object) -> str:
    return json.dumps(dataclasses.asdict(dataclasses.replace(PARAMS, train=dataclasses.replace(TINY, **changes))))  # pyright: ignore[reportArgumentType]


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(untrained: Path) -> None:
    wild = dataclasses.replace(PARAMS, train=dataclasses.replace(TINY, head_rate=1e30, backbone_rate=1e30))
    with pytest.raises(TrainingFailed, match=r"lower train\.backbone_rate") as raised:
        train(untrained, wild)
    assert raised.value.exit_code == 1
    assert not (untrained / "models/autoencoder").exists()


def test_training_ends_where_looks_bring_nothing_better_and_keeps_the_best(untrained: Path) -> None:
    hasty = dataclasses.replace(TINY, epochs=40, validate_every=1, patience=2, head_rate=0.05, backbone_rate=0.05)
    params = dataclasses.replace(PARAMS, train=hasty)
    train(untrained, params)
    history = json.loads((untrained / "models/autoencoder/history.json").read_text())
    assert len(history) < 40
    means = [np.mean([value for key, value in epoch.items() if key.startswith("validation_auc")]) for epoch in history]
    assert max(means[-2:]) <= max(means) == means[-3]
    best = load(untrained / "models/autoencoder")
    kept = ValidationSample(untrained, read_splits(untrained, params), best, hasty).measure_aucs()
    np.testing.assert_allclose(np.mean(list(kept.values())), means[-3], atol=1e-6)


@pytest.mark.slow
def test_two_devices_train_through_the_same_loop(untrained: Path) -> None:
    """Two virtual devices in a process of their own, mirrored; and bfloat16, which is what a GPU would take."""
    (untrained / "params.yaml").write_text(params_yaml(precision="mixed_bfloat16"))
    run = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pathlib import Path
from training.stage.params import read_params
from training.train import train
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    print(train(Path("."), read_params()).epochs)
"""
    done = subprocess.run([sys.executable, "-c", run], cwd=untrained, capture_output=True, text=True)
    assert done.stdout.strip() == "4", done.stderr[-2000:]
    history = json.loads((untrained / "models/autoencoder/history.json").read_text())
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.slow
def test_two_workers_train_one_model_which_the_first_of_them_keeps(untrained: Path) -> None:
    """Two processes, each with a workspace of its own; the first looks, decides when to end, and writes."""
    (untrained / "params.yaml").write_text(params_yaml(epochs=3, patience=2, validate_every=1, checkpoint_every=60))
    follower = untrained.with_name(f"{untrained.name}-follower")
    shutil.copytree(untrained, follower)
    config = {"cluster": {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "training.train"],
            cwd=root,
            env=os.environ | {"TF_CONFIG": json.dumps(config | {"task": {"type": "worker", "index": index}})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index, root in enumerate((untrained, follower))
    ]
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-4000:]
    history = json.loads((untrained / "models/autoencoder/history.json").read_text())
    assert history[-1]["loss"] < history[0]["loss"]
    assert not (follower / "models").exists()
    assert not (follower / ".photoproof").exists()


def test_a_tf_config_that_names_no_worker_is_one_clear_line() -> None:
    with pytest.raises(BadInput, match=r"TF_CONFIG must be .* the first worker leads"):
        strategy_of({"TF_CONFIG": '{"cluster": {"worker": ["one:1"]}, "task": {"index": 1}}'})


def test_latents_that_are_all_alike_are_called_a_collapse() -> None:
    alike = np.tile([[0.6, 0.8]], (5, 1)).astype(np.float32)
    assert "collapsed" in (losses.describe_failure(1.0, alike, 1.0) or "")
    assert losses.describe_failure(1.0, np.eye(5, dtype=np.float32), 1.0) is None
    assert losses.describe_failure(1.0, alike[:1], 1.0) is None
    assert losses.describe_failure(float("nan"), alike[:0], 1.0) == "the loss is nan"


def test_a_run_whose_latents_become_alike_ends_as_a_collapse(untrained: Path) -> None:
    """A weight decay that leaves of the latent's layer only its bias."""
    alone = {"classify_weight": 0.0, "contrast_weight": 0.0}
    settings = dataclasses.replace(TINY, epochs=10, weight_decay=50.0, head_rate=0.02, **alone)
    with pytest.raises(TrainingFailed, match=r"latents collapsed .* at step \d+ of \d+: the last good checkpoint"):
        train(untrained, dataclasses.replace(PARAMS, train=settings))
    assert not (untrained / "models/autoencoder").exists()
    assert list((untrained / ".photoproof/checkpoints").glob("*/step-*.npz"))


def test_a_loss_that_rises_to_three_times_its_lowest_has_diverged() -> None:
    none = np.zeros([0, 2], np.float32)
    assert losses.describe_failure(3.1, none, 1.0) == "the loss diverged from 1 to 3.1"
    assert losses.describe_failure(2.9, none, 1.0) is None


def test_nothing_accepted_says_which_stage_comes_first(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="dvc repro validate"):
        train(tmp_path, PARAMS)


def test_only_the_training_split_is_trained_on(untrained: Path) -> None:
    rows = read_splits(untrained, PARAMS)
    catalogue = catalogue_of(untrained, rows.loc[rows.known], "train")
    trained_on = {Path(path).stem for path in catalogue.paths}
    assert trained_on == set(rows.loc[rows.split == "train", "picture_id"])


def test_a_photo_without_its_original_is_left_out(untrained: Path) -> None:
    rows = read_splits(untrained, PARAMS)
    known = rows.loc[rows.known]
    lost = known.product_id.iloc[0]
    catalogue = catalogue_of(untrained, known[(known.role == "photo") | (known.product_id != lost)], "train")
    assert not [path for path in catalogue.paths if Path(path).stem.startswith(f"{lost}_")]
    assert catalogue.products.max() == catalogue.count - 1


def some_catalogue(products: int = 7, photos: int = 5) -> Catalogue:
    shows = np.concatenate([np.arange(products), np.repeat(np.arange(products), photos)]).astype(np.int32)
    return Catalogue(tuple(str(at) for at in range(len(shows))), shows, products)


def test_a_step_shows_each_of_its_products_by_its_original_and_its_photos() -> None:
    catalogue, settings = some_catalogue(), dataclasses.replace(TINY, drawn_share=0.3)
    for step in plan_steps(catalogue, settings, 20):
        originals, photos = step[:4], step[4:].reshape(4, 2)
        assert len(set(originals)) == 4
        assert (originals < catalogue.count).all()
        assert (catalogue.products[photos] == originals[:, None]).all()


def test_no_product_and_no_photo_comes_again_before_all_have_come() -> None:
    catalogue, settings = some_catalogue(6, 4), dataclasses.replace(TINY, products_per_step=3, drawn_share=0.0)
    plan = plan_steps(catalogue, settings, 4)
    assert sorted(plan[:2, :3].ravel()) == list(range(6))
    assert sorted(plan[:, 3:].ravel()) == list(range(6, 30))


def test_a_product_without_photos_is_shown_by_its_original() -> None:
    catalogue = Catalogue(("a", "b", "c"), np.array([0, 1, 0], np.int32), 2)
    plan = plan_steps(catalogue, dataclasses.replace(TINY, drawn_share=0.0), 3)
    for step in plan:
        assert set(step[:2]) == {0, 1}
        assert sorted(step[2:]) == [1, 1, 2, 2]


def test_a_catalogue_smaller_than_a_step_makes_smaller_steps() -> None:
    assert plan_steps(some_catalogue(3), TINY, 2).shape == (2, 9)
    assert steps_per_epoch(some_catalogue(3), TINY) == 3


@pytest.mark.parametrize("gigabytes", [2.0, 0.0])
def test_a_step_shows_the_same_pictures_whichever_step_a_run_goes_on_from(untrained: Path, gigabytes: float) -> None:
    rows = read_splits(untrained, PARAMS)
    catalogue = catalogue_of(untrained, rows.loc[rows.known], "train")
    settings = dataclasses.replace(TINY, cache_gigabytes=gigabytes)
    plan = plan_steps(catalogue, settings, 3)
    whole = list(batches(catalogue, settings, plan, 0))
    rest = list(batches(catalogue, settings, plan, 2))
    assert len(whole) == 3
    np.testing.assert_array_equal(whole[2][0], rest[0][0])
    np.testing.assert_array_equal(whole[2][1], rest[0][1])


def test_contrast_is_lower_where_pictures_of_a_product_are_alike() -> None:
    products = tf.constant([0, 0, 1, 1])
    near = tf.math.l2_normalize(tf.constant([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), 1)
    mixed = tf.gather(near, [0, 2, 1, 3])
    assert losses.contrast(near, products, 0.1) < losses.contrast(mixed, products, 0.1)


def test_contrast_of_orthogonal_pairs_is_what_the_formula_gives() -> None:
    latents = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    expected = -np.log(np.exp(2) / (np.exp(2) + 2))
    assert losses.contrast(latents, tf.constant([0, 0, 1, 1]), 0.5).numpy() == pytest.approx(expected, rel=1e-5)


def test_originals_that_were_not_seen_yet_do_not_compete() -> None:
    bank = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    latents, products = tf.constant([[1.0, 0.0]]), tf.constant([0])
    alone = losses.classification(latents, products, bank, tf.constant([True, False]), 0.1).numpy()
    both = losses.classification(latents, products, bank, tf.constant([True, True]), 0.1).numpy()
    assert alone == pytest.approx(0, abs=1e-6)
    assert both == pytest.approx(np.log(2), rel=1e-5)
