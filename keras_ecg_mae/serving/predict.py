"""Predictions of recordings, from files or a dataset, by a model that is loaded here or asked at a server."""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from tqdm import tqdm

from keras_ecg_mae.config import SPLITS, Config, Quality, Signal
from keras_ecg_mae.dataset import evaluation_batches, read_manifest
from keras_ecg_mae.dataset.example import to_units
from keras_ecg_mae.errors import ConfigError, RecordingError, RunError
from keras_ecg_mae.files import file_errors, is_remote, locked, storage_path
from keras_ecg_mae.recordings import conform
from keras_ecg_mae.recordings.findings import assess_recording, reject
from keras_ecg_mae.recordings.isolation import open_isolated
from keras_ecg_mae.serving.client import ServedModel
from keras_ecg_mae.serving.exported_model import Answer, ExportedModel
from keras_ecg_mae.spec import MILLIVOLTS_PER_UNIT

NOT_AN_ECG = "Expected what can be an ECG in millivolts. Received what the model refuses (input_ok is false)."
# Batches that are read while the model computes one.
_BATCHES_AHEAD = 2
# Each file that is being read has a process of its own.
_MOST_READERS = 8
_LOG_INTERVAL_S = 30.0

# A recording's name, and what reads its `(12, 5000)` float32 mV or raises `RecordingError`.
Recording = tuple[str, Callable[[], np.ndarray]]


class Classifies(Protocol):
    """What `ExportedModel` and `ServedModel` have in common."""

    name: str
    label: str
    output: str

    def classify(self, ecg_mv: np.ndarray) -> Answer:
        """`(batch, 12, 5000)` float32 mV -> an answer a recording."""


@dataclass(frozen=True)
class RecordingPrediction:
    """One recording's result: a probability and whether it reaches the threshold, or why there is none."""

    path: str
    probability: float | None = None
    positive: bool | None = None
    error: str | None = None

    def line(self, model: Classifies) -> str:
        """One JSON object, in ASCII: a file's name may hold bytes that are no UTF-8, which JSON's escapes keep."""
        return json.dumps({**asdict(self), "label": model.label, "model": model.name})


@dataclass(frozen=True)
class RecordingLoader:
    """Reads recordings as the model's dataset was prepared.

    Attributes:
        signal: sampling rate, unit and leads of files that do not state theirs.
        long_recordings, max_flat_leads: as `conform` takes them: those of the dataset that the model was trained on.
        quality: which findings a recording is refused for, those of that dataset as well.
    """

    signal: Signal = field(default_factory=Signal)
    long_recordings: str = "first"
    max_flat_leads: int = 0
    quality: Quality = field(default_factory=Quality)

    def load(self, path: str) -> np.ndarray:
        """`(12, 5000)` float32 mV, in whole units as a dataset stores them. Raises `RecordingError`."""
        recording = open_isolated(path, self.signal)
        ecg_mv = conform(recording, long_recordings=self.long_recordings, max_flat_leads=self.max_flat_leads)
        if self.quality.reject:
            reject(path, assess_recording(recording, self.quality, self.long_recordings), self.quality)
        return to_units(path, ecg_mv).astype(np.float32) * np.float32(MILLIVOLTS_PER_UNIT)

    def recordings(self, paths: Iterable[str]) -> Iterator[Recording]:
        """Recordings' files, each to be read when it is its turn."""
        return ((path, partial(self.load, path)) for path in paths)


def stored_recordings(batch: Mapping[str, np.ndarray]) -> Iterator[Recording]:
    """A dataset's recordings: `record_id` `(batch,)` bytes, `ecg` `(batch, 12, 5000)` mV."""
    return (
        (name.decode(), partial(np.asarray, ecg)) for name, ecg in zip(batch["record_id"], batch["ecg"], strict=True)
    )


def load_model(config: Config) -> tuple[Classifies, RecordingLoader]:
    """What predicts, and what reads files for it. Raises `RunError` or `ServerError` without a model."""
    if config.prediction.server:
        # The served model checks flat leads itself (`input_ok`), so up to 11 are let through here.
        loader = RecordingLoader(config.signal, config.prediction.server_long_recordings, max_flat_leads=11)
        return ServedModel(config.prediction), loader
    exported = ExportedModel(storage_path(config.prediction.model))
    loader = RecordingLoader(config.signal, exported.long_recordings, exported.max_flat_leads, exported.quality)
    return exported, loader


def predict_recordings(
    model: Classifies, recordings: Iterable[Recording], *, batch_size: int = 32
) -> Iterator[list[RecordingPrediction]]:
    """Batch after batch of predictions, in the order of `recordings`, read a few batches ahead and no further.

    A recording that cannot be used has its reason instead of a probability.
    """
    with ThreadPoolExecutor(min(_MOST_READERS, os.cpu_count() or 1)) as threads:
        ahead: deque[tuple[str, Future[np.ndarray]]] = deque()
        remaining = iter(recordings)
        while True:
            wanted = (1 + _BATCHES_AHEAD) * batch_size - len(ahead)
            ahead.extend((name, threads.submit(read)) for name, read in islice(remaining, wanted))
            if not ahead:
                return
            yield _predict_batch(model, [ahead.popleft() for _ in range(min(batch_size, len(ahead)))])


