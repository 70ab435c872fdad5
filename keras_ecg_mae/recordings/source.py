"""A file that a reader is asked about: its name, its first bytes, and what the settings say of it."""

import os
from dataclasses import dataclass, field
from functools import cached_property

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.xml import root_name
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, QUOTABLE_UNIT, voltage_unit

# A table of text without names needs this much to be known: two rows of 5000 samples.
HEAD_BYTES = 1 << 18


@dataclass(frozen=True)
class Source:
    """One recording's file, which is looked at once whatever its format.

    Attributes:
        path: as the user named it: a file, `FILE#ID`, or a WFDB record without an extension.
        signal: sampling rate, unit and leads of files that do not state theirs.
    """

    path: str
    signal: Signal = field(default_factory=Signal)

    @cached_property
    def file(self) -> str:
        """The file on disk: `path` without the `#ID` of a recording in a file of many."""
        return split_record_path(self.path)[0]

    @cached_property
    def record_id(self) -> str | None:
        """The ID of `FILE#ID`, None where the path has none."""
        return split_record_path(self.path)[1]

    @cached_property
    def head(self) -> bytes:
        """The file's first `HEAD_BYTES`, empty where they cannot be read."""
        try:
            if not is_file(self.file):
                return b""
            with open(self.file, "rb") as content:
                return content.read(HEAD_BYTES)
        except OSError:
            return b""

    @cached_property
    def root(self) -> str | None:
        """The name of an XML file's root element without its namespace, None for other files."""
        return root_name(self.head)

    @cached_property
    def content(self) -> bytes:
        """The whole file. Raises `RecordingError` `missing` where it cannot be read."""
        try:
            with open(self.file, "rb") as content:
                return content.read()
        except OSError as error:
            raise self.refusal("missing", f"Expected a readable file. Received {error.strerror}.") from None

    def refusal(self, code: str, detail: str) -> RecordingError:
        """The error that says why this recording cannot be used."""
        return RecordingError(self.path, code, detail)

    def expect(self, condition: object, code: str, detail: str) -> None:
        """Refuses this recording where the condition does not hold."""
        if not condition:
            raise self.refusal(code, detail)

    def millivolts_per(self, spelled: str, what: str) -> float:
        """How many millivolts a unit is. Raises `RecordingError` `unit`, naming `what`, where it is none of voltage."""
        unit = voltage_unit(spelled)
        if unit is None:
            received = f" It is in {spelled}." if QUOTABLE_UNIT.fullmatch(spelled) else ""
            raise self.refusal("unit", f"{what} must be in mV, uV or V.{received}")
        return MILLIVOLTS_PER[unit]


def split_record_path(path: str) -> tuple[str, str | None]:
    """The file and the id that `FILE#ID` names; `(path, None)` where no file is meant by what stands before a `#`.

    An existing file of exactly this name wins. Otherwise the last `#` after an existing file separates file and id.
    """
    if is_file(path):
        return path, None
    end = path.rfind("#")
    while end > 0:
        if is_file(path[:end]):
            return path[:end], path[end + 1 :]
        end = path.rfind("#", 0, end)
    return path, None


def is_file(path: str) -> bool:
    """Whether a file is there; a path that cannot be one (a null byte, too long) is none."""
    try:
        return os.path.isfile(path)
    except ValueError:
        return False
