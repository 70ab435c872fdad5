"""The training loop: epochs of compiled steps on every replica, checkpoints, progress.

`keras.Model.fit` cannot do what is asked of it under tf.distribute in this version of Keras (no accumulation, no
several steps a call, no multi-worker), so the loop is ours; model, optimizer and metrics are Keras'.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.training.metrics_log import MetricsLog

# Steps run in one call of a compiled function: enough to hide the cost of the call, few enough to show progress.
STEPS_PER_CALL = 20

Batch = dict[str, tf.Tensor]
Losses = Callable[[Batch], tf.Tensor]
EpochEnd = Callable[[int, MetricsLog, dict[str, float]], bool]


def train(
    *,
    title: str,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    losses: Losses,
    batches_from: Callable[[int], tf.data.Dataset],
    epoch_end: EpochEnd,
    strategy: tf.distribute.Strategy,
    epochs: int,
    steps_per_epoch: int,
    batch_size: int,
    folder: Path,
    checkpoint_minutes: float,
) -> MetricsLog:
    """Trains for some epochs, going on from the last checkpoint in `folder`.

    Args:
        title: names the training on the console.
        model, optimizer: made in the strategy's scope.
        losses: a batch on one replica -> the loss of each of its recordings, `(batch,)`.
        batches_from: an epoch -> all batches from that epoch on, as `dataset.training_batches`.
        epoch_end: called after each epoch with its number, the log, and the epoch's scalars, to which it may add;
            returns whether to stop.
        steps_per_epoch, batch_size: of the whole, over all replicas.
        folder: for checkpoints, `metrics.csv` and `tensorboard/`.
        checkpoint_minutes: least time between two checkpoints; the last epoch is always saved.

    Returns:
        The log, with a row for every epoch.

    Raises:
        RunError: the loss is not finite; names the steps.
    """
    with strategy.scope():  # before the checkpoint is read: what is not there cannot be restored
        optimizer.build(model.trainable_variables)
    finished = tf.Variable(0, dtype=tf.int64, trainable=False, name="finished_epochs")
    # The weights by themselves: of a model, tf.train.Checkpoint leaves out the layers that Keras keeps in lists.
    weights = [variable.value for variable in model.variables]
    checkpoint = tf.train.Checkpoint(weights=weights, optimizer=optimizer, finished_epochs=finished)
    saves = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=2)
    if saves.latest_checkpoint:
        checkpoint.restore(saves.latest_checkpoint).assert_consumed()
        logging.info("%s goes on after epoch %d.", title, int(finished))
    first = int(finished)
    log = MetricsLog(folder, first)
    run_steps = compiled_steps(strategy, model, optimizer, losses, batch_size)
    batches = iter(strategy.experimental_distribute_dataset(batches_from(first)))
    began = saved = time.monotonic()
    first_call_s = 0.0
    with tqdm(
        total=epochs * steps_per_epoch, initial=first * steps_per_epoch, desc=title, unit="step", mininterval=1.0
    ) as progress:
        for epoch in range(first, epochs):
            epoch_began = time.monotonic()
            total = 0.0
            for start in range(0, steps_per_epoch, STEPS_PER_CALL):
                count = min(STEPS_PER_CALL, steps_per_epoch - start)
                loss = float(run_steps(batches, tf.constant(count)))
                if not math.isfinite(loss):
                    step = epoch * steps_per_epoch + start
                    raise RunError(
                        f"{folder}: Expected a finite loss. Received {loss} in the steps {step} to {step + count - 1} "
                        f"(epoch {epoch}). The last checkpoint is kept; try a lower learning rate or float32."
                    )
                first_call_s = first_call_s or time.monotonic() - began
                total += loss * count
                progress.update(count)
            seconds = time.monotonic() - epoch_began
            scalars = {
                "loss": total / steps_per_epoch,
                "learning_rate": float(optimizer.learning_rate),
                "records_per_second": steps_per_epoch * batch_size / seconds,
            }
            stop = epoch_end(epoch, log, scalars)
            log.epoch(epoch, (epoch + 1) * steps_per_epoch, scalars)
            progress.set_postfix_str(
                " ".join(f"{name} {value:.3g}" for name, value in scalars.items() if "loss" in name)
            )
            # A training that was ended early has nothing left to do when it is resumed.
            finished.assign(epochs if stop else epoch + 1)
            if int(finished) == epochs or time.monotonic() - saved >= 60 * checkpoint_minutes:
                saves.save()
                saved = time.monotonic()
            if stop:
                break
    log.close()
    if first_call_s:
        taken = time.monotonic() - began
        logging.info("%s took %.0f s; its first steps were done after %.1f s.", title, taken, first_call_s)
    return log


def compiled_steps(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    losses: Losses,
    batch_size: int,
) -> Callable[[Any, tf.Tensor], tf.Tensor]:
    """A compiled function: an iterator over global batches and a number of steps -> their mean loss."""

    def replica_step(batch: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            # The optimizer adds up the replicas' gradients, so each divides by the whole batch.
            loss = tf.reduce_sum(losses(batch)) / batch_size
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    @tf.function
    def run_steps(batches: Any, count: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(count):
            replicas = strategy.run(replica_step, args=(next(batches),))
            total += strategy.reduce(tf.distribute.ReduceOp.SUM, replicas, axis=None)
        return total / tf.cast(count, tf.float32)

    return run_steps


def without_autoshard(batches: tf.data.Dataset, names: tuple[str, ...]) -> tf.data.Dataset:
    """Only the named tensors (text cannot go to a GPU), every replica taking its part of each batch."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.map(lambda batch: {name: batch[name] for name in names}).with_options(options)
