"""What a training keeps of its weights: the last ones, to resume from, and those of the best epoch."""

import os
import time
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.errors import DivergedError, FileError, RunError
from keras_ecg_mae.files import (
    PARTIAL,
    file_errors,
    is_remote,
    local_copy,
    read_json,
    uploaded_copy,
    whole_file,
    write_json,
)

KEPT = 3
LAST = "last.json"
TENSORFLOW = ".".join(tf.__version__.split(".")[:2])  # that another release sums to the same bits is not known


class Checkpoints:
    """The last few checkpoints of a training, one `.npz` file each, written while the training goes on.

    Weights, optimizer and place are copied into host memory, and a thread writes the copy. The file is a zip archive,
    which has a checksum of every array: a damaged one is found when it is read. `last.json` says which is the last: a
    cloud storage that denies its listing answers with an empty one.

    Args:
        folder: made with the first checkpoint.
        model, optimizer: with all their variables.
        writes: whether this process saves; others only read.

    Attributes:
        saved: checkpoints written.
        held_up_s: for how long the training stood still for them.
        last_s: what the last one took, copying and writing.
    """

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, writes: bool = True):
        self._folder, self._writes = folder, writes
        self._variables = [variable.value for variable in (*model.variables, *optimizer.variables)]
        self._weights = [variable.value for variable in model.trainable_variables]
        self._number = 0  # of the last one
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self.saved, self.held_up_s, self.last_s = 0, 0.0, 0.0

    def save(self, place: Mapping[str, float]) -> None:
        """Takes a copy and begins to write it, with the numbers that say how far the training has come.

        Raises:
            DivergedError: a weight is not finite. RunError: the checkpoint before could not be written. Both leave
                those that are there as they are.
        """
        if not bool(tf.math.is_finite(tf.linalg.global_norm(self._weights))):
            raise DivergedError(
                f"{self._folder}: Expected finite weights to save. Received NaN or infinity. The last checkpoint is "
                "kept; try a lower learning rate or float32."
            )
        if not self._writes:
            return
        began = time.monotonic()
        self.wait()
        # The place first: of an archive whose end is damaged, variables are missed.
        arrays: dict[str, np.ndarray] = {name: np.array(value, np.float64) for name, value in place.items()}
        arrays |= {f"variable_{index}": tf.convert_to_tensor(one).numpy() for index, one in enumerate(self._variables)}
        self.held_up_s += time.monotonic() - began
        self._writing = self._thread.submit(self._write, arrays, began)

    def _write(self, arrays: Mapping[str, np.ndarray], began: float) -> None:
        with file_errors(self._folder, "write"):
            for killed in self._folder.glob(f".*{PARTIAL}"):
                killed.unlink()
            with whole_file(self._path(self._number + 1)) as file, zipfile.ZipFile(file, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.save(entry, array)
            self._number += 1
            write_json(self._folder / LAST, {"number": self._number, "tensorflow": TENSORFLOW})
            self._path(self._number - KEPT).unlink(missing_ok=True)
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
        except FileError as error:
            raise RunError(f"{error} The last whole one is kept; the same command goes on from there.") from error

    def restore(self) -> dict[str, float] | None:
        """Reads the last that is whole, and gives its place; a damaged one is named and left out.

        Raises:
            RunError: there are some, all of them damaged or out of reach, or of another TensorFlow. FileError: nobody
                can say.
        """
        last = read_json(self._folder / LAST)
        if last is None:
            return None
        if last.get("tensorflow", TENSORFLOW) != TENSORFLOW:
            raise RunError(
                f"{self._folder}: Expected checkpoints of TensorFlow {TENSORFLOW}, this process's. Received those of "
                f"{last['tensorflow']}, which computes otherwise: end this stage with the set of versions that began "
                "it, or remove the stage's folder to train anew."
            )
        self._number = last["number"]
        numbers = range(self._number, max(self._number - KEPT, 0), -1)
        for number in numbers:
            place = self._read(self._path(number))
            if place is not None:
                return place
        raise RunError(
            f"{self._folder}: Expected a whole checkpoint. Received {len(numbers)}, none of which can be read: mend "
            "what keeps them from it, or remove the folder to train anew."
        )

    def _read(self, path: Path) -> dict[str, float] | None:
        try:
            with local_copy(path) as copy, copy.open("rb") as file, np.load(file) as archive:
                arrays = {name: archive[name] for name in archive.files}
            for index, variable in enumerate(self._variables):
                variable.assign(arrays.pop(f"variable_{index}"))
        # What NumPy raises on files that are cut off or hold something else.
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
            logging.warning("%s: Expected a whole checkpoint. Received: %s", path, error)
            return None
        return {name: float(value) for name, value in arrays.items()}

    def _path(self, number: int) -> Path:
        """A checkpoint's file. They are numbered as they were written, not by step."""
        return self._folder / f"{number:05d}.npz"


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a model, `.keras`. Raises `FileError` where it cannot be written."""
    _save(path, model.save)


def best_weights(folder: Path, epoch: int) -> Path:
    """The weights file of an epoch that did best, in the folder of its training."""
    return folder / "best" / f"{epoch:05d}.weights.h5"


def keep_best_weights(folder: Path, model: keras.Model, epoch: int, before: int) -> None:
    """Saves the weights of an epoch that did better than all before it, and of others leaves the best before alone.

    Which is the best is read from the rows of `metrics.csv`, which go back with the checkpoint when a training is
    resumed; the file of the best before is therefore kept until a later checkpoint is whole.

    Raises:
        FileError: the file cannot be written.
    """
    path = best_weights(folder, epoch)
    _save(path, model.save_weights)
    for other in path.parent.iterdir():
        if other not in (path, best_weights(folder, before)):
            other.unlink()


def _save(path: Path, save: Callable[[Path], None]) -> None:
    with file_errors(path, "write"):
        if is_remote(path):
            with uploaded_copy(path) as copy:
                save(copy)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"partial.{path.name.partition('.')[2]}")  # Keras insists on the ending
        try:
            save(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
