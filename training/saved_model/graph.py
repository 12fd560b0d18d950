"""The served graph: encoded pictures in, scores and thresholds out, with nothing of ours needed to call it."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import logit

from training.decision.decision import Decision
from training.decision.log_ratio import Cohort
from training.model.images import decode_batch

UNDECODED = {"similarity": -1.0, "distance": 2.0, "probability": 0.0}
"""What a pair without two embeddings scores: REST has no NaN."""

AS_MANY = "originals and photos must be equally many"


class VerdictGraph(tf.Module):
    """The module to save: functions of the signatures, and the variables that they use.

    `encoder` is float32 [N, S, S, 3] to [N, D]. The variables are plain copies of the encoder's, and the Keras model
    is not held: a SavedModel of a module that merely holds one fails in TensorFlow Serving
    (docs/decisions/0014-a-saved-model-is-loaded-as-serving-does.md), and Keras gives variables names, after their
    layers, that a SavedModel may refuse.
    """

    def __init__(
        self,
        encoder: keras.Model,
        cohort: Cohort,
        decision: Decision,
        model_id: str,
        image_size: int,
        max_pixels: int,
    ):
        super().__init__()
        latent_size = int(encoder.output_shape[-1])
        self.trained = _copies(encoder.trainable_variables, "trained")
        self.kept = _copies(encoder.non_trainable_variables, "kept")
        rows = tf.reshape(tf.constant(cohort.embeddings, tf.float32), [-1, latent_size])
        self.cohort = tf.Variable(rows, trainable=False)
        self.cohort_trained = tf.Variable(tf.constant(cohort.trained, tf.bool), trainable=False)
        bytes_ = tf.TensorSpec([None], tf.string)
        embedding = tf.TensorSpec([None, latent_size], tf.float32)

        def encoded(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pictures, decoded = decode_batch(image_bytes, image_size, max_pixels)
            count = tf.shape(decoded)[0]
            missing = tf.cast(tf.equal(count, 0), tf.int32)  # some layers refuse a batch of nothing
            pictures = tf.concat([pictures, tf.zeros([missing, image_size, image_size, 3])], 0)
            with tf.name_scope("encoder"):  # a graph's root refuses some of the names that a layer may have
                trained, kept = map(_tensors, (self.trained, self.kept))
                vectors = encoder.stateless_call(trained, kept, pictures, training=False)[0]
            vectors = tf.math.l2_normalize(tf.cast(vectors, tf.float32)[:count], axis=-1)
            return tf.where(decoded[:, tf.newaxis], vectors, tf.zeros_like(vectors)), decoded

        def scored(original: tf.Tensor, photo: tf.Tensor) -> dict[str, tf.Tensor]:
            equally_many = tf.debugging.assert_equal(tf.shape(original), tf.shape(photo), AS_MANY)
            with tf.control_dependencies([equally_many]):
                scores = scores_of(original, photo, self.cohort, self.cohort_trained, decision)
            count = tf.shape(photo)[:1]
            return scores | {
                "accept_at": tf.fill(count, np.float32(decision.accept_at)),
                "reject_at": tf.fill(count, np.float32(decision.reject_at)),
                "model_id": tf.fill(count, model_id),
            }

        @tf.function(input_signature=[bytes_])
        def encode(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            vectors, decoded = encoded(image_bytes)
            return {"embedding": vectors, "decoded": decoded, "model_id": tf.fill(tf.shape(decoded), model_id)}

        @tf.function(input_signature=[bytes_, bytes_])
        def verify(original_bytes: tf.Tensor, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            equally_many = tf.debugging.assert_equal(tf.shape(original_bytes), tf.shape(photo_bytes), AS_MANY)
            with tf.control_dependencies([equally_many]):
                vectors, decoded = encoded(tf.concat([original_bytes, photo_bytes], 0))
            originals, photos = tf.split(vectors, 2)
            return scored(originals, photos) | {"decoded": tf.reduce_all(tf.split(decoded, 2), axis=0)}

        @tf.function(input_signature=[embedding, bytes_])
        def compare(embedding: tf.Tensor, photo_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            photos, decoded = encoded(photo_bytes)
            return scored(embedding, photos) | {"decoded": decoded}

        @tf.function(input_signature=[embedding, embedding])
        def score(original_embedding: tf.Tensor, photo_embedding: tf.Tensor) -> dict[str, tf.Tensor]:
            return scored(original_embedding, photo_embedding)

        self.encode, self.verify, self.compare, self.score = encode, verify, compare, score

    def signatures(self) -> dict[str, Any]:
        """Signatures by the name that a caller uses."""
        return {
            "serving_default": self.encode,
            "encode": self.encode,
            "verify": self.verify,
            "compare": self.compare,
            "score": self.score,
        }


def _tensors(variables: list[tf.Variable]) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(variable) for variable in variables]


def _copies(variables: list[keras.Variable], name: str) -> list[tf.Variable]:
    return [
        tf.Variable(variable.value, name=f"{name}_{index}", trainable=False) for index, variable in enumerate(variables)
    ]


def scores_of(
    original: tf.Tensor, photo: tf.Tensor, cohort: tf.Tensor, trained: tf.Tensor, decision: Decision
) -> dict[str, tf.Tensor]:
    """Scores [N] of embeddings [N, D] row by row: training/decision/log_ratio.py's formula in TensorFlow.

    The cohort is float32 [M, D], `trained` bool [M]. A row in which either vector is zero (a picture that was not
    decoded) or not finite scores UNDECODED.
    """
    usable = tf.reduce_all(tf.math.is_finite(original) & tf.math.is_finite(photo), axis=-1)
    usable &= tf.reduce_any(original != 0, axis=-1) & tf.reduce_any(photo != 0, axis=-1)
    clean = usable[:, tf.newaxis]
    original = tf.math.l2_normalize(tf.where(clean, original, 1.0), axis=-1)
    photo = tf.math.l2_normalize(tf.where(clean, photo, 1.0), axis=-1)
    similarity = tf.clip_by_value(tf.reduce_sum(original * photo, axis=-1), -1.0, 1.0)
    formula = decision.formula

    def stretched(cosine: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        return tf.where(which, formula.pivot + formula.stretch * (cosine - formula.pivot), cosine)

    if cohort.shape[0]:
        near = tf.matmul(original, cohort, transpose_b=True)
        own = tf.one_hot(tf.argmax(near, axis=1), cohort.shape[0], on_value=True, off_value=False)
        own &= tf.reduce_max(near, axis=1, keepdims=True) > formula.own_copy_cosine
        of_cohort = stretched(tf.matmul(photo, cohort, transpose_b=True), trained) / formula.temperature
        rivals = tf.reduce_logsumexp(tf.where(own, -np.inf, of_cohort), axis=1)
        claimed = stretched(similarity, tf.reduce_any(own & trained, axis=1)) / formula.temperature
        log_ratio = -tf.math.softplus(rivals - claimed)
    else:
        log_ratio = similarity / formula.temperature
    odds = decision.slope * log_ratio + decision.intercept + float(logit(decision.prior_match))
    scores = {
        "similarity": similarity,
        "distance": tf.norm(original - photo, axis=-1),
        "probability": tf.math.sigmoid(odds),
    }
    return {name: tf.where(usable, score, UNDECODED[name]) for name, score in scores.items()}
