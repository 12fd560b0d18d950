"""What a step of training changes, and the step: gradients of all losses at once, on one device or on several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import keras
import tensorflow as tf

from training.fitting import batches, losses
from training.fitting import catalogue as catalogues
from training.fitting.catalogue import Catalogue
from training.model import autoencoder
from training.model.autoencoder import Autoencoder
from training.stage.params import Train

LOSSES = ("loss", "reconstruction", "classification", "contrast")


@dataclass
class Learner:
    """What steps change: the networks, their optimizers, and the memory of the originals' last latents."""

    model: Autoencoder
    optimizers: list[tuple[keras.Optimizer, list[Any]]]
    bank: tf.Variable
    """The originals' last latents, float32 [originals, latent_size]."""
    seen: tf.Variable
    """Which originals have one, bool [originals]."""
    sums: tf.Variable
    """Losses since the epoch began, in the order of LOSSES, and the number of steps."""

    @property
    def model_variables(self) -> list[Any]:
        """The networks' own, in a fixed order."""
        return [*self.model.encoder.variables, *self.model.decoder.variables]

    @property
    def variables(self) -> list[Any]:
        """Everything that a checkpoint holds, in a fixed order."""
        return [
            *self.model_variables,
            *(variable for optimizer, _ in self.optimizers for variable in optimizer.variables),
            self.bank,
            self.seen,
            self.sums,
        ]


def new_learner(settings: Train, originals: int, steps: int) -> Learner:
    """New networks, rates that rise over a twentieth of the steps and fall to zero as a cosine, empty memories.

    Call it in the strategy's scope.
    """
    model = autoencoder.build(settings)
    trainable = model.encoder.trainable_variables
    top = {id(variable) for variable in model.encoder.get_layer(autoencoder.HEAD).trainable_variables}
    backbone = [variable for variable in trainable if id(variable) not in top]
    head = [variable for variable in trainable if id(variable) in top] + model.decoder.trainable_variables
    optimizers = []
    for rate, group in ((settings.backbone_rate, backbone), (settings.head_rate, head)):
        warm = max(1, steps // 20)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm), warmup_target=rate, warmup_steps=warm
        )
        optimizer = keras.optimizers.AdamW(
            cast(Any, schedule), weight_decay=settings.weight_decay, beta_2=settings.beta_2
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        optimizer.build(group)
        optimizers.append((optimizer, group))

    def memory(value: tf.Tensor, aggregation: tf.VariableAggregation) -> tf.Variable:
        return tf.Variable(value, trainable=False, aggregation=aggregation)

    first, mean = tf.VariableAggregation.ONLY_FIRST_REPLICA, tf.VariableAggregation.MEAN
    bank = memory(tf.zeros([originals, settings.latent_size]), first)
    seen = memory(tf.zeros([originals], tf.bool), first)
    return Learner(model, optimizers, bank, seen, memory(tf.zeros([len(LOSSES) + 1]), mean))


def step_function(
    learner: Learner, catalogue: Catalogue, settings: Train, strategy: tf.distribute.Strategy
) -> Callable[[Any, Any], None]:
    """The function that takes a step: pictures float32 [B, S, S, 3] and their products int32 [B].

    B is a multiple of the strategy's replicas. Each replica takes a whole step's pictures, in the order of
    batches.plan_steps, and remembers the latents of the others' originals too.
    """
    originals = catalogues.read_all(catalogue.paths[: catalogue.count], settings.decoded_size)
    in_step, _ = batches.step_size(catalogue, settings)
    encoder, decoder = learner.model.learned

    def replica_step(pictures: tf.Tensor, products: tf.Tensor) -> None:
        targets = tf.cast(tf.gather(originals, products), tf.float32) / 255.0
        with tf.GradientTape() as tape:
            latents = encoder(pictures, training=True)
            rows = products[:in_step, tf.newaxis]
            bank = tf.tensor_scatter_nd_update(learner.bank, rows, latents[:in_step])
            known = tf.tensor_scatter_nd_update(learner.seen, rows, tf.ones_like(rows[:, 0], tf.bool))
            reconstruction = losses.reconstruction(decoder(latents, training=True), targets)
            classification = losses.classification(
                latents[in_step:], products[in_step:], bank, known, settings.temperature
            )
            contrast = losses.contrast(latents, products, settings.temperature)
            loss = (
                settings.reconstruct_weight * reconstruction
                + settings.classify_weight * classification
                + settings.contrast_weight * contrast
            )
            shared = loss / strategy.num_replicas_in_sync  # the optimizers add up the replicas' gradients
        variables = [variable for _, group in learner.optimizers for variable in group]
        gradients = iter(tape.gradient(shared, variables))
        for optimizer, group in learner.optimizers:
            optimizer.apply([next(gradients) for _ in group], group)
        if strategy.num_replicas_in_sync > 1:  # each remembers what the others saw
            context = cast(tf.distribute.ReplicaContext, tf.distribute.get_replica_context())
            rows, fresh = context.all_gather(rows, 0), context.all_gather(latents[:in_step], 0)
            bank = tf.tensor_scatter_nd_update(learner.bank, rows, fresh)
            known = tf.tensor_scatter_nd_update(learner.seen, rows, tf.ones_like(rows[:, 0], tf.bool))
        learner.bank.assign(bank)
        learner.seen.assign(known)
        learner.sums.assign_add(tf.stack([loss, reconstruction, classification, contrast, 1.0]))

    @tf.function
    def step_once(pictures: Any, products: Any) -> None:
        strategy.run(replica_step, (pictures, products))

    return step_once
