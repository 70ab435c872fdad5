"""The header of a WFDB record: text, parsed strictly from https://physionet.org/physiotools/wag/header-5.htm.

Its comment lines hold names and diagnoses: they are dropped unread, and no message quotes them.
"""

import math
import re
from dataclasses import dataclass
from itertools import groupby

from wfdb.io import _signal as wfdb_signal  # wfdb's decoders of sample formats have no public name

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, QUOTABLE_UNIT, carried_name, voltage_unit

# More is no header: the largest of PhysioNet's are some kB.
LARGEST_HEADER_BYTES = 1 << 20

# The header's grammar. Whole numbers stop at 18 digits, which int64 holds. No part between two `\s+` may match nothing:
# a line of a million spaces would then take minutes.
RECORD_LINE = re.compile(
    r"""(?P<name>\S+?) (/(?P<segments>[0-9]{1,18}))?
    \s+ (?P<signals>[0-9]{1,18})
    (\s+ (?P<rate>[0-9.eE+-]+) (/\S*)?
        (\s+ (?P<samples>[0-9]{1,18}) (\s .*)?)?   # what follows is the time and date of recording: not read
    )?""",
    re.VERBOSE,
)
SIGNAL_LINE = re.compile(
    r"""(?P<file>\S+)
    \s+ (?P<format>[0-9]{1,4}) (x(?P<samples_per_frame>[0-9]{1,18}))?
        (:(?P<skew>[0-9]{1,18}))? (\+(?P<offset>[0-9]{1,18}))?
    \s+ (?P<gain>[0-9.eE+-]+) (\((?P<baseline>-?[0-9]{1,18})\))? (/(?P<unit>\S+))?
    (\s+ [0-9]{1,18} (\s+ (?P<zero>-?[0-9]{1,18}) (\s+ (?P<first>-?[0-9]{1,18})
        (\s+ (?P<checksum>-?[0-9]{1,18}) (\s+ -?[0-9]{1,18})?)?)?)?)?
    (\s+ (?P<lead>\S .*))?""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Signal:
    """One signal line of a header: where the samples lie and what they mean."""

    file: str
    format: str
    samples_per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    first: int
    checksum: int
    millivolts_per_unit: float
    lead: str


@dataclass(frozen=True)
class Header:
    """A header's record line and signal lines; `frames` is None where it leaves the length to the file's size."""

    rate_hz: float
    frames: int | None
    signals: tuple[Signal, ...]


def read_header(path: str, header_path: str) -> list[str]:
    """The header's lines without comments and empty ones."""
    try:
        with open(header_path, "rb") as file:
            content = file.read(LARGEST_HEADER_BYTES + 1)
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable header. Received {error.strerror}.") from error
    if len(content) > LARGEST_HEADER_BYTES:
        raise RecordingError(path, "malformed", "Expected a header of at most 1 MiB. Received a larger one.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    return [line for line in lines if line and not line.startswith("#")]


def parse_header(path: str, lines: list[str]) -> Header:
    """The header's meaning. The record's name in it is not used, which is what lets Georgia's headers through."""
    match = RECORD_LINE.fullmatch(lines[0]) if lines else None
    if match is None:
        raise RecordingError(
            path, "malformed", "Expected the header to begin: name, signals, rate, samples. Received something else."
        )
    if match["segments"]:
        raise RecordingError(
            path, "unknown_format", f"Expected a record of one segment. Received {match['segments']} segments."
        )
    if int(match["signals"]) == 0 or int(match["signals"]) != len(lines) - 1:
        raise RecordingError(
            path,
            "malformed",
            f"Expected as many signal lines as the header promises, at least one. "
            f"Received {len(lines) - 1} lines and a promise of {int(match['signals'])}.",
        )
    rate_hz = number(match["rate"])
    # header(5) lets a reader assume 250 Hz where none is stated; a recording of unknown rate is refused instead.
    if rate_hz is None or not 0 < rate_hz < math.inf:
        received = "none" if match["rate"] is None else "no number" if rate_hz is None else match["rate"][:24]
        raise RecordingError(path, "sampling_rate", f"Expected a positive sampling rate in Hz. Received {received}.")
    signals = tuple(parse_signal(path, index, line) for index, line in enumerate(lines[1:], start=1))
    if len({signal.samples_per_frame for signal in signals}) > 1:
        raise RecordingError(path, "unknown_format", "Expected one sampling rate for all leads. Received several.")
    if len([file for file, _ in groupby(signals, key=lambda signal: signal.file)]) > len({s.file for s in signals}):
        raise RecordingError(
            path, "malformed", "Expected the signals of one file to stand together in the header. Received them apart."
        )
    return Header(rate_hz=rate_hz, frames=int(match["samples"] or 0) or None, signals=signals)


def parse_signal(path: str, index: int, line: str) -> Signal:
    """The meaning of signal line `index`, counted from 1."""
    match = SIGNAL_LINE.fullmatch(line)
    if match is None:
        raise RecordingError(
            path,
            "malformed",
            f"Expected signal line {index}: file, format, gain/unit, numbers, lead. Received another.",
        )
    name = match["file"]
    if name in ("..", ".") or any(character in name for character in "/\\:\0"):
        raise RecordingError(
            path, "outside_root", f"Expected signal {index} in a file beside the header. Received another place."
        )
    if match["format"] not in wfdb_signal.DATA_LOAD_TYPES:
        raise RecordingError(
            path,
            "unknown_format",
            f"Expected signal {index} in one of WFDB's uncompressed formats, "
            f"{', '.join(wfdb_signal.DATA_LOAD_TYPES)}. Received {match['format']}.",
        )
    gain = number(match["gain"])
    if gain is None or gain == 0 or not math.isfinite(gain):
        # header(5) lets a reader assume 200 units a millivolt here, and calls such a signal uncalibrated.
        raise RecordingError(path, "unit", f"Expected a gain for signal {index}. Received an uncalibrated signal.")
    spelled = match["unit"] or "mV"  # header(5): a gain without a unit is one for millivolts
    unit = voltage_unit(spelled.lower())
    if unit is None:
        received = spelled if QUOTABLE_UNIT.fullmatch(spelled) else "none of them"
        raise RecordingError(path, "unit", f"Expected signal {index} in mV, uV or V. Received {received}.")
    if match["lead"] is None:
        raise RecordingError(path, "leads", f"Expected signal {index} to name its lead. Received no name.")
    return Signal(
        file=name,
        format=match["format"],
        samples_per_frame=int(match["samples_per_frame"] or 1),
        skew=int(match["skew"] or 0),
        offset=int(match["offset"] or 0),
        gain=gain,
        baseline=int(match["baseline"] or match["zero"] or 0),
        first=int(match["first"] or 0),
        checksum=int(match["checksum"] or 0),
        millivolts_per_unit=MILLIVOLTS_PER[unit],
        lead=carried_name(index, match["lead"]),
    )


def number(text: str | None) -> float | None:
    """The number that `text` spells, None where it spells none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None
