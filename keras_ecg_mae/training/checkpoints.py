"""What a training resumes from."""

from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from keras_ecg_mae.errors import RunError

KEPT = 3


class Checkpoints:
    """The last few checkpoints of a training, in a folder.

    Args:
        folder: made with the first checkpoint.
        model, optimizer: with all their variables.
        places: variables that say how far the training has come.
    """

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, **places: tf.Variable):
        # The weights by themselves: of a model, tf.train.Checkpoint leaves out the layers that Keras keeps in lists.
        weights = [variable.value for variable in model.variables]
        self._checkpoint = tf.train.Checkpoint(weights=weights, optimizer=optimizer, **places)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=KEPT)

    def save(self) -> None:
        """Writes one. TensorFlow names it as the last only when it is whole."""
        self._manager.save()

    def restore(self) -> bool:
        """Reads the last that is whole, and says whether there is any; a damaged one is named and left out.

        Raises:
            RunError: there are some, all of them damaged.
        """
        if any(self._read(path) for path in reversed(self._manager.checkpoints)):
            return True
        if self._manager.checkpoints:
            raise RunError(
                f"{self._manager.directory}: Expected a whole checkpoint. Received {len(self._manager.checkpoints)}, "
                "all damaged: remove the folder to train anew."
            )
        return False

    def _read(self, path: str) -> bool:
        try:
            self._checkpoint.restore(path).assert_consumed()
        # What TensorFlow raises on files that are missing, cut off, or hold something else.
        except (tf.errors.OpError, AssertionError, IndexError, ValueError, RuntimeError) as error:
            logging.warning("%s: Expected a whole checkpoint. Received: %s", path, str(error).splitlines()[0])
            return False
        return True
