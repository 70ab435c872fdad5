"""The training loop: epochs of compiled steps on every replica, checkpoints, progress.

`keras.Model.fit` cannot do what is asked of it under tf.distribute in this version of Keras (no accumulation, no
several steps a call, no multi-worker), so the loop is ours; model, optimizer and callbacks are Keras'.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import Training
from keras_ecg_mae.dataset import Portion
from keras_ecg_mae.errors import DivergedError, PreemptedError, RunError
from keras_ecg_mae.files import write_whole
from keras_ecg_mae.training.best_weights import BestWeights
from keras_ecg_mae.training.checkpoints import Checkpoints
from keras_ecg_mae.training.distribution import agreed, is_chief, worker_count
from keras_ecg_mae.training.metrics_log import MetricsLog
from keras_ecg_mae.training.preemption import Preemption
from keras_ecg_mae.training.steps import Losses, compiled_steps
from keras_ecg_mae.training.watching import ProfilerWindow, Progress, memory_scalars

# Steps run in one call of a compiled function: enough to hide the cost of the call, few enough to show progress and to
# end soon when asked to.
MOST_STEPS_PER_CALL = 20
SECONDS_PER_CALL = 5.0
# The end of an epoch is saved where that is cheap: where a checkpoint takes less than 1% of the time since the last.
CHECKPOINT_SHARE = 0.01
NOT_FINITE = "not_finite.csv"

BatchesFrom = Callable[[Portion], tf.data.Dataset]
Validate = Callable[[int, MetricsLog], dict[str, float]]


class Trainer:
    """Trains a model for some epochs, going on from the last checkpoint in its folder.

    The same weights come out, bit for bit, however often it was interrupted, on devices that compute the same again.

    Args:
        title: names the training on the console.
        model, optimizer: made in the strategy's scope.
        losses: a batch on one replica -> the loss of each of its recordings, `(batch,)`.
        inputs: what of a batch goes to the devices.
        batches_from: a portion of the batches -> these, as `dataset.training_batches` gives them.
        validate: called after each epoch with its number and the log; gives scalars.
        best: which epoch's weights are kept beside the last ones.
        patience: epochs without a better one before the training is ended.
        epochs, steps_per_epoch, batch_size: of the whole, over all replicas.
        folder: for checkpoints, best weights, `metrics.csv` and `tensorboard/`.
        settings: minutes between checkpoints, accumulation, XLA, profiler. The end of the last epoch is always saved.
        callbacks: Keras callbacks; the batch methods are called once a call of up to 20 steps.
    """

    def __init__(
        self,
        *,
        title: str,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        losses: Losses,
        inputs: Sequence[str],
        batches_from: BatchesFrom,
        validate: Validate,
        best: BestWeights,
        patience: int,
        strategy: tf.distribute.Strategy,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        folder: Path,
        settings: Training,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self._title, self._folder, self._settings = title, folder, settings
        self._model, self._optimizer, self._strategy = model, optimizer, strategy
        self._inputs, self._batches_from, self._validate = inputs, batches_from, validate
        self._best, self._patience = best, patience
        self._epochs, self._steps_per_epoch, self._batch_size = epochs, steps_per_epoch, batch_size
        self._total = epochs * steps_per_epoch
        self._chief = is_chief(strategy)
        with strategy.scope():  # before the checkpoint is read: what is not there cannot be restored
            optimizer.build(model.trainable_variables)
        # The place in the training: steps done, and sums over the steps of this epoch.
        self._done, self._loss_sum, self._norm_sum = 0, 0.0, 0.0
        self._checkpoints = Checkpoints(folder / "checkpoints", model, optimizer, self._place(), self._chief)
        self._run_steps = compiled_steps(
            strategy, model, optimizer, losses, batch_size, settings.accumulation, settings.xla
        )
        self._steps_per_call = 1  # until it is known how long one takes
        self._first_call_s = 0.0
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=model, epochs=epochs, steps=steps_per_epoch
        )

    def train(self) -> MetricsLog:
        """Trains to the end.

        Returns:
            The log, with a row for every epoch.

        Raises:
            DivergedError: the loss is not finite; names step and recordings.
            RunError: a checkpoint cannot be written.
            PreemptedError: SIGTERM or Ctrl-C has come, and everything is saved.
        """
        self._restore()
        next_epoch, next_step = divmod(self._done, self._steps_per_epoch)
        # Saved after the last step of an epoch and before its end: the sums are set back to 0 there.
        first = next_epoch - 1 if next_step == 0 and self._norm_sum > 0 else next_epoch
        log = MetricsLog(self._folder, first, self._chief)
        batches = iter(
            self._strategy.distribute_datasets_from_function(
                lambda context: self._shares(context, next_epoch, next_step)
            )
        )
        profiler = ProfilerWindow(self._folder / "tensorboard", self._settings.profile_steps, self._chief)
        self._began = self._saved = time.monotonic()
        self._model.stop_training = False
        if self._callbacks.callbacks:
            with self._strategy.scope():  # where callbacks look for the optimizer; a model they save then holds it
                self._model.compile(optimizer=self._optimizer)
        self._callbacks.on_train_begin()
        try:
            with (
                Preemption() as preemption,
                Progress(self._title, self._total, self._done, self._epochs, self._chief) as progress,
            ):
                for epoch in range(first, self._epochs):
                    self._callbacks.on_epoch_begin(epoch)
                    scalars = self._train_epoch(epoch, batches, preemption, progress, profiler)
                    self._end_epoch(epoch, scalars, log, preemption)
                    if self._done == self._total:
                        break
        finally:
            profiler.close()
            if self._callbacks.callbacks:
                del self._model.optimizer
                self._model.compiled = False
            log.close()
            self._checkpoints.wait()
        self._callbacks.on_train_end()
        self._report()
        return log

    def _place(self) -> dict[str, float]:
        return {"done_steps": self._done, "loss_sum": self._loss_sum, "norm_sum": self._norm_sum}

    def _restore(self) -> None:
        logging.info(
            "%s on %d replica(s) of %d worker(s): %s.",
            self._title,
            self._strategy.num_replicas_in_sync,
            worker_count(self._strategy),
            type(self._strategy).__name__,
        )
        place = self._checkpoints.restore()
        if place is not None:
            self._done, self._loss_sum, self._norm_sum = int(place["done_steps"]), place["loss_sum"], place["norm_sum"]
            logging.info("%s goes on after step %d.", self._title, self._done)
        everywhere = agreed(self._strategy, [self._done])[0]
        if everywhere != self._done * worker_count(self._strategy):
            raise RunError(
                f"{self._folder}: Expected every worker to find the same checkpoint. Received step {self._done} here "
                "and another elsewhere: the run folder must be the same one for all workers."
            )

    def _shares(self, context: tf.distribute.InputContext, epoch: int, step: int) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        own = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * own
        batches = self._batches_from(Portion(epoch, step, replicas, range(first, first + own)))
        return batches.map(lambda batch: {name: batch[name] for name in self._inputs})

    def _train_epoch(
        self, epoch: int, batches: Any, preemption: Preemption, progress: Progress, profiler: ProfilerWindow
    ) -> dict[str, float]:
        end, first, began, waited = (epoch + 1) * self._steps_per_epoch, self._done, time.monotonic(), 0.0
        while self._done < end:
            call_began = time.monotonic()
            count = min(self._steps_per_call, end - self._done)
            if self._first_call_s:
                count = profiler.before(count)
            self._callbacks.on_train_batch_begin(self._done - epoch * self._steps_per_epoch)
            measured = {name: value.numpy() for name, value in self._run_steps(batches, tf.constant(count)).items()}
            profiler.after(count)
            self._add(epoch, measured)
            seconds = time.monotonic() - call_began
            self._first_call_s = self._first_call_s or time.monotonic() - self._began
            waited += float(measured["input_wait_s"])
            last_loss = float(measured["losses"][-1])
            progress.update(count, last_loss)
            self._callbacks.on_train_batch_end(self._done - epoch * self._steps_per_epoch - 1, {"loss": last_loss})
            self._checkpoints.check()
            steps = min(max(round(SECONDS_PER_CALL * count / seconds), 1), MOST_STEPS_PER_CALL)
            preempted, due, self._steps_per_call = self._decided(preemption, steps)
            if preempted or (due and self._done < end):
                self._save()
                if preempted:
                    self._end_early(f"at step {self._done}")
        seconds = time.monotonic() - began
        steps = self._steps_per_epoch
        pace = {}
        if self._done > first:  # not where the epoch's end alone was left to do
            pace["records_per_second"] = (self._done - first) * self._batch_size / seconds
            pace["input_wait_share"] = waited / seconds
        return {
            "loss": self._loss_sum / steps,
            "learning_rate": float(tf.convert_to_tensor(self._optimizer.learning_rate)),
            "gradient_norm": self._norm_sum / steps,
            "weight_norm": float(tf.linalg.global_norm([one.value for one in self._model.trainable_variables])),
            **pace,
            **memory_scalars(),
        }

    def _decided(self, preemption: Preemption, steps: int) -> tuple[bool, bool, int]:
        """Whether to end, whether to save, and how many steps to do next: the same for all workers."""
        due = time.monotonic() - self._saved >= 60 * self._settings.checkpoint_minutes
        own = [float(preemption.requested), float(due and self._chief), float(steps if self._chief else 0)]
        preempted, due_anywhere, agreed_steps = agreed(self._strategy, own)
        return preempted > 0, due_anywhere > 0, round(agreed_steps)

    def _add(self, epoch: int, measured: dict[str, np.ndarray]) -> None:
        """Adds the steps of a call to the epoch's sums, one by one: the sums are then the same however they came."""
        for loss, norm in zip(measured["losses"].tolist(), measured["gradient_norms"].tolist(), strict=True):
            # A norm that is not finite has spoilt the weights, and would show in the next step's loss only.
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._refuse(epoch, loss, norm)
            self._loss_sum += loss
            self._norm_sum += norm
            self._done += 1

    def _refuse(self, epoch: int, loss: float, norm: float) -> None:
        step = self._done - epoch * self._steps_per_epoch
        batch = next(iter(self._batches_from(Portion(epoch, step))))
        peaks = np.abs(batch["ecg"].numpy()).max(axis=(1, 2))
        records = [record.decode() for record in batch["record_id"].numpy()]
        # NaN sorts last and so comes first.
        order = np.argsort(peaks)[::-1]
        lines = ["record_id,largest_mv", *(f"{records[index]},{peaks[index]:g}" for index in order)]
        if self._chief:
            write_whole(self._folder / NOT_FINITE, "\n".join([*lines, ""]))
        raise DivergedError(
            f"{self._folder}: Expected a finite loss and gradient. Received the loss {loss:g} and the norm {norm:g} in "
            f"step {self._done} (epoch {epoch}), whose {len(records)} recordings {NOT_FINITE} lists, the largest "
            f"amplitude first ({records[order[0]]}: {peaks[order[0]]:g} mV). The last checkpoint is kept; try a lower "
            "learning rate or float32."
        )

    def _end_epoch(self, epoch: int, scalars: dict[str, float], log: MetricsLog, preemption: Preemption) -> None:
        scalars |= self._validate(epoch, log)
        best_before, _ = self._best.best(log.rows)
        log.epoch(epoch, self._done, scalars)
        best_epoch, _ = self._best.best(log.rows)
        if best_epoch == epoch:
            self._checkpoints.wait()
            self._best.keep(self._model, epoch, best_before)
        self._callbacks.on_epoch_end(epoch, scalars)
        self._loss_sum, self._norm_sum = 0.0, 0.0
        stop = self._model.stop_training or epoch - best_epoch >= self._patience
        (stopped,) = agreed(self._strategy, [float(stop and self._chief)])
        if stopped:  # a training that was ended early has nothing left to do when it is resumed
            self._done = self._total
        finished = self._done == self._total
        preempted, due, _ = self._decided(preemption, 1)
        cheap = time.monotonic() - self._saved >= self._checkpoints.last_s / CHECKPOINT_SHARE
        if finished or preempted or due or cheap or best_epoch == epoch:
            self._save()
        if preempted and not finished:
            self._end_early(f"after epoch {epoch}")

    def _save(self) -> None:
        self._checkpoints.save(**self._place())
        self._saved = time.monotonic()

    def _end_early(self, where: str) -> None:
        self._checkpoints.wait()
        agreed(self._strategy, [0])  # a scheduler may end all with the first that leaves: the checkpoint comes first
        raise PreemptedError(f"{self._title} is saved {where}; the same command goes on from there.")

    def _report(self) -> None:
        if not self._first_call_s:
            return
        taken = time.monotonic() - self._began
        logging.info(
            "%s took %.1f s; its first step was done after %.1f s; %d checkpoints held it up for %.1f s (%.1f%%).",
            self._title,
            taken,
            self._first_call_s,
            self._checkpoints.saved,
            self._checkpoints.held_up_s,
            100 * self._checkpoints.held_up_s / taken,
        )
