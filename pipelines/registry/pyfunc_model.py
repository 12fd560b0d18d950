"""The registered model as an MLflow pyfunc, for notebooks and batch jobs: it needs TensorFlow, nothing of ours.

MLflow copies this file into each version and runs it where the version is loaded:

    mlflow.pyfunc.load_model("models:/product-encoder@champion").predict(pairs)

`pairs` is a DataFrame with the columns original_bytes and photo_bytes (encoded pictures); the answer has
similarity, probability, outcome ("match", "mismatch", "review"), decoded and model_id, a row a pair. A pair with a
picture that can't be decoded is a "review" with `decoded` false.
"""

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

ROWS_AT_ONCE = 32


class ProductEncoder(PythonModel):
    """The SavedModel's signature `verify`, row by row of a table."""

    def load_context(self, context: Any) -> None:
        """Load the SavedModel into a C++ session, as TensorFlow Serving does."""
        import tensorflow as tf

        self.session = tf.compat.v1.Session(graph=tf.Graph())
        logger, level = tf.get_logger(), tf.get_logger().level
        logger.setLevel("ERROR")  # the loader is called deprecated; it is the one that TensorFlow Serving uses
        with self.session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self.session, ["serve"], context.artifacts["saved_model"])
        logger.setLevel(level)
        signature = loaded.signature_def["verify"]
        self.inputs = {name: tensor.name for name, tensor in signature.inputs.items()}
        self.outputs = {name: tensor.name for name, tensor in signature.outputs.items()}

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] (MLflow's own says that it returns None)
        self, context: Any, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        """A row for each pair, in order."""
        starts = range(0, len(model_input), ROWS_AT_ONCE)
        parts = [self._verify(model_input.iloc[at : at + ROWS_AT_ONCE]) for at in starts]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))

    def _verify(self, pairs: pd.DataFrame) -> pd.DataFrame:
        feed = {tensor: pairs[name].to_numpy(object) for name, tensor in self.inputs.items()}
        outputs = self.session.run(self.outputs, feed)
        undecided = (outputs["probability"] >= outputs["reject_at"]) | ~outputs["decoded"]
        accepted = outputs["decoded"] & (outputs["probability"] >= outputs["accept_at"])
        return pd.DataFrame(
            {
                "similarity": outputs["similarity"],
                "probability": outputs["probability"],
                "outcome": np.where(accepted, "match", np.where(undecided, "review", "mismatch")),
                "decoded": outputs["decoded"],
                "model_id": [model_id.decode() for model_id in outputs["model_id"]],
            }
        )


COLUMNS = ("similarity", "probability", "outcome", "decoded", "model_id")

set_model(ProductEncoder())
