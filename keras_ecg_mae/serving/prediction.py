"""Prediction of recordings with an export."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_ecg_mae.errors import RecordingError, RunError
from keras_ecg_mae.recordings import conform, open_recording
from keras_ecg_mae.serving.export import MODEL_FILE, SAVED_MODEL, versions
from keras_ecg_mae.spec import signal_contract
from keras_ecg_mae.storage import read_if_there

BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """One recording's result: a probability, or why there is none."""

    path: str
    probability: float | None = None
    error: str | None = None


class ExportedModel:
    """An export, loaded.

    Args:
        path: `saved_models/NAME` for its newest whole version, or `saved_models/NAME/VERSION`.

    Attributes:
        folder: of the version. label: what a positive label means. threshold: from which a probability is positive.

    Raises:
        RunError: there is no export at `path`, or it takes another signal.
    """

    def __init__(self, path: Path):
        self.folder = _version_folder(path)
        description_path = self.folder / "assets" / MODEL_FILE
        try:
            content = read_if_there(description_path)
            if content is None:
                raise FileNotFoundError("no such file")
            description = json.loads(content)
            self.label: str = description["label"]
            self.threshold: float = description["threshold"]
            self.output: str = description["output"]
            signal = description["signal"]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{description_path}: Expected the description of an export. Received: {error}") from error
        if signal != signal_contract():
            raise RunError(f"{description_path}: Expected the signal {signal_contract()}. Received {signal}.")
        self._loaded = tf.saved_model.load(str(self.folder))  # keeps the variables alive
        self._serve = self._loaded.signatures["serving_default"]

    def probability(self, ecg_mv: np.ndarray) -> np.ndarray:
        """`(batch, 12, 5000)` float32 mV -> `(batch,)` float32."""
        return self._serve(ecg=tf.constant(ecg_mv, tf.float32))[self.output].numpy()

    def predict_files(self, paths: Iterable[str]) -> Iterator[Prediction]:
        """One result a file, in their order; a file that cannot be used has its reason instead of a probability."""
        waiting: list[Prediction] = []
        ecgs: list[np.ndarray] = []
        for path in paths:
            try:
                ecgs.append(conform(open_recording(path)))
                waiting.append(Prediction(path))
            except RecordingError as error:
                waiting.append(Prediction(path, error=error.detail))
            if len(waiting) == BATCH_SIZE:
                yield from self._finish(waiting, ecgs)
                waiting, ecgs = [], []
        yield from self._finish(waiting, ecgs)

    def _finish(self, waiting: list[Prediction], ecgs: list[np.ndarray]) -> Iterator[Prediction]:
        probabilities = iter(self.probability(np.stack(ecgs))) if ecgs else iter(())
        for prediction in waiting:
            yield prediction if prediction.error else Prediction(prediction.path, float(next(probabilities)))


def _version_folder(path: Path) -> Path:
    if (path / SAVED_MODEL).exists():
        return path
    # An upload that is under way, or was cut off, lacks its last file.
    numbers = [number for number in versions(path) if (path / str(number) / SAVED_MODEL).exists()]
    if not numbers:
        raise RunError(f"{path}: Expected an export, saved_models/NAME or saved_models/NAME/VERSION. Received none.")
    return path / str(numbers[-1])
