"""Predictions of many recordings, from wherever they are, by whatever model: what the command `predict` does."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_ecg_mae.config import SPLITS, Config
from keras_ecg_mae.dataset import evaluation_batches, read_manifest
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.serving.client import ServedModel
from keras_ecg_mae.serving.predict_files import Classifies, Conforming, Prediction, predict_batch, predict_files
from keras_ecg_mae.serving.prediction import ExportedModel
from keras_ecg_mae.serving.prediction_file import PredictionFile
from keras_ecg_mae.storage import is_remote, storage_path

_LOG_INTERVAL_S = 30.0


@dataclass(frozen=True)
class Written:
    """How many recordings were predicted now, and of all in the file, how many there are and could not be used."""

    now: int
    recordings: int
    unusable: int


def load_model(config: Config) -> tuple[Classifies, str, Conforming]:
    """What predicts, its name, and what becomes of files before it. Raises `RunError` or `ServerError` without one."""
    if config.prediction.server:
        served = ServedModel(config.prediction)
        # The served model checks flat leads itself (`input_ok`), so up to 11 are let through here.
        long_recordings = config.prediction.server_long_recordings
        return served, served.name, Conforming(config.signal, long_recordings, max_flat_leads=11)
    exported = ExportedModel(storage_path(config.prediction.model))
    folder = exported.folder if is_remote(exported.folder) else exported.folder.resolve()
    conforming = Conforming(config.signal, exported.long_recordings, exported.max_flat_leads, exported.quality)
    return exported, str(folder), conforming


class Predicting:
    """A model, and the recordings to predict.

    Args:
        config: which model, which recordings, and what becomes of the files among them.
        files: recordings' files, before those of `--files`.

    Attributes:
        model: what predicts.

    Raises:
        ConfigError: no recordings are given, or files and a dataset.
        RunError, ServerError: there is no such model.
        DatasetError: there is no such dataset.
    """

    def __init__(self, config: Config, files: Iterable[str]):
        settings, dataset = config.prediction, config.training.dataset
        self._batch_size, self._manifest = settings.predict_batch_size, read_manifest(dataset) if dataset else None
        self._files = [*files]
        if bool(self._files or settings.files) == (self._manifest is not None):
            raise ConfigError(
                "Expected recordings: files and --files, or --dataset. "
                f"Received {'both' if self._manifest else 'none of them'}."
            )
        self._list = settings.files
        self.model, self._name, self._conforming = load_model(config)

    def predictions(self) -> Iterator[Prediction]:
        """One a recording, in order."""
        return chain.from_iterable(self._batches(self._recordings()))

    def write(self, path: str) -> Written:
        """Writes the predictions to a `PredictionFile`, behind those that are there.

        Raises:
            ConfigError: the file would lie in cloud storage, which cannot be appended to.
            RunError: it holds others, or cannot be written.
        """
        if is_remote(path):
            raise ConfigError(f"Expected --predictions on this machine's disks. Received {path}.")
        now = 0
        interval = 0.1 if sys.stderr.isatty() else _LOG_INTERVAL_S
        with PredictionFile(Path(path), self.model.label, self._name) as file:
            before, left = file.remaining(self._recordings())
            unusable = before.unusable
            with tqdm(initial=before.recordings, desc="predict", unit=" recordings", mininterval=interval) as bar:
                for batch in self._batches(left):
                    file.append(batch)
                    bar.update(len(batch))
                    now += len(batch)
                    unusable += sum(prediction.error is not None for prediction in batch)
        return Written(now, before.recordings + now, unusable)

    def _recordings(self) -> Iterator[tuple[str, np.ndarray | None]]:
        """Each recording's name, and its `(12, 5000)` float32 mV where it comes from a dataset."""
        if self._manifest is None:
            for path in chain(self._files, _listed(self._list)):
                yield path, None
            return
        batches = evaluation_batches(self._manifest, SPLITS, batch_size=self._batch_size, labelled=False)
        for batch in batches.as_numpy_iterator():
            yield from ((name.decode(), ecg_mv) for name, ecg_mv in zip(batch["record_id"], batch["ecg"], strict=True))

    def _batches(self, recordings: Iterator[tuple[str, np.ndarray | None]]) -> Iterator[list[Prediction]]:
        if self._manifest is None:
            paths = (path for path, _ in recordings)
            yield from predict_files(self.model, paths, self._conforming, batch_size=self._batch_size)
        else:
            while batch := [(name, ecg) for name, ecg in islice(recordings, self._batch_size) if ecg is not None]:
                yield predict_batch(self.model, batch)


def _listed(path: str) -> Iterator[str]:
    """The paths in a text file, or on standard input, one a line; none of an empty name."""
    if not path:
        return
    if path == "-":
        yield from _lines(sys.stdin)
        return
    try:
        # Names of files are bytes: those that are no UTF-8 are read as the system's calls give and take them.
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            yield from _lines(file)
    except OSError as error:
        raise ConfigError(f"Expected --files to be a readable text file. Received {path}: {error.strerror}.") from error


def _lines(file: Iterable[str]) -> Iterator[str]:
    return (path for line in file if (path := line.rstrip("\r\n")))
