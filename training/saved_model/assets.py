"""assets.extra of a SavedModel: what it says of itself, its golden pairs, its warm-up; read and written here alone.

Importing this module does not import TensorFlow.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from training.stage.errors import BadInput

MODEL_NAME = "product-encoder"
"""What TensorFlow Serving serves it as."""

ASSETS = "assets.extra"

GOLDEN = f"{ASSETS}/golden.json"
"""Where in a SavedModel its golden pairs are: {"pairs": [{"photo_id", "product_id", "genuine", "original_bytes",
"photo_bytes", "similarity", "distance", "probability"}]}, the bytes as base64."""


def folder_sha256(folder: Path) -> str:
    """SHA-256 of a folder: of the sorted lines "SHA256 PATH" of its files, as `sha256sum` prints them."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """assets.extra/model.json of a SavedModel. Raises BadInput where it is missing or names no model_id."""
    path = folder / ASSETS / "model.json"
    try:
        facts = json.loads(path.read_text())
        facts["model_id"]
    except FileNotFoundError:
        raise BadInput(f"{path} not found: run `dvc repro export` first") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise BadInput(f"{path} names no model_id: run `dvc repro export` again") from None
    return facts


def golden_pairs(saved_model: Path) -> list[dict[str, Any]]:
    """The golden pairs of a SavedModel; raises as `read_golden` does."""
    return read_golden(saved_model / GOLDEN)


def golden_photos(saved_model: Path) -> list[bytes]:
    """The photos of a SavedModel's golden pairs; raises as `read_golden` does."""
    return [photo for _, photo in map(golden_pictures, golden_pairs(saved_model))]


def golden_pictures(pair: dict[str, Any]) -> tuple[bytes, bytes]:
    """Original and photo of a golden pair."""
    return base64.b64decode(pair["original_bytes"]), base64.b64decode(pair["photo_bytes"])


def read_golden(path: Path) -> list[dict[str, Any]]:
    """The pairs of a golden.json. Raises BadInput where it is missing or holds something else."""
    try:
        return json.loads(path.read_text())["pairs"]
    except FileNotFoundError:
        raise BadInput(f"{path} not found: run `dvc repro export` first") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise BadInput(f"{path} holds no golden pairs: run `dvc repro export` again") from None


def write_golden(path: Path, pairs: list[dict[str, Any]]) -> None:
    """Write a golden.json."""
    path.write_text(json.dumps({"pairs": pairs}, indent=1) + "\n")


def write_assets(saved_model: Path, facts: dict[str, Any], golden: list[dict[str, Any]], latent_size: int) -> None:
    """Write assets.extra of a SavedModel that has none: model.json, the golden pairs, and the warm-up."""
    (saved_model / ASSETS).mkdir()
    (saved_model / ASSETS / "model.json").write_text(json.dumps(facts, indent=1) + "\n")
    write_golden(saved_model / GOLDEN, golden)
    _write_warmup(saved_model / ASSETS / "tf_serving_warmup_requests", golden, latent_size)


def _write_warmup(path: Path, golden: list[dict[str, Any]], latent_size: int) -> None:
    """Requests that TensorFlow Serving answers to itself before it takes others: one of each signature."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    pictures = golden_pictures(golden[0]) if golden else (b"", b"")
    original, photo = (np.array([picture], object) for picture in pictures)
    vector = np.full((1, latent_size), latent_size**-0.5, np.float32)
    requests = {
        "serving_default": {"image_bytes": photo},
        "encode": {"image_bytes": photo},
        "verify": {"original_bytes": original, "photo_bytes": photo},
        "compare": {"embedding": vector, "photo_bytes": photo},
        "score": {"original_embedding": vector, "photo_embedding": vector},
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()  # pyright: ignore[reportAttributeAccessIssue] (generated)
            request.model_spec.name = MODEL_NAME
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog()  # pyright: ignore[reportAttributeAccessIssue] (generated)
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())
