"""The evaluated model as the SavedModel that TensorFlow Serving loads, proven before it takes its place.

    python -m training.export        (or: dvc repro export)

Pictures are decoded inside the graph; thresholds, calibration and cohort are part of it. In assets.extra/ lie
warm-up requests, the golden pairs, and model.json with the facts that travel with the model.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.decision.decision import Decision
from training.decision.log_ratio import Cohort
from training.model.autoencoder import load
from training.saved_model import loading
from training.saved_model.assets import golden_pictures, read_golden, write_assets
from training.saved_model.golden import TOLERANCE, golden_difference
from training.saved_model.graph import VerdictGraph
from training.stage.errors import BadInput
from training.stage.files import replacing
from training.stage.params import Params
from training.stage.places import (
    AUTOENCODER,
    COHORT_FILE,
    DECISION,
    DECISION_FILE,
    GOLDEN_FILE,
    HEADLINE_FILE,
    SAVED_MODEL,
)
from training.stage.quiet import hushed
from training.stage.run import run_stage

GRAPH_MAX = 16 * 2**20
"""Bytes of saved_model.pb beyond which weights must have become constants of the graph."""


class NotReproduced(RuntimeError):
    """The exported graph is not the model that was evaluated."""

    exit_code = 1


@dataclass(frozen=True)
class ExportReport:
    """What the stage made."""

    model_id: str
    latent_size: int
    golden_pairs: int
    difference: float
    """The largest of a golden pair's score and the one that evaluation measured."""
    where: Path = SAVED_MODEL

    def __str__(self) -> str:
        return (
            f"model {self.model_id}, latent of {self.latent_size}, {self.golden_pairs} golden pairs "
            f"within {self.difference:.0e}"
        )


def export(root: Path, params: Params) -> ExportReport:
    """Write models/saved_model. Raises BadInput where a part is missing, NotReproduced where a proof fails."""
    encoder = load(root / AUTOENCODER).encoder
    try:
        cohort = Cohort.read(root / DECISION / COHORT_FILE)
        decision = Decision.read(root / DECISION / DECISION_FILE)
        headline = json.loads((root / DECISION / HEADLINE_FILE).read_text())
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename} not found: run `dvc repro evaluate` first") from None
    golden = read_golden(root / DECISION / GOLDEN_FILE)
    image_size, latent_size = int(encoder.input_shape[1]), int(encoder.output_shape[-1])
    if cohort.embeddings.shape[1:] != (latent_size,):
        raise BadInput(
            f"{DECISION / COHORT_FILE} is of embeddings of {cohort.embeddings.shape[-1]} numbers, the encoder gives "
            f"{latent_size}: run `dvc repro evaluate` again"
        )
    model_id = digest(encoder, cohort, decision, params)
    module = VerdictGraph(encoder, cohort, decision, model_id, image_size, params.export.max_pixels)
    facts = {
        "model_id": model_id,
        "latent_size": latent_size,
        "image_size": image_size,
        "accept_at": decision.accept_at,
        "reject_at": decision.reject_at,
        "data_version": decision.data_version,
        "params": dataclasses.asdict(params),
        "metrics": headline,
    }
    with replacing(root / SAVED_MODEL) as folder:
        tf.saved_model.save(module, str(folder), signatures=module.signatures())
        write_assets(folder, facts, golden, latent_size)
        difference = prove(folder, golden)
    return ExportReport(model_id, latent_size, len(golden), difference)


def digest(encoder: keras.Model, cohort: Cohort, decision: Decision, params: Params) -> str:
    """The model_id: 16 hex digits of a SHA-256 of weights, cohort, calibration, and the params that shape a model."""
    sha256 = hashlib.sha256()
    for array in [*encoder.get_weights(), cohort.embeddings, cohort.trained]:
        sha256.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    stages = {name: dataclasses.asdict(getattr(params, name)) for name in ("split", "train", "evaluate", "export")}
    sha256.update(json.dumps([dataclasses.asdict(decision), stages], sort_keys=True).encode())
    return sha256.hexdigest()[:16]


def prove(folder: Path, golden: list[dict[str, Any]]) -> float:
    """Load the SavedModel as TensorFlow Serving does and hold it to its promises; returns the `golden_difference`.

    Raises NotReproduced where a golden score is not what evaluation measured, where broken pictures spoil others
    in their batch, or where weights lie in the graph as constants.
    """
    graph_bytes = (folder / "saved_model.pb").stat().st_size
    if graph_bytes > GRAPH_MAX:
        raise NotReproduced(f"saved_model.pb is {graph_bytes:,} bytes: weights became constants of the graph")
    with loading.load(folder) as model:
        difference = golden_difference(model, golden)
        if not difference <= TOLERANCE:
            raise NotReproduced(
                f"the exported graph's scores of the golden pairs differ by {difference:.2g} from what evaluation "
                f"measured, more than {TOLERANCE:g}: run evaluate again, and see that export.max_pixels lets the "
                "pictures in"
            )
        if golden:
            with hushed():
                _prove_isolation(model, golden_pictures(golden[0])[1])
    return difference


def _prove_isolation(model: loading.LoadedModel, good: bytes) -> None:
    broken = [b"", good[: len(good) // 2][:200], b"not a picture", good[:30] + bytes(200)]
    alone = model.run("encode", {"image_bytes": np.array([good], object)})
    mixed = model.run("encode", {"image_bytes": np.array([*broken, good, *broken], object)})
    others_decoded = np.delete(mixed["decoded"], len(broken))
    same = np.abs(mixed["embedding"][len(broken)] - alone["embedding"][0]).max() <= TOLERANCE
    if others_decoded.any() or not mixed["decoded"][len(broken)] or not same:
        raise NotReproduced("broken pictures in a batch change what the exported graph says of a good one")


if __name__ == "__main__":
    run_stage("export", export)
