"""One door to every format."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.wfdb_reader import is_wfdb, read_wfdb


@dataclass(frozen=True)
class Reader:
    """A format: how to tell that a path is one, and how to read it.

    Attributes:
        format: as `Recording.format` and messages name it.
        recognizes: looks at the content, cheaply, and raises nothing.
        read: decodes, and raises nothing but `RecordingError`. The settings say what such files may leave unsaid;
            formats that describe themselves take no notice of them.
    """

    format: str
    recognizes: Callable[[str], bool]
    read: Callable[[str, Signal], Recording]


# Asked in this order; the first that recognizes the content reads it.
READERS: tuple[Reader, ...] = (
    Reader("WFDB (a .hea header beside the samples)", is_wfdb, lambda path, _: read_wfdb(path)),
)


def open_recording(path: str | os.PathLike[str], signal: Signal = Signal()) -> Recording:
    """Reads a recording, whichever known format it is in.

    Args:
        path: the file. A WFDB record also goes by its name without an extension.
        signal: sampling rate, unit and leads of files that do not state theirs.

    Raises:
        RecordingError: nothing is there, no reader knows it, or its reader refuses it.
    """
    path = os.fspath(path)
    for reader in READERS:
        if reader.recognizes(path):
            return reader.read(path, signal)
    if not os.path.exists(path):
        raise RecordingError(path, "missing", "Expected a recording at this path. Received none.")
    if not os.path.isfile(path):
        raise RecordingError(path, "missing", "Expected a file. Received a folder or a special file.")
    formats = ", ".join(reader.format for reader in READERS)
    raise RecordingError(path, "unknown_format", f"Expected one of {formats}. Received none of them.")
