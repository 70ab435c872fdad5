"""What a training shows: `metrics.csv`, TensorBoard, progress on the console, memory, the profiler's window."""

import csv
import io
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf
from absl import logging
from tqdm import tqdm

from keras_ecg_mae.files import is_remote, read_if_there, storage_of, write_whole
from keras_ecg_mae.runs.folder import METRICS

LOG_SECONDS = 60.0
_GIB = 2**30


def tensorboard_tag(name: str) -> str:
    """Where TensorBoard shows a scalar of `metrics.csv`: its group, and its name within it."""
    prefix, _, rest = name.partition("_")
    if prefix in ("validation", "reconstruction"):
        return f"{prefix}/{rest}"
    if name == "loss":
        return "loss/loss"
    return f"rate/{name}" if name in ("learning_rate", "gradient_norm", "weight_norm") else f"machine/{name}"


def tensorboard_writer(folder: Path) -> tuple[tf.summary.SummaryWriter, Callable[[], object]]:
    """A writer of TensorBoard's files for a training, and what to call when it has written some."""
    tensorboard = str(folder / "tensorboard")
    if not is_remote(tensorboard):
        return tf.summary.create_file_writer(tensorboard), list
    copy, written = storage_of(tensorboard).written_by_tensorflow(tensorboard)
    return tf.summary.create_file_writer(copy), written


class MetricsLog:
    """`metrics.csv`, one row an epoch, and the same numbers in `tensorboard/`.

    Args:
        folder: of the training; made if absent.
        epochs: rows of later epochs are dropped: a training that was stopped goes on from its last checkpoint.
        writes: whether this process writes the files, or keeps the rows for itself.

    Attributes:
        rows: one dict an epoch, `epoch` counted from 0.
    """

    def __init__(self, folder: Path, epochs: int, writes: bool = True):
        self._path, self._writes = folder / METRICS, writes
        content = read_if_there(self._path) or b""
        table = csv.DictReader(io.StringIO(content.decode(), newline=""))
        rows = [{name: float(text) for name, text in row.items() if text} for row in table]
        self.rows = [row for row in rows if row["epoch"] < epochs]
        self._writer, self._written = tensorboard_writer(folder) if writes else (tf.summary.create_noop_writer(), list)

    def best(self, scalar: str) -> tuple[int, float]:
        """Epoch and value of a scalar's lowest; (-1, infinity) before the first. Epochs without it are left out."""
        values = [(row[scalar], int(row["epoch"])) for row in self.rows if scalar in row]
        value, epoch = min(values, default=(float("inf"), -1))
        return epoch, value

    def epoch(self, epoch: int, step: int, scalars: Mapping[str, float]) -> None:
        """Adds one epoch. `step` is TensorBoard's axis: optimizer steps taken so far."""
        self.rows.append({"epoch": float(epoch), "step": float(step), **scalars})
        if not self._writes:
            return
        text = io.StringIO()
        writer = csv.DictWriter(
            text, list(dict.fromkeys(name for row in self.rows for name in row)), lineterminator="\n"
        )
        writer.writeheader()
        for row in self.rows:
            # Every digit: what is the best epoch is read from here when the training is resumed.
            writer.writerow({name: repr(float(value)).removesuffix(".0") for name, value in row.items()})
        write_whole(self._path, text.getvalue())
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(tensorboard_tag(name), value)
        self._writer.flush()
        self._written()

    def picture(self, name: str, step: int, png: bytes) -> None:
        """Shows a PNG in TensorBoard."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, tf.io.decode_png(png, channels=3)[None])

    def close(self) -> None:
        self._writer.close()
        self._written()


class Progress:
    """A progress bar on a terminal; elsewhere, as in a scheduler's log file, a line a minute.

    Args:
        title: of the training.
        done: steps done before.
        epochs, steps_per_epoch: of the whole training.
        shows: whether this process shows anything.
    """

    def __init__(self, title: str, done: int, epochs: int, steps_per_epoch: int, shows: bool = True):
        self._title, self._epochs, self._steps_per_epoch = title, epochs, steps_per_epoch
        self._first, self._done, self._total = done, done, epochs * steps_per_epoch
        self._began = self._logged = time.monotonic()
        terminal = sys.stderr.isatty()
        self._logs = shows and not terminal
        self._bar = tqdm(
            total=self._total, initial=done, desc=title, unit="step", mininterval=1.0, disable=not (shows and terminal)
        )

    def update(self, steps: int, loss: float) -> None:
        """After some steps, with the loss of the last."""
        self._done += steps
        epoch = min(self._done // self._steps_per_epoch + 1, self._epochs)
        place = f"epoch {epoch}/{self._epochs} loss {loss:.3g}"
        self._bar.set_postfix_str(place, refresh=False)
        self._bar.update(steps)
        now = time.monotonic()
        if self._logs and (now - self._logged >= LOG_SECONDS or self._done == self._total):
            self._logged = now
            seconds, looks = now - self._began, {"ncols": 0, "unit": "step", "prefix": self._title, "postfix": place}
            logging.info("%s", tqdm.format_meter(self._done, self._total, seconds, initial=self._first, **looks))

    def close(self) -> None:
        self._bar.close()


class ProfilerWindow:
    """Some steps recorded with TensorFlow's profiler, for the TensorBoard plugin `tensorboard-plugin-profile`.

    Args:
        folder: of the training; TensorBoard's is in it.
        steps: how many to record; 0 for none.
        records: whether this process does; the others of several workers count along, to take the same steps a call.
    """

    def __init__(self, folder: Path, steps: int, records: bool = True):
        self._folder, self._left, self._records, self._open = folder / "tensorboard", steps, records, False

    def before(self, count: int) -> int:
        """Before a call of at most `count` steps: how many of them it should be."""
        if self._left and not self._open:
            if self._records:
                tf.profiler.experimental.start(str(self._folder))
            self._open = True
        return min(count, self._left) if self._open else count

    def after(self, count: int) -> None:
        """After a call of `count` steps."""
        if self._open:
            self._left -= count
            if not self._left:
                self.close()

    def close(self) -> None:
        """Ends the recording where it is open."""
        if self._open and self._records:
            tf.profiler.experimental.stop()
        self._left, self._open = 0, False


def memory_scalars() -> dict[str, float]:
    """Most memory that was in use so far, GiB: of the process, and of the first GPU where there is one."""
    scalars = {"host_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB}
    for device in tf.config.list_logical_devices("GPU")[:1]:
        scalars["device_memory_gib"] = tf.config.experimental.get_memory_info(device.name)["peak"] / _GIB
    return scalars
