"""Train the autoencoder: from accepted pictures to models/autoencoder/.

    python -m training.train          # in a workspace, with params.yaml; -v for TensorFlow's log

Each step shows some products, each by its original and a few photos, as a camera would see them. The decoder
draws the product's original from every latent; every photo is classified among all originals; the step's
pictures of one product attract each other. A run that was stopped resumes at its last checkpoint.

Several machines: set TF_CONFIG in each. The first keeps the results; the others only compute.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from training.fitting import batches, checkpoints, distributed, losses, sheets
from training.fitting import catalogue as catalogues
from training.fitting.catalogue import Catalogue
from training.fitting.learner import LOSSES, Learner, new_learner, step_function
from training.fitting.validation_sample import ValidationSample, measurements_since_best, out_of_patience
from training.model import autoencoder
from training.model.autoencoder import Autoencoder
from training.stage import tracking
from training.stage.errors import BadInput
from training.stage.files import replacing
from training.stage.fingerprints import code_of, key_of
from training.stage.params import Params, Train
from training.stage.places import AUTOENCODER, CHECKPOINTS, HISTORY, LOSS_CURVES, RUN
from training.stage.run import run_stage

_CODE = ("train.py", "fitting", "model", "dataset/manifest.py")
_CHECK_AFTER = 0.1
"""Share of the steps before which latents may be alike, as they are at the start."""
_MOST_FITTED = 2048
"""Pictures that the fixed part's principal components are fitted to."""


class TrainingFailed(RuntimeError):
    """Training failed in a way that more steps won't mend; the message says which params to change."""

    exit_code = 1


@dataclass(frozen=True)
class TrainReport:
    """What training did."""

    photos: int
    products: int
    epochs: int
    pictures_per_second: float
    run_id: str
    where: Path = AUTOENCODER

    def __str__(self) -> str:
        speed = f", {self.pictures_per_second:.0f} pictures/s" if self.pictures_per_second else ""
        return f"{self.photos:,} photos of {self.products:,} products, {self.epochs} epochs{speed}"


@dataclass
class Progress:
    """How far a run has come; kept with its checkpoints."""

    step: int = 0
    run_id: str | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def train(root: Path, params: Params) -> TrainReport:
    """Train on the known products' training photos, and write models/autoencoder/ by one rename.

    Raises BadInput for missing data or params that don't fit, TrainingFailed for NaN or a collapse.
    """
    settings = params.train
    rows = catalogues.read_splits(root, params)
    known = catalogues.catalogue_of(root, rows.loc[rows.known], photos_in="train")
    if known.count < 2 or known.photos < 1:
        raise BadInput(
            f"training needs two products with originals and a photo, and has {known.count} and {known.photos}: "
            "import more pictures, or change split in params.yaml"
        )
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    per_epoch = batches.steps_per_epoch(known, settings, replicas)
    steps = per_epoch * settings.epochs
    with strategy.scope():
        learner = new_learner(settings, known.count, steps)
    folder = root / CHECKPOINTS / _key(params, rows)
    chief = distributed.is_chief(strategy)
    facts = checkpoints.restore(folder, learner.variables) if chief else None
    progress = Progress(facts["step"], facts["run_id"], facts["history"]) if facts else Progress()
    plan = batches.plan_steps(known, settings, steps * replicas)
    sample = ValidationSample(root, rows, learner.model, settings)

    run = tracking.run(root, resume=progress.run_id is not None, run_id=progress.run_id) if chief else nullcontext("")
    with run as run_id:
        progress.run_id = run_id
        if chief and facts is None:
            import mlflow

            autoencoder.fit_fixed(learner.model, _sample_pictures(known, settings))
            mlflow.log_params(tracking.flat(params))
            _log_picture("augmentation.png", lambda path: _write_augmentation(known, settings, plan, path))
        progress.step = int(distributed.from_chief(strategy, progress.step))
        distributed.share_variables(strategy, learner.variables)
        speed = _run_steps(learner, progress, known, settings, plan, per_epoch, folder, sample, strategy)
        if chief:
            if settings.patience:
                checkpoints.restore(folder, learner.model_variables, "best")
            _log_picture("losses.png", lambda path: sheets.write_loss_curves(progress.history, path))
            _log_picture("reconstructions.png", sample.write_reconstructions)
            _write(root / AUTOENCODER, learner.model, progress)
        distributed.from_chief(strategy, 0)  # the others end when everything is written
    return TrainReport(known.photos, known.count, settings.epochs, speed, run_id)


