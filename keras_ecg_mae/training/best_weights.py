"""The weights of the epoch that did best on the validation recordings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from keras_ecg_mae.files import file_errors, is_remote


class BestWeights:
    """One weights file an epoch that did better than all before it; the last two of them are kept.

    Which is the best is read from the rows of `metrics.csv`, which go back with the checkpoint when a training is
    resumed; the file of the best before is therefore kept until a later checkpoint is whole.

    Args:
        folder: of the training; files go to `best/`.
        scalar: the validation scalar, by its name in the rows; the lower the better. Epochs without it are left out.
        writes: whether this process saves.
    """

    def __init__(self, folder: Path, scalar: str, writes: bool = True):
        self._folder, self._scalar, self._writes = folder / "best", scalar, writes

    def best(self, rows: Sequence[Mapping[str, float]]) -> tuple[int, float]:
        """Epoch and value of the lowest; before the first, (-1, infinity)."""
        validated = [row for row in rows if self._scalar in row]
        if not validated:
            return -1, float("inf")
        row = min(validated, key=lambda row: row[self._scalar])
        return int(row["epoch"]), row[self._scalar]

    def path(self, epoch: int) -> Path:
        """The weights file of an epoch."""
        return self._folder / f"{epoch:05d}.weights.h5"

    def keep(self, model: keras.Model, epoch: int, before: int) -> None:
        """Saves an epoch's weights, and leaves those of the best before and no others beside them.

        Raises:
            RunError: the file cannot be written.
        """
        if not self._writes:
            return
        with file_errors(self.path(epoch), "write"):
            if is_remote(self._folder):
                model.save_weights(self.path(epoch))
            else:
                self._folder.mkdir(parents=True, exist_ok=True)
                partial = self.path(epoch).with_name("partial.weights.h5")  # Keras insists on the ending
                try:
                    model.save_weights(partial)
                    os.replace(partial, self.path(epoch))
                finally:
                    partial.unlink(missing_ok=True)
        for path in self._folder.iterdir():
            if path not in (self.path(epoch), self.path(before)):
                path.unlink()
