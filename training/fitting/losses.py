"""Losses: a latent must draw its product's original, and lie near that original's latent and far from the others'."""

import math

import numpy as np
import tensorflow as tf

COLLAPSED = 0.99
"""Mean cosine between two originals from which on latents no longer tell products apart."""
DIVERGED = 3.0
"""How many times the lowest epoch's loss a loss may be."""
_EXCLUDED = -1e9
"""A logit that leaves its class out."""


def reconstruction(decoded: tf.Tensor, originals: tf.Tensor) -> tf.Tensor:
    """Mean squared difference between drawn pictures, float [N, s, s, 3], and their originals, of the same form.

    Squared: most of an original is white, and an absolute difference stops learning at a white picture.
    """
    return tf.reduce_mean(tf.square(decoded - originals))


def classification(
    latents: tf.Tensor, products: tf.Tensor, bank: tf.Tensor, seen: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Cross entropy of each photo's product among all originals.

    latents float [N, D] and bank float [M, D] are L2-normalised; products int [N] are rows of the bank;
    rows that `seen`, bool [M], leaves out have no latent yet and don't compete.
    """
    logits = tf.where(seen, latents @ tf.transpose(bank) / temperature, _EXCLUDED)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(products, logits))


def contrast(latents: tf.Tensor, products: tf.Tensor, temperature: float) -> tf.Tensor:
    """Supervised contrast among a step's pictures (Khosla et al., 2020, arXiv:2004.11362, equation 2).

    latents float [N, D] L2-normalised, products int [N]; a picture that is alone with its product is left out.
    """
    diagonal = tf.eye(tf.shape(latents)[0], dtype=tf.bool)
    logits = tf.where(diagonal, _EXCLUDED, latents @ tf.transpose(latents) / temperature)
    same = tf.math.logical_and(products[:, tf.newaxis] == products, tf.math.logical_not(diagonal))
    likelihood = tf.reduce_sum(tf.where(same, tf.nn.log_softmax(logits), 0.0), 1)
    positives = tf.reduce_sum(tf.cast(same, tf.float32), 1)
    pictures = tf.reduce_sum(tf.cast(positives > 0, tf.float32))
    return -tf.reduce_sum(tf.math.divide_no_nan(likelihood, positives)) / tf.maximum(1.0, pictures)


def describe_failure(loss: float, latents: np.ndarray, lowest: float) -> str | None:
    """A loss that is not a number or far above the lowest epoch's, or originals' latents that are all alike, in words.

    None where nothing is wrong. latents are float [M, D], L2-normalised.
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if loss > DIVERGED * lowest:
        return f"the loss diverged from {lowest:.3g} to {loss:.3g}"
    count = len(latents)
    if count >= 2:
        cosine = (float(np.square(latents.sum(0)).sum()) - count) / (count * (count - 1))
        if cosine > COLLAPSED:
            return f"latents collapsed (the mean cosine between two originals is {cosine:.4f})"
    return None
