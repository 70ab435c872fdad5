"""Ending in good order when a scheduler, or the user, takes the machine back."""

import signal
import threading
from types import FrameType

from absl import logging


class Preemption:
    """While entered, SIGTERM and a first Ctrl-C are noted instead of ending the process.

    Attributes:
        requested: whether one has come. A second Ctrl-C ends the process as usual.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Preemption":
        # Python lets the main thread alone handle signals.
        here = self.SIGNALS if threading.current_thread() is threading.main_thread() else ()
        self._before = {number: signal.signal(number, self._note) for number in here}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logging.warning("%s: saving after the steps that are under way.", signal.Signals(number).name)
