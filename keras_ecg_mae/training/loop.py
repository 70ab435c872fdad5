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

from keras_ecg_mae.config import Training
from keras_ecg_mae.errors import PreemptedError, RunError
from keras_ecg_mae.training.checkpoints import Checkpoints
from keras_ecg_mae.training.metrics_log import MetricsLog
from keras_ecg_mae.training.preemption import Preemption

# Steps run in one call of a compiled function: enough to hide the cost of the call, few enough to show progress and to
# end soon when asked to.
MOST_STEPS_PER_CALL = 20
SECONDS_PER_CALL = 5.0

Batch = dict[str, tf.Tensor]
Losses = Callable[[Batch], tf.Tensor]
EpochEnd = Callable[[int, MetricsLog, dict[str, float]], bool]


def train(
    *,
    title: str,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    losses: Losses,
    batches_from: Callable[[int, int], tf.data.Dataset],
    epoch_end: EpochEnd,
    strategy: tf.distribute.Strategy,
    epochs: int,
    steps_per_epoch: int,
    batch_size: int,
    folder: Path,
    settings: Training,
) -> MetricsLog:
    """Trains for some epochs, going on from the last checkpoint in `folder`.

    The same weights come out, bit for bit, however often it was interrupted.

    Args:
        title: names the training on the console.
        model, optimizer: made in the strategy's scope.
        losses: a batch on one replica -> the loss of each of its recordings, `(batch,)`.
        batches_from: an epoch and a step of it -> all batches from there on, as `dataset.training_batches`.
        epoch_end: called after each epoch with its number, the log, and the epoch's scalars, to which it may add;
            returns whether to stop.
        steps_per_epoch, batch_size: of the whole, over all replicas.
        folder: for checkpoints, `metrics.csv` and `tensorboard/`.
        settings: minutes between checkpoints, accumulation, XLA. The end of the last epoch is always saved.

    Returns:
        The log, with a row for every epoch.

    Raises:
        RunError: the loss is not finite; names the steps.
        PreemptedError: SIGTERM or Ctrl-C has come, and everything is saved.
    """
    with strategy.scope():  # before the checkpoint is read: what is not there cannot be restored
        optimizer.build(model.trainable_variables)
    # Steps done, and the sum of the losses of this epoch's: the place in the training.
    done = tf.Variable(0, dtype=tf.int64, trainable=False, name="done_steps")
    epoch_loss = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="epoch_loss")
    checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, done=done, epoch_loss=epoch_loss)
    if checkpoints.restore():
        logging.info("%s goes on after step %d.", title, int(done))
    total = epochs * steps_per_epoch
    first, first_step = divmod(int(done), steps_per_epoch)
    log = MetricsLog(folder, first)
    run_steps = compiled_steps(strategy, model, optimizer, losses, batch_size, settings.accumulation, settings.xla)
    batches = iter(strategy.experimental_distribute_dataset(batches_from(first, first_step)))
    began = saved = time.monotonic()
    first_call_s = 0.0
    steps_per_call = 1  # until it is known how long one takes

    def save() -> None:
        nonlocal saved
        checkpoints.save()
        saved = time.monotonic()

    with (
        Preemption() as preemption,
        tqdm(total=total, initial=int(done), desc=title, unit="step", mininterval=1.0) as progress,
    ):
        for epoch in range(first, epochs):
            epoch_began, epoch_first = time.monotonic(), int(done)
            while int(done) < (epoch + 1) * steps_per_epoch:
                start, call_began = int(done), time.monotonic()
                count = min(steps_per_call, (epoch + 1) * steps_per_epoch - start)
                loss = float(run_steps(batches, tf.constant(count)))
                if not math.isfinite(loss):
                    raise RunError(
                        f"{folder}: Expected a finite loss. Received {loss} in the steps {start} to "
                        f"{start + count - 1} (epoch {epoch}). The last checkpoint is kept; try a lower learning rate "
                        "or float32."
                    )
                epoch_loss.assign_add(loss)
                done.assign_add(count)
                seconds = time.monotonic() - call_began
                if first_call_s:
                    steps_per_call = min(max(round(SECONDS_PER_CALL * count / seconds), 1), MOST_STEPS_PER_CALL)
                first_call_s = first_call_s or time.monotonic() - began
                progress.update(count)
                ends = int(done) == (epoch + 1) * steps_per_epoch
                if not ends and (preemption.requested or time.monotonic() - saved >= 60 * settings.checkpoint_minutes):
                    save()
                if preemption.requested and not ends:
                    raise PreemptedError(f"{title} is saved at step {int(done)}; the same command goes on from there.")
            seconds = time.monotonic() - epoch_began
            scalars = {
                "loss": float(epoch_loss) / steps_per_epoch,
                "learning_rate": float(optimizer.learning_rate),
                "records_per_second": (int(done) - epoch_first) * batch_size / seconds,
            }
            stop = epoch_end(epoch, log, scalars)
            log.epoch(epoch, int(done), scalars)
            progress.set_postfix_str(
                " ".join(f"{name} {value:.3g}" for name, value in scalars.items() if "loss" in name)
            )
            epoch_loss.assign(0.0)
            if stop:  # a training that was ended early has nothing left to do when it is resumed
                done.assign(total)
            finished = int(done) == total
            if finished or preemption.requested or time.monotonic() - saved >= 60 * settings.checkpoint_minutes:
                save()
            if preemption.requested and not finished:
                raise PreemptedError(f"{title} is saved after epoch {epoch}; the same command goes on from there.")
            if stop:
                break
    log.close()
    if first_call_s:
        taken = time.monotonic() - began
        logging.info("%s took %.0f s; its first step was done after %.1f s.", title, taken, first_call_s)
    return log