def _predict_batch(model: Classifies, batch: list[tuple[str, Future[np.ndarray]]]) -> list[RecordingPrediction]:
    predictions: dict[int, RecordingPrediction] = {}
    ecgs: dict[int, np.ndarray] = {}
    for place, (name, future) in enumerate(batch):
        error = future.exception()
        if isinstance(error, RecordingError):
            predictions[place] = RecordingPrediction(name, error=error.detail)
        else:
            ecgs[place] = future.result()  # raises any other error
    if ecgs:
        answer = model.classify(np.stack(list(ecgs.values())))
        for row, place in enumerate(ecgs):
            name = batch[place][0]
            predictions[place] = (
                RecordingPrediction(name, float(answer.probability[row]), bool(answer.positive[row]))
                if answer.input_ok[row]
                else RecordingPrediction(name, error=NOT_AN_ECG)
            )
    return [predictions[place] for place in range(len(batch))]


@dataclass(frozen=True)
class Written:
    """How many recordings were predicted now, and of all in the file, how many there are and could not be used."""

    now: int
    recordings: int
    unusable: int


class Predictor:
    """A model, and the recordings to predict.

    Args:
        config: which model, which recordings, and what becomes of files among them.
        files: recordings' files, before those of `--files`.

    Attributes:
        model: what predicts.

    Raises:
        ConfigError: no recordings are given, or files and a dataset.
        RunError, ServerError: there is no such model.
        DatasetError: there is no such dataset.
    """

    def __init__(self, config: Config, files: Iterable[str]):
        self._settings, dataset = config.prediction, config.training.dataset
        self._manifest = read_manifest(dataset) if dataset else None
        self._files = [*files]
        if bool(self._files or self._settings.files) == (self._manifest is not None):
            raise ConfigError(
                "Expected recordings: files and --files, or --dataset. "
                f"Received {'both' if self._manifest else 'none of them'}."
            )
        self.model, self._loader = load_model(config)

    def predictions(self) -> Iterator[RecordingPrediction]:
        """One a recording, in order."""
        return chain.from_iterable(self._batches(self._recordings()))

    def write(self, path: str) -> Written:
        """Writes the predictions as JSON lines, behind those that are there: an interrupted prediction is resumed.

        A line has the fields of a `RecordingPrediction`, and `label` and `model`.

        Raises:
            ConfigError: the file would lie in cloud storage, which cannot be appended to.
            RunError: it holds others, another process is writing it, or it cannot be written.
        """
        if is_remote(path):
            raise ConfigError(f"Expected --predictions on this machine's disks. Received {path}.")
        now, recordings = 0, self._recordings()
        interval = 0.1 if sys.stderr.isatty() else _LOG_INTERVAL_S
        refusal = f"{path}: Expected a file that nobody writes. Received one that is being written."
        with locked(Path(path), refusal) as file:
            before, unusable = _skip_predicted(path, file, recordings, self.model)
            with tqdm(initial=before, desc="predict", unit=" recordings", mininterval=interval) as bar:
                for batch in self._batches(recordings):
                    with file_errors(Path(path), "write"):
                        file.write("".join(f"{prediction.line(self.model)}\n" for prediction in batch).encode())
                        file.flush()
                        os.fsync(file.fileno())
                    bar.update(len(batch))
                    now += len(batch)
                    unusable += sum(prediction.error is not None for prediction in batch)
        return Written(now, before + now, unusable)

    def _recordings(self) -> Iterator[Recording]:
        if self._manifest is None:
            yield from self._loader.recordings(chain(self._files, _listed(self._settings.files)))
            return
        size = self._settings.predict_batch_size
        batches = evaluation_batches(self._manifest, SPLITS, batch_size=size, labelled=False)
        for batch in batches.as_numpy_iterator():
            yield from stored_recordings(batch)

    def _batches(self, recordings: Iterable[Recording]) -> Iterator[list[RecordingPrediction]]:
        return predict_recordings(self.model, recordings, batch_size=self._settings.predict_batch_size)


def _skip_predicted(path: str, file: BinaryIO, recordings: Iterator[Recording], model: Classifies) -> tuple[int, int]:
    """Takes the recordings that a file has predictions of: how many, and how many of them could not be used.

    Half a line, as a killed process leaves it, is cut off. Memory does not grow with the lines' number.

    Raises:
        RunError: the file holds no predictions, or its last one is of another recording or another model.
    """
    count, unusable, end, last = 0, 0, 0, {}
    file.seek(0)
    for line in file:
        if not line.endswith(b"\n"):
            break
        count, end = count + 1, end + len(line)
        try:
            last = json.loads(line)
            unusable += last["error"] is not None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}, line {count}: Expected a prediction. Received something else.") from error
    if count:
        name = next((name for name, _ in islice(recordings, count - 1, None)), None)
        for key, expected in {"path": name, "label": model.label, "model": model.name}.items():
            if last.get(key) != expected:
                raise RunError(
                    f"{path}, line {count}: Expected the {key} {expected!r}. Received {last.get(key)!r}: it is of "
                    "other recordings, or of another model; give another --predictions."
                )
    with file_errors(Path(path), "write"):
        file.truncate(end)
    return count, unusable


def _listed(path: str) -> Iterator[str]:
    """The paths in a text file, or on standard input, one a line; none of an empty name."""
    if not path:
        return
    try:
        # Names of files are bytes: those that are no UTF-8 are read as the system's calls give and take them.
        with nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8", errors="surrogateescape") as file:
            yield from filter(None, (line.rstrip("\r\n") for line in file))
    except OSError as error:
        raise ConfigError(f"Expected --files to be a readable text file. Received {path}: {error.strerror}.") from error
