"""Predictions as JSON lines that are appended as they come, so that an interrupted prediction goes on."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from absl import logging

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.run_folder import writing
from keras_ecg_mae.serving.predict_files import Prediction

Named = TypeVar("Named", bound=tuple[str, Any])


@dataclass(frozen=True)
class Predicted:
    """How many recordings a file tells of, and how many of them could not be used."""

    recordings: int
    unusable: int


def prediction_line(prediction: Prediction, label: str, model: str) -> str:
    """One JSON object, in ASCII: a file's name may hold bytes that are no UTF-8, which JSON's escapes keep."""
    return json.dumps({**asdict(prediction), "label": label, "model": model})


class PredictionFile:
    """A file with one JSON object a recording: the fields of a `Prediction`, and `label` and `model`.

    Args:
        path: made where it is missing. What a killed process left of a line is cut off.
        label: what a positive label means.
        model: which model predicts; the file holds those of one.

    Raises:
        RunError: another process is writing it, or it cannot be written.
    """

    def __init__(self, path: Path, label: str, model: str):
        self._path, self._model = path, {"label": label, "model": model}
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise RunError(
                f"{path}: Expected a file that nobody writes. Received one that is being written."
            ) from error
        except OSError:  # a file system without locks
            logging.warning("%s: cannot be locked here; see that one command alone writes it.", path)

    def __enter__(self) -> "PredictionFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def remaining(self, recordings: Iterable[Named]) -> tuple[Predicted, Iterator[Named]]:
        """What of `recordings`, each with its name first, is predicted already, and the others.

        Memory does not grow with their number.

        Raises:
            RunError: the file holds predictions of other recordings, or of another model.
        """
        left = iter(recordings)
        done, unusable, end = 0, 0, 0
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            done, end = done + 1, end + len(line)
            recording = next(left, None)
            unusable += self._expect(done, line, None if recording is None else recording[0])
        with writing(self._path):
            self._file.truncate(end)
            self._file.seek(0, os.SEEK_END)
        return Predicted(done, unusable), left

    def _expect(self, number: int, line: bytes, path: str | None) -> bool:
        """Whether a line is of a recording that could not be used. Raises `RunError` where it is another line."""
        try:
            there = json.loads(line)
            found = {name: there[name] for name in ("path", *self._model)}
            unusable = there["error"] is not None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self._path}, line {number}: Expected a prediction. Received something else.") from error
        expected = {"path": path, **self._model}
        for name, value in expected.items():
            if found[name] != value:
                raise RunError(
                    f"{self._path}, line {number}: Expected the {name} {value!r}. Received {found[name]!r}: it is of "
                    "other recordings, or of another model; give another --predictions."
                )
        return unusable

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Adds some predictions and sees to it that they are on the disk. Raises `RunError`."""
        lines = [prediction_line(prediction, **self._model) for prediction in predictions]
        with writing(self._path):
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
