"""The training loop: epochs of compiled steps on every replica, checkpoints, progress.

`keras.Model.fit` cannot do what is asked of it under tf.distribute in this version of Keras (no accumulation, no
several steps a call, no multi-worker), so the loop is ours; model, optimizer and callbacks are Keras'.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import Training
from keras_ecg_mae.dataset import Portion
from keras_ecg_mae.errors import DivergedError, PreemptedError, RunError
from keras_ecg_mae.files import write_whole
from keras_ecg_mae.training.checkpoints import Checkpoints, keep_best_weights
from keras_ecg_mae.training.distribution import agreed, is_chief, worker_count
from keras_ecg_mae.training.log import MetricsLog, ProfilerWindow, Progress, memory_scalars
from keras_ecg_mae.training.preemption import Preemption
from keras_ecg_mae.training.steps import compiled_steps
from keras_ecg_mae.training.task import Task

# Steps run in one call of a compiled function: enough to hide the cost of the call, few enough to show progress and to
# end soon when asked to.
MOST_STEPS_PER_CALL = 20
SECONDS_PER_CALL = 5.0
# The end of an epoch is saved where that is cheap: where a checkpoint takes less than 1% of the time since the last.
CHECKPOINT_SHARE = 0.01
NOT_FINITE = "not_finite.csv"


@dataclass
class Place:
    """How far a training has come: steps done, and sums over the steps of the epoch, in float64."""

    done_steps: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0


class Trainer:
    """Trains a task's model for its epochs, going on from the last checkpoint in its folder.

    The same weights come out, bit for bit, however often it was interrupted, on devices that compute the same again.

    Args:
        task: the model, and what it learns from.
        strategy: in whose scope the model was made.
        settings: minutes between checkpoints, accumulation, XLA, profiler. The end of the last epoch is always saved.
        callbacks: Keras callbacks; the batch methods are called once a call of up to 20 steps.
    """

    def __init__(
        self,
        task: Task,
        strategy: tf.distribute.Strategy,
        settings: Training,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        self._task, self._strategy, self._settings = task, strategy, settings
        self._chief = is_chief(strategy)
        self._total = task.epochs * task.steps_per_epoch
        self._place = Place()
        with strategy.scope():  # before the checkpoint is read: what is not there cannot be restored
            task.optimizer.build(task.model.trainable_variables)
        self._checkpoints = Checkpoints(task.folder / "checkpoints", task.model, task.optimizer, self._chief)
        self._run_steps = compiled_steps(
            strategy, task.model, task.optimizer, task.losses, task.batch_size, settings.accumulation, settings.xla
        )
        self._steps_per_call = 1  # until it is known how long one takes
        self._first_call_s = 0.0
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=task.model, epochs=task.epochs, steps=task.steps_per_epoch
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
        task = self._task
        self._restore()
        done = self._place.done_steps
        epoch, step = divmod(done, task.steps_per_epoch)
        # Saved after the last step of an epoch and before its end: the sums are set back to 0 there.
        first = epoch - 1 if step == 0 and self._place.norm_sum > 0 else epoch
        batches = self._iterator(epoch, step)
        self._began = self._saved = time.monotonic()
        try:
            with (
                closing(MetricsLog(task.folder, first, self._chief)) as self._log,
                closing(Progress(task.title, done, task.epochs, task.steps_per_epoch, self._chief)) as progress,
                closing(ProfilerWindow(task.folder, self._settings.profile_steps, self._chief)) as profiler,
                Preemption() as self._preemption,
                self._callbacks_run(),
            ):
                for epoch in range(first, task.epochs):
                    self._callbacks.on_epoch_begin(epoch)
                    scalars = self._train_epoch(epoch, batches, progress, profiler)
                    self._end_epoch(epoch, scalars)
                    if self._place.done_steps == self._total:
                        break
        finally:
            self._checkpoints.wait()
        self._callbacks.on_train_end()
        self._report()
        return self._log

    def _restore(self) -> None:
        title = self._task.title
        logging.info(
            "%s on %d replica(s) of %d worker(s): %s.",
            title,
            self._strategy.num_replicas_in_sync,
            worker_count(self._strategy),
            type(self._strategy).__name__,
        )
        place = self._checkpoints.restore()
        if place is not None:
            self._place = Place(int(place["done_steps"]), place["loss_sum"], place["norm_sum"])
            logging.info("%s goes on after step %d.", title, self._place.done_steps)
        done = self._place.done_steps
        (everywhere,) = agreed(self._strategy, [done])
        if everywhere != done * worker_count(self._strategy):
            raise RunError(
                f"{self._task.folder}: Expected every worker to find the same checkpoint. Received step {done} here "
                "and another elsewhere: the run folder must be the same one for all workers."
            )

    def _iterator(self, epoch: int, step: int) -> Any:
        """Over the batches of this worker's replicas from a step on."""
        if isinstance(self._strategy, tf.distribute.OneDeviceStrategy) and not tf.config.list_logical_devices("GPU"):
            # A strategy's own iterator has an autotuning thread, whose end is waited for up to a minute.
            return iter(self._own_batches(tf.distribute.InputContext(), epoch, step))
        return iter(
            self._strategy.distribute_datasets_from_function(lambda context: self._own_batches(context, epoch, step))
        )

    def _own_batches(self, context: tf.distribute.InputContext, epoch: int, step: int) -> tf.data.Dataset:
        """What this worker's replicas compute of all batches from a step on."""
        replicas = context.num_replicas_in_sync
        own = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * own
        batches = self._task.batches(Portion(epoch, step, replicas, range(first, first + own)))
        return batches.map(lambda batch: {name: batch[name] for name in self._task.inputs})

    @contextmanager
    def _callbacks_run(self) -> Iterator[None]:
        """While callbacks are called, the model has its optimizer, and so has a model that they save."""
        model = self._task.model
        model.stop_training = False
        if self._callbacks.callbacks:
            with self._strategy.scope():
                model.compile(optimizer=self._task.optimizer)
        try:
            self._callbacks.on_train_begin()
            yield
        finally:
            if self._callbacks.callbacks:
                del model.optimizer
                model.compiled = False

    def _train_epoch(self, epoch: int, batches: Any, progress: Progress, profiler: ProfilerWindow) -> dict[str, float]:
        task, place = self._task, self._place
        begin, end = epoch * task.steps_per_epoch, (epoch + 1) * task.steps_per_epoch
        first, began, waited = place.done_steps, time.monotonic(), 0.0
        while place.done_steps < end:
            call_began = time.monotonic()
            count = min(self._steps_per_call, end - place.done_steps)
            if self._first_call_s:
                count = profiler.before(count)
            self._callbacks.on_train_batch_begin(place.done_steps - begin)
            measured = {name: value.numpy() for name, value in self._run_steps(batches, tf.constant(count)).items()}
            profiler.after(count)
            self._add(epoch, measured["losses"].tolist(), measured["gradient_norms"].tolist())
            seconds = time.monotonic() - call_began
            self._first_call_s = self._first_call_s or time.monotonic() - self._began
            waited += float(measured["input_wait_s"])
            last_loss = float(measured["losses"][-1])
            progress.update(count, last_loss)
            self._callbacks.on_train_batch_end(place.done_steps - begin - 1, {"loss": last_loss})
            self._checkpoints.check()
            steps = min(max(round(SECONDS_PER_CALL * count / seconds), 1), MOST_STEPS_PER_CALL)
            preempted, due, self._steps_per_call = self._decided(steps)
            if preempted or (due and place.done_steps < end):
                self._save()
            if preempted:
                self._end_early(f"at step {place.done_steps}")
        pace = {}
        if place.done_steps > first:  # not where the epoch's end alone was left to do
            seconds = time.monotonic() - began
            pace["records_per_second"] = (place.done_steps - first) * task.batch_size / seconds
            pace["input_wait_share"] = waited / seconds
        return {
            "loss": place.loss_sum / task.steps_per_epoch,
            "learning_rate": float(tf.convert_to_tensor(task.optimizer.learning_rate)),
            "gradient_norm": place.norm_sum / task.steps_per_epoch,
            "weight_norm": float(tf.linalg.global_norm([one.value for one in task.model.trainable_variables])),
            **pace,
            **memory_scalars(),
        }

    def _decided(self, steps: int = 1) -> tuple[bool, bool, int]:
        """Whether to end, whether to save, and how many steps to do next: the same for all workers."""
        due = time.monotonic() - self._saved >= 60 * self._settings.checkpoint_minutes
        own = [float(self._preemption.requested), float(due and self._chief), float(steps if self._chief else 0)]
        preempted, due_anywhere, agreed_steps = agreed(self._strategy, own)
        return preempted > 0, due_anywhere > 0, round(agreed_steps)

    def _add(self, epoch: int, losses: Sequence[float], norms: Sequence[float]) -> None:
        """Adds the steps of a call to the epoch's sums, one by one: the sums are then the same however they came."""
        for loss, norm in zip(losses, norms, strict=True):
            # A norm that is not finite has spoilt the weights, and would show in the next step's loss only.
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._refuse(epoch, loss, norm)
            self._place.loss_sum += loss
            self._place.norm_sum += norm
            self._place.done_steps += 1

    def _refuse(self, epoch: int, loss: float, norm: float) -> None:
        folder, done = self._task.folder, self._place.done_steps
        batch = next(iter(self._task.batches(Portion(epoch, done - epoch * self._task.steps_per_epoch))))
        peaks = np.abs(batch["ecg"].numpy()).max(axis=(1, 2))
        records = [record.decode() for record in batch["record_id"].numpy()]
        # NaN sorts last and so comes first.
        order = np.argsort(peaks)[::-1]
        lines = ["record_id,largest_mv", *(f"{records[index]},{peaks[index]:g}" for index in order)]
        if self._chief:
            write_whole(folder / NOT_FINITE, "\n".join([*lines, ""]))
        raise DivergedError(
            f"{folder}: Expected a finite loss and gradient. Received the loss {loss:g} and the norm {norm:g} in "
            f"step {done} (epoch {epoch}), whose {len(records)} recordings {NOT_FINITE} lists, the largest "
            f"amplitude first ({records[order[0]]}: {peaks[order[0]]:g} mV). The last checkpoint is kept; try a lower "
            "learning rate or float32."
        )

    def _end_epoch(self, epoch: int, scalars: dict[str, float]) -> None:
        task, place = self._task, self._place
        scalars |= task.validate(epoch, self._log)
        best_before, _ = self._log.best(task.best_by)
        self._log.epoch(epoch, place.done_steps, scalars)
        best_epoch, _ = self._log.best(task.best_by)
        if best_epoch == epoch:
            self._checkpoints.wait()
            if self._chief:
                keep_best_weights(task.folder, task.model, epoch, best_before)
        self._callbacks.on_epoch_end(epoch, scalars)
        place.loss_sum, place.norm_sum = 0.0, 0.0
        stop = task.model.stop_training or epoch - best_epoch >= task.patience
        (stopped,) = agreed(self._strategy, [float(stop and self._chief)])
        if stopped:  # a training that was ended early has nothing left to do when it is resumed
            place.done_steps = self._total
        finished = place.done_steps == self._total
        preempted, due, _ = self._decided()
        cheap = time.monotonic() - self._saved >= self._checkpoints.last_s / CHECKPOINT_SHARE
        if finished or preempted or due or cheap or best_epoch == epoch:
            self._save()
        if preempted and not finished:
            self._end_early(f"after epoch {epoch}")

    def _save(self) -> None:
        self._checkpoints.save(vars(self._place))
        self._saved = time.monotonic()

    def _end_early(self, where: str) -> None:
        self._checkpoints.wait()
        agreed(self._strategy, [0])  # a scheduler may end all with the first that leaves: the checkpoint comes first
        raise PreemptedError(f"{self._task.title} is saved {where}; the same command goes on from there.")

    def _report(self) -> None:
        if not self._first_call_s:
            return
        taken = time.monotonic() - self._began
        logging.info(
            "%s took %.1f s; its first step was done after %.1f s; %d checkpoints held it up for %.1f s (%.1f%%).",
            self._task.title,
            taken,
            self._first_call_s,
            self._checkpoints.saved,
            self._checkpoints.held_up_s,
            100 * self._checkpoints.held_up_s / taken,
        )
