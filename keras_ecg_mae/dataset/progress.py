"""How far a long work has come: a bar in a terminal, a line every half minute in a log."""

import io
import sys

from absl import logging
from tqdm import tqdm

_BAR_INTERVAL_S, _LINE_INTERVAL_S = 0.1, 30.0
_LINE = "{desc}: {n_fmt} of {total_fmt} recordings ({percentage:.0f}%), {rate_fmt}, {remaining} left"


class _Lines(io.StringIO):
    """Where tqdm writes when nobody watches: each state of its bar becomes a line of the log."""

    def write(self, text: str) -> int:
        line = text.strip("\r\n ")
        if line:
            logging.info("%s", line)
        return len(text)


def progress_bar(name: str, total: int, done: int) -> "tqdm":
    """A bar of `total` recordings, `done` of which were done before, to be used as a context.

    Its rate and the time that is left are of what is done from now on.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, initial=done, desc=name, unit=" recordings", mininterval=_BAR_INTERVAL_S)
    return tqdm(
        total=total,
        initial=done,
        desc=name,
        unit="",
        bar_format=_LINE,
        file=_Lines(),
        mininterval=_LINE_INTERVAL_S,
        maxinterval=_LINE_INTERVAL_S,
    )