def _run_steps(
    learner: Learner,
    progress: Progress,
    catalogue: Catalogue,
    settings: Train,
    plan: np.ndarray,
    per_epoch: int,
    folder: Path,
    sample: ValidationSample,
    strategy: tf.distribute.Strategy,
) -> float:
    """Run the remaining steps; pictures per second."""
    import mlflow

    replicas, chief = strategy.num_replicas_in_sync, distributed.is_chief(strategy)
    steps, size = len(plan) // replicas, plan.shape[1] * replicas
    if distributed.from_chief(strategy, progress.step >= steps or out_of_patience(progress.history, settings.patience)):
        return 0.0
    step_once = step_function(learner, catalogue, settings, strategy)
    remaining = batches.batches(catalogue, settings, plan, progress.step * replicas, replicas)
    distributed_batches = strategy.experimental_distribute_dataset(remaining)  # cut into the replicas' own steps
    started = saved = epoch_started = time.monotonic()
    first = progress.step
    pause = 0.2 if sys.stderr.isatty() else 15.0
    bar = tqdm(
        total=steps, initial=first, desc="train", unit="step", file=sys.stderr, mininterval=pause, maxinterval=60
    )
    with bar:
        for pictures, products in distributed_batches:
            step_once(pictures, products)
            progress.step += 1
            bar.update()
            ends_epoch = progress.step % per_epoch == 0
            due = time.monotonic() - saved > settings.checkpoint_every or progress.step == steps
            if not ends_epoch and not due:
                continue
            stop = False
            means = _means(learner)
            _check(means["loss"], learner, progress, steps)
            if ends_epoch:
                epoch = progress.step // per_epoch
                validates = epoch % (settings.validate_every or steps) == 0 or progress.step == steps
                measured = means | sample.measure_aucs() if validates and chief else means
                progress.history.append({"epoch": epoch, **measured})
                if validates and settings.patience:
                    if chief and measurements_since_best(progress.history) == 0:
                        checkpoints.save(folder, progress.step, learner.model_variables, {}, "best")
                    stop = bool(distributed.from_chief(strategy, out_of_patience(progress.history, settings.patience)))
                now = time.monotonic()
                rate = per_epoch * size / (now - epoch_started)
                epoch_started = now
                if chief:
                    mlflow.log_metrics({**measured, "pictures_per_second": rate}, step=epoch)
                bar.set_postfix({"epoch": epoch, "loss": f"{means['loss']:.3f}"}, refresh=False)
                learner.sums.assign(tf.zeros_like(learner.sums))
            if chief and (due or stop):
                facts = {"run_id": progress.run_id, "history": progress.history}
                checkpoints.save(folder, progress.step, learner.variables, facts)
            if due:
                saved = time.monotonic()
            if stop:
                break
    return (progress.step - first) * size / (time.monotonic() - started)


def _sample_pictures(catalogue: Catalogue, settings: Train) -> Iterator[np.ndarray]:
    """At most _MOST_FITTED of the training pictures, in batches: float32 [n, S, S, 3] in [0, 1]."""
    chosen = np.random.default_rng(settings.seed).permutation(len(catalogue.paths))[:_MOST_FITTED]
    for start in range(0, len(chosen), 64):
        paths = tuple(catalogue.paths[number] for number in chosen[start : start + 64])
        pictures = catalogues.read_all(paths, settings.image_size)
        yield pictures.numpy().astype(np.float32) / 255.0


def _means(learner: Learner) -> dict[str, float]:
    *sums, count = learner.sums.numpy().tolist()
    return {name: total / count for name, total in zip(LOSSES, sums, strict=True)}


def _check(loss: float, learner: Learner, progress: Progress, steps: int) -> None:
    latents = learner.bank.numpy()[learner.seen.numpy()]
    lowest = min((epoch["loss"] for epoch in progress.history), default=loss)
    failure = losses.describe_failure(loss, latents if progress.step >= _CHECK_AFTER * steps else latents[:0], lowest)
    if failure:
        raise TrainingFailed(
            f"{failure} at step {progress.step} of {steps}: the last good checkpoint is kept; "
            "lower train.backbone_rate and train.head_rate in params.yaml"
        )


def _write_augmentation(catalogue: Catalogue, settings: Train, plan: np.ndarray, path: Path) -> None:
    in_step, size = batches.step_size(catalogue, settings)
    pictures, _ = next(iter(batches.batches(catalogue, settings, plan[:1], 0)))
    per_product = pictures.numpy()[in_step:].reshape(in_step, size // in_step - 1, *pictures.shape[1:])
    sheets.write_picture_grid([pictures.numpy()[:in_step], *per_product.swapaxes(0, 1)], path)


def _log_picture(name: str, write: Callable[[Path], None]) -> None:
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        mlflow.log_artifact(str(Path(folder) / name), "pictures")


def _key(params: Params, rows: pd.DataFrame) -> str:
    pictures = rows[["picture_id", "product_id", "role", "split", "known", "sha256", "path"]].to_json(orient="values")
    return key_of(pictures, asdict(params.train), tf.__version__, keras.__version__, *code_of(_CODE))


def _write(folder: Path, model: Autoencoder, progress: Progress) -> None:
    with replacing(folder) as part:
        autoencoder.save(model, part)
        run = {"run_id": progress.run_id, "experiment": tracking.EXPERIMENT}
        (part / RUN.name).write_text(json.dumps(run, indent=2) + "\n")
        (part / HISTORY.name).write_text(json.dumps(progress.history, indent=2) + "\n")
        pd.DataFrame(progress.history, columns=["epoch", *LOSSES]).to_csv(part / LOSS_CURVES.name, index=False)


def _train(root: Path, params: Params) -> TrainReport:
    """Train the autoencoder; with TF_CONFIG, as one of several workers."""
    with distributed.strategy_of(os.environ).scope():
        return train(root, params)


if __name__ == "__main__":
    run_stage("train", _train)
