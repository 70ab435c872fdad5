"""What a training resumes from."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from keras_ecg_mae.errors import DivergedError, RunError
from keras_ecg_mae.files import read_if_there

KEPT = 3
LIST = "checkpoint"  # TensorFlow's name of the file that names them


class Checkpoints:
    """The last few checkpoints of a training, in a folder, written while the training goes on.

    Weights, optimizer and place are copied into host memory, and a thread writes the copy.

    Args:
        folder: made with the first checkpoint.
        model, optimizer: with all their variables.
        places: numbers that say how far the training has come, by name, as they are at its beginning.
        writes: whether this process saves; others only read.

    Attributes:
        saved: checkpoints written.
        held_up_s: for how long the training stood still for them.
        last_s: what the last one took, copying and writing.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        places: Mapping[str, float],
        writes: bool = True,
    ):
        self._folder = folder
        # The weights by themselves: of a model, tf.train.Checkpoint leaves out the layers that Keras keeps in lists.
        self._variables = [variable.value for variable in (*model.variables, *optimizer.variables)]
        self._weights = [variable.value for variable in model.trainable_variables]
        with tf.device("CPU:0"):
            self._copies = [tf.Variable(tf.zeros(one.shape, one.dtype), trainable=False) for one in self._variables]
            self._places = {name: tf.Variable(value, dtype=tf.float64) for name, value in places.items()}
        self._checkpoint = tf.train.Checkpoint(variables=self._copies, **self._places)
        if writes:
            self._put_in_order()
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=KEPT) if writes else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self.saved, self.held_up_s, self.last_s = 0, 0.0, 0.0

    def _put_in_order(self) -> None:
        """Lists what is there for TensorFlow, which believes its list, and removes what a killed save left.

        Raises:
            RunError: there is a list and nothing of what it lists, as when a storage does not answer.
        """
        found = self._whole()
        if not found and read_if_there(self._folder / LIST) is not None:
            raise RunError(
                f"{self._folder / LIST}: Expected the checkpoints it lists. Received none: bring them back within "
                "reach, or remove the folder to train anew."
            )
        self._remove_parts()
        if found:
            listed = found[-KEPT:]
            tf.compat.v1.train.update_checkpoint_state(
                str(self._folder),
                found[-1],
                all_model_checkpoint_paths=listed,
                all_model_checkpoint_timestamps=[time.time()] * len(listed),  # without one it would never be removed
            )

    def save(self, **places: float) -> None:
        """Takes a copy and begins to write it. TensorFlow names it as the last only when it is whole.

        Raises:
            DivergedError: a weight is not finite. RunError: the checkpoint before could not be written. Both leave
                those that are there as they are.
        """
        if not bool(tf.math.is_finite(tf.linalg.global_norm(self._weights))):
            raise DivergedError(
                f"{self._folder}: Expected finite weights to save. Received NaN or infinity. The last checkpoint is "
                "kept; try a lower learning rate or float32."
            )
        if self._manager is None:
            return
        began = time.monotonic()
        self.wait()
        for copy, variable in zip(self._copies, self._variables, strict=True):
            copy.assign(variable)
        for name, value in places.items():
            self._places[name].assign(value)
        self.held_up_s += time.monotonic() - began
        self._writing = self._thread.submit(self._write, self._manager, began)

    def _write(self, manager: tf.train.CheckpointManager, began: float) -> None:
        manager.save()
        self.saved += 1
        self.last_s = time.monotonic() - began

    def check(self) -> None:
        """Raises `RunError` where the checkpoint that was being written has failed."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Returns when no checkpoint is being written. Raises `RunError` where the last could not be written."""
        writing, self._writing = self._writing, None
        try:
            if writing is not None:
                writing.result()
        except (tf.errors.OpError, OSError) as error:
            self._remove_parts()
            raise RunError(
                f"{self._folder}: Expected to write a checkpoint. Received: {str(error).splitlines()[0]}. The last "
                "whole one is kept; the same command goes on from there."
            ) from error

    def _whole(self) -> list[str]:
        """The checkpoints whose files are all there, the oldest first: by the files, since the list may be lost."""
        names: dict[str, set[str]] = {}
        for path in self._folder.glob("ckpt-*"):
            stem, _, kind = path.name.partition(".")
            names.setdefault(stem, set()).add(kind.partition("-")[0])
        numbers = [int(stem.removeprefix("ckpt-")) for stem, kinds in names.items() if kinds == {"index", "data"}]
        return [str(self._folder / f"ckpt-{number}") for number in sorted(numbers)]

    def _remove_parts(self) -> None:
        """What there is of a checkpoint that was not finished takes the room that others need."""
        whole = [Path(path).name for path in self._whole()]
        for path in self._folder.glob("ckpt-*"):
            if path.name.partition(".")[0] not in whole:
                tf.io.gfile.rmtree(str(path)) if path.is_dir() else path.unlink()

    def restore(self) -> dict[str, float] | None:
        """Reads the last that is whole, and gives its places; a damaged one is named and left out.

        Raises:
            RunError: there are some, all of them damaged or out of reach.
        """
        found = self._whole()
        if any(self._read(path) for path in reversed(found)):
            for copy, variable in zip(self._copies, self._variables, strict=True):
                variable.assign(copy)
            return {name: float(place) for name, place in self._places.items()}
        if found:
            raise RunError(
                f"{self._folder}: Expected a whole checkpoint. Received {len(found)}, none of which can be read: mend "
                "what keeps them from it, or remove the folder to train anew."
            )
        return None

    def _read(self, path: str) -> bool:
        try:
            self._checkpoint.restore(path).assert_consumed()
        # What TensorFlow raises on files that are missing, cut off, or hold something else.
        except (tf.errors.OpError, AssertionError, IndexError, ValueError, RuntimeError) as error:
            logging.warning("%s: Expected a whole checkpoint. Received: %s", path, str(error).splitlines()[0])
            return False
        return True
