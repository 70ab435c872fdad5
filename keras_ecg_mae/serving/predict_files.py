"""Predictions of recordings' files, by a model that is loaded here or asked at a server."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from keras_ecg_mae.config import Quality, Signal
from keras_ecg_mae.dataset.schema import to_units
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings import conform
from keras_ecg_mae.recordings.findings import assess_recording, reject
from keras_ecg_mae.recordings.isolation import open_isolated
from keras_ecg_mae.serving.answer import Answer
from keras_ecg_mae.spec import MILLIVOLTS_PER_UNIT

NOT_AN_ECG = "Expected what can be an ECG in millivolts. Received what the model refuses (input_ok is false)."
# Batches that are read while the model computes one.
_BATCHES_AHEAD = 2
# Each file that is being read has a process of its own.
_MOST_READERS = 8


class Classifies(Protocol):
    """What `ExportedModel` and `ServedModel` have in common."""

    label: str
    output: str

    def classify(self, ecg_mv: np.ndarray) -> Answer:
        """`(batch, 12, 5000)` float32 mV -> an answer a recording."""


@dataclass(frozen=True)
class Prediction:
    """One recording's result: a probability and whether it reaches the threshold, or why there is none."""

    path: str
    probability: float | None = None
    positive: bool | None = None
    error: str | None = None


@dataclass(frozen=True)
class Conforming:
    """What becomes of a recording before the model sees it.

    Attributes:
        signal: sampling rate, unit and leads of files that do not state theirs.
        long_recordings, max_flat_leads: as `conform` takes them: those of the dataset that the model was trained on.
        quality: which findings a recording is refused for, those of that dataset as well.
    """

    signal: Signal = field(default_factory=Signal)
    long_recordings: str = "first"
    max_flat_leads: int = 0
    quality: Quality = field(default_factory=Quality)

    def read(self, path: str) -> np.ndarray | RecordingError:
        """`(12, 5000)` float32 mV, in whole units as a dataset stores them; or why there is none."""
        try:
            recording = open_isolated(path, self.signal)
            ecg_mv = conform(recording, long_recordings=self.long_recordings, max_flat_leads=self.max_flat_leads)
            if self.quality.reject:
                reject(path, assess_recording(recording, self.quality, self.long_recordings), self.quality)
            return to_units(path, ecg_mv).astype(np.float32) * np.float32(MILLIVOLTS_PER_UNIT)
        except RecordingError as error:
            return error


def predict_files(
    model: Classifies, paths: Iterable[str], conforming: Conforming, *, batch_size: int = 32
) -> Iterator[list[Prediction]]:
    """Batch after batch of predictions, in the order of `paths`, which are read a few batches ahead and no further.

    A file that cannot be used has its reason instead of a probability.
    """
    with ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1)) as threads:
        ahead: deque[tuple[str, Future[np.ndarray | RecordingError]]] = deque()
        remaining = iter(paths)
        while True:
            wanted = (1 + _BATCHES_AHEAD) * batch_size - len(ahead)
            ahead.extend((path, threads.submit(conforming.read, path)) for path in islice(remaining, wanted))
            if not ahead:
                return
            batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
            yield predict_batch(model, [(path, future.result()) for path, future in batch])


def predict_batch(model: Classifies, read: Iterable[tuple[str, np.ndarray | RecordingError]]) -> list[Prediction]:
    """One batch of predictions: of names, each with its `(12, 5000)` float32 mV or why there are none."""
    read = list(read)
    ecgs = [found for _, found in read if not isinstance(found, RecordingError)]
    answer = model.classify(np.stack(ecgs)) if ecgs else None
    predictions, row = [], 0
    for name, found in read:
        if isinstance(found, RecordingError) or answer is None:
            predictions.append(Prediction(name, error=found.detail if isinstance(found, RecordingError) else None))
            continue
        if answer.input_ok[row]:
            predictions.append(Prediction(name, float(answer.probability[row]), bool(answer.positive[row])))
        else:
            predictions.append(Prediction(name, error=NOT_AN_ECG))
        row += 1
    return predictions
