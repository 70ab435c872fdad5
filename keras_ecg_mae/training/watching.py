"""What a training shows while it runs: progress on the console, memory, the profiler's window."""

import resource
import sys
import time
from pathlib import Path

import tensorflow as tf
from absl import logging
from tqdm import tqdm

LOG_SECONDS = 60.0
_GIB = 2**30


class Progress:
    """A progress bar on a terminal; elsewhere, as in a scheduler's log file, a line a minute.

    Args:
        title: of the training.
        total, done: steps of the whole training, and those done before.
        epochs: of the whole training.
        shows: whether this process shows anything.
    """

    def __init__(self, title: str, total: int, done: int, epochs: int, shows: bool = True):
        self._title, self._epochs, self._steps_per_epoch = title, epochs, total // epochs
        terminal = sys.stderr.isatty()
        self._logs = shows and not terminal
        self._logged = time.monotonic()
        self._bar = tqdm(
            total=total, initial=done, desc=title, unit="step", mininterval=1.0, disable=not (shows and terminal)
        )
        self._began, self._first, self._done, self._total = time.monotonic(), done, done, total

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, steps: int, loss: float) -> None:
        """After some steps, with the loss of the last."""
        self._done += steps
        epoch = min(self._done // self._steps_per_epoch + 1, self._epochs)
        self._bar.set_postfix_str(f"epoch {epoch}/{self._epochs} loss {loss:.3g}", refresh=False)
        self._bar.update(steps)
        now = time.monotonic()
        if self._logs and (now - self._logged >= LOG_SECONDS or self._done == self._total):
            self._logged = now
            rate = (self._done - self._first) / (now - self._began)
            logging.info(
                "%s: step %d of %d (%.1f%%), epoch %d of %d, loss %.4g, %.3g steps/s, %s left.",
                self._title,
                self._done,
                self._total,
                100 * self._done / self._total,
                epoch,
                self._epochs,
                loss,
                rate,
                tqdm.format_interval((self._total - self._done) / rate),
            )


class ProfilerWindow:
    """Some steps recorded with TensorFlow's profiler, for the TensorBoard plugin `tensorboard-plugin-profile`.

    Args:
        folder: TensorBoard's.
        steps: how many to record; 0 for none.
        records: whether this process does; the others of several workers count along, to take the same steps a call.
    """

    def __init__(self, folder: Path, steps: int, records: bool = True):
        self._folder, self._left, self._records, self._open = folder, steps, records, False

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
        if self._open:
            if self._records:
                tf.profiler.experimental.stop()
            self._left, self._open = 0, False


def memory_scalars() -> dict[str, float]:
    """Most memory that was in use so far, GiB: of the process, and of the first GPU where there is one."""
    scalars = {"host_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB}
    for device in tf.config.list_logical_devices("GPU")[:1]:
        scalars["device_memory_gib"] = tf.config.experimental.get_memory_info(device.name)["peak"] / _GIB
    return scalars
