"""assets.extra of a SavedModel: what it says of itself, its golden pairs, its warm-up; read and written here alone."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from training.stage.errors import BadInput

MODEL_NAME = "product-encoder"
"""What TensorFlow Serving serves it as."""


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
    path = folder / "assets.extra" / "model.json"
    try:
        facts = json.loads(path.read_text())
        facts["model_id"]
    except FileNotFoundError:
        raise BadInput(f"{path} not found: run `dvc repro export` first") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise BadInput(f"{path} names no model_id: run `dvc repro export` again") from None
    return facts


def golden_pictures(saved_model: Path) -> list[bytes]:
    """The photos of a SavedModel's golden pairs."""
    pairs = json.loads((saved_model / "assets.extra" / "golden.json").read_text())["pairs"]
    return [base64.b64decode(pair["photo_bytes"]) for pair in pairs]


def write_warmup(path: Path, golden: dict[str, Any], latent_size: int) -> None:
    """Requests that TensorFlow Serving answers to itself before it takes others: one of each signature."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    pair = golden["pairs"][0] if golden["pairs"] else {"original_bytes": "", "photo_bytes": ""}
    original, photo = (np.array([base64.b64decode(pair[key])], object) for key in ("original_bytes", "photo_bytes"))
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
