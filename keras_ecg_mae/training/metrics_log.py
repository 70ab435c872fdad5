"""Scalars and pictures of a training, for TensorBoard and for a spreadsheet."""

import csv
import io
from pathlib import Path

import tensorflow as tf

from keras_ecg_mae.files import read_if_there, write_whole

# TensorBoard's groups, in which it shows scalars: by the beginning of a scalar's name in `metrics.csv`, which the group
# takes the place of, or by the whole name.
_PREFIXES = {"validation_": "validation/", "reconstruction_": "reconstruction/"}
_GROUPS = {
    "loss": "loss",
    "learning_rate": "rate",
    "gradient_norm": "rate",
    "weight_norm": "rate",
    "records_per_second": "machine",
    "input_wait_share": "machine",
    "host_memory_gib": "machine",
    "device_memory_gib": "machine",
}


def tensorboard_tag(name: str) -> str:
    """Where TensorBoard shows a scalar of `metrics.csv`."""
    for prefix, group in _PREFIXES.items():
        if name.startswith(prefix):
            return group + name.removeprefix(prefix)
    return f"{_GROUPS[name]}/{name}"


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
        self.path = folder / "metrics.csv"
        self.rows: list[dict[str, float]] = []
        content = read_if_there(self.path)
        if content is not None:
            table = csv.DictReader(io.StringIO(content.decode(), newline=""))
            read = [{name: float(text) for name, text in row.items() if text} for row in table]
            self.rows = [row for row in read if row["epoch"] < epochs]
        self._writes = writes
        tensorboard = str(folder / "tensorboard")
        self._writer = tf.summary.create_file_writer(tensorboard) if writes else tf.summary.create_noop_writer()

    def epoch(self, epoch: int, step: int, scalars: dict[str, float]) -> None:
        """Adds one epoch. `step` is TensorBoard's axis: optimizer steps taken so far."""
        self.rows.append({"epoch": float(epoch), "step": float(step), **scalars})
        if self._writes:
            self._write(step)

    def _write(self, step: int) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            # Every digit: what is the best epoch is read from here when the training is resumed.
            writer.writerow({name: repr(float(value)).removesuffix(".0") for name, value in row.items()})
        write_whole(self.path, text.getvalue())
        with self._writer.as_default(step=step):
            for name, value in self.rows[-1].items():
                if name not in ("epoch", "step"):
                    tf.summary.scalar(tensorboard_tag(name), value)
        self._writer.flush()

    def picture(self, name: str, step: int, png: bytes) -> None:
        """Shows a PNG in TensorBoard."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, tf.io.decode_png(png, channels=3)[None])

    def close(self) -> None:
        self._writer.close()
