"""Predictions as JSON lines that are appended as they come, so that an interrupted prediction goes on."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.run_folder import writing
from keras_ecg_mae.serving.predict_files import Prediction

Named = TypeVar("Named", bound=tuple[str, Any])


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

    def __enter__(self) -> "PredictionFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def remaining(self, recordings: Iterable[Named]) -> tuple[int, Iterator[Named]]:
        """How many of `recordings`, each with its name first, are predicted already, and the others.

        Memory does not grow with their number.

        Raises:
            RunError: the file holds predictions of other recordings, or of another model.
        """
        left = iter(recordings)
        done, end = 0, 0
        self._file.seek(0)
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            done, end = done + 1, end + len(line)
            recording = next(left, None)
            self._expect(done, line, None if recording is None else recording[0])
        with writing(self._path):
            self._file.truncate(end)
            self._file.seek(0, os.SEEK_END)
        return done, left

    def _expect(self, number: int, line: bytes, path: str | None) -> None:
        try:
            there = json.loads(line)
            found = {name: there[name] for name in ("path", *self._model)}
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self._path}, line {number}: Expected a prediction. Received something else.") from error
        expected = {"path": path, **self._model}
        for name, value in expected.items():
            if found[name] != value:
                raise RunError(
                    f"{self._path}, line {number}: Expected the {name} {value!r}. Received {found[name]!r}: it is of "
                    "other recordings, or of another model; give another --predictions."
                )

    def append(self, predictions: Iterable[Prediction]) -> None:
        """Adds some predictions and sees to it that they are on the disk. Raises `RunError`."""
        lines = [json.dumps({**asdict(prediction), **self._model}, ensure_ascii=False) for prediction in predictions]
        with writing(self._path):
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
