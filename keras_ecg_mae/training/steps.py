"""One optimizer step on every replica, and several of them in one call of a compiled function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from keras_ecg_mae.training.optimizers import take_summed_gradients

Batch = dict[str, tf.Tensor]
Losses = Callable[[Batch], tf.Tensor]
RunSteps = Callable[[Any, tf.Tensor], dict[str, tf.Tensor]]


def compiled_steps(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    losses: Losses,
    batch_size: int,
    accumulation: int = 1,
    xla: bool = False,
) -> RunSteps:
    """A compiled function: an iterator over the replicas' batches and a number of steps -> what was measured.

    Args:
        losses: a batch on one replica -> the loss of each of its recordings, `(batch,)`.
        batch_size: recordings a step, over all replicas.
        accumulation: parts that a replica computes its share of a batch in, one after another.
        xla: whether forward and backward pass are compiled by XLA; the optimizer is not, since its all-reduce cannot.

    Returns:
        The function. It gives `losses` and `gradient_norms`, `(steps,)` float32, of the whole batches, and
        `input_wait_s`, for how long the steps together waited for their batches.
    """
    weights = [variable.value for variable in model.trainable_variables]
    take_summed_gradients(optimizer)  # the step adds the replicas' gradients up itself, so that their norm is known

    # Of more than two summands, TensorFlow adds first whichever buffer happens to be free, so that one step from the
    # same weights has several results. Summed in pairs it has one, if the pairs are not put together again.
    in_pairs = tf.AggregationMethod.EXPERIMENTAL_TREE

    def loss_and_gradients(batch: Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
        # The replicas' gradients are added up, so each divides by the whole batch.
        loss = tf.reduce_sum(losses(batch)) / batch_size
        return loss, tf.gradients(loss, weights, aggregation_method=in_pairs)

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

    def replica_step(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        loss, gradients = accumulated(batch) if accumulation > 1 else compute(batch)
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        optimizer.apply(gradients, model.trainable_variables)
        return loss, tf.linalg.global_norm(gradients)

    @tf.function
    def run_steps(batches: Any, count: tf.Tensor) -> dict[str, tf.Tensor]:
        step_losses = tf.TensorArray(tf.float32, size=count, element_shape=())
        norms = tf.TensorArray(tf.float32, size=count, element_shape=())
        waited, loss = tf.constant(0.0, tf.float64), tf.constant(0.0)
        for step in tf.range(count):
            # Asked for when the step before has ended: what is waited for then, the devices wait for.
            with tf.control_dependencies([loss]):
                asked = _now()
                with tf.control_dependencies([asked]):
                    batch = next(batches)
            with tf.control_dependencies(tf.nest.flatten(strategy.experimental_local_results(batch))):
                waited += _now() - asked
            replica_losses, replica_norms = strategy.run(replica_step, args=(batch,))
            loss = strategy.reduce(tf.distribute.ReduceOp.SUM, replica_losses, axis=None)
            step_losses = step_losses.write(step, loss)
            norms = norms.write(step, strategy.experimental_local_results(replica_norms)[0])
        return {"losses": step_losses.stack(), "gradient_norms": norms.stack(), "input_wait_s": waited}

    def run_without_regrouping(batches: Any, count: tf.Tensor) -> dict[str, tf.Tensor]:
        with _sums_stay_in_pairs():
            return run_steps(batches, count)

    return run_without_regrouping


@contextmanager
def _sums_stay_in_pairs() -> Iterator[None]:
    """TensorFlow reads its graph optimizer's options, which are the whole process's, at each call of a function."""
    before = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": before})


def _now() -> tf.Tensor:
    with tf.device("CPU:0"):
        return tf.timestamp()