def compiled_steps(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    losses: Losses,
    batch_size: int,
    accumulation: int = 1,
    xla: bool = False,
) -> Callable[[Any, tf.Tensor], tf.Tensor]:
    """A compiled function: an iterator over global batches and a number of steps -> the sum of their mean losses.

    Args:
        accumulation: parts that a replica computes its share of a batch in, one after another.
        xla: whether forward and backward pass are compiled by XLA; the optimizer is not, since its all-reduce cannot.
    """
    weights = [variable.value for variable in model.trainable_variables]

    def loss_and_gradients(batch: Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            # The optimizer adds up the replicas' gradients, so each divides by the whole batch.
            loss = tf.reduce_sum(losses(batch)) / batch_size
        return loss, tape.gradient(loss, weights)

    compute = tf.function(loss_and_gradients, jit_compile=True) if xla else loss_and_gradients

    def accumulated(batch: Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
        parts = {
            name: tf.reshape(value, tf.concat([[accumulation, -1], tf.shape(value)[1:]], axis=0))
            for name, value in batch.items()
        }
        shapes = {
            name: [value.shape[0] and value.shape[0] // accumulation, *value.shape[1:]] for name, value in batch.items()
        }
        loss, gradients = tf.constant(0.0), [tf.zeros(weight.shape, weight.dtype) for weight in weights]
        for index in tf.range(accumulation):
            part = {name: tf.ensure_shape(value[index], shapes[name]) for name, value in parts.items()}
            part_loss, part_gradients = compute(part)
            loss += part_loss
            gradients = [one + other for one, other in zip(gradients, part_gradients, strict=True)]
        return loss, gradients

    def replica_step(batch: Batch) -> tf.Tensor:
        loss, gradients = accumulated(batch) if accumulation > 1 else compute(batch)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    @tf.function
    def run_steps(batches: Any, count: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0, tf.float64)
        for _ in tf.range(count):
            replicas = strategy.run(replica_step, args=(next(batches),))
            total += tf.cast(strategy.reduce(tf.distribute.ReduceOp.SUM, replicas, axis=None), tf.float64)
        return total

    return run_steps


def without_autoshard(batches: tf.data.Dataset, names: tuple[str, ...]) -> tf.data.Dataset:
    """Only the named tensors (text cannot go to a GPU), every replica taking its part of each batch."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.map(lambda batch: {name: batch[name] for name in names}).with_options(options)
