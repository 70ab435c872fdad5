"""WFDB records: a text header (`.hea`) and binary samples (`.dat`, or `.mat` as in the CinC challenges).

The header is parsed here, strictly, from https://physionet.org/physiotools/wag/header-5.htm; the samples of all
uncompressed formats are decoded by wfdb. `wfdb.rdrecord` is not called, for four reasons: it refuses record names with
a dot, which CinC-2021's Georgia headers have (`E07500.mat 12 500 5000`); it drops non-ASCII characters, so a gain in
uV spelled with a micro sign reads as volts; it skips what it does not understand, so a damaged unit becomes mV; and it
opens paths through fsspec, which follows URLs. Here wfdb is handed bytes and sees no path. A header's comment
lines hold names and diagnoses: they are dropped unread, and no message quotes them.
"""

import math
import os
import re
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from wfdb.io import _signal as wfdb_signal  # wfdb's decoders of sample formats have no public name

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.quotable_unit import QUOTABLE_UNIT
from keras_ecg_mae.recordings.recording import Recording

# More is no header: the largest of PhysioNet's are some kB.
LARGEST_HEADER_BYTES = 1 << 20
# Twelve leads at 1000 Hz for 46 minutes: 256 MiB of float64. Longer (Holter) records need cutting beforehand.
LARGEST_RECORD_SAMPLES = 1 << 25

MILLIVOLTS_PER = {"mv": 1.0, "uv": 1e-3, "\N{MICRO SIGN}v": 1e-3, "\N{GREEK SMALL LETTER MU}v": 1e-3, "v": 1e3}

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
        (\s+ -?[0-9]{1,18} (\s+ -?[0-9]{1,18})?)?)?)?)?
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
    millivolts_per_unit: float
    lead: str


@dataclass(frozen=True)
class Header:
    """A header's record line and signal lines; `frames` is None where it leaves the length to the file's size."""

    rate_hz: float
    frames: int | None
    signals: tuple[Signal, ...]


def is_wfdb(path: str) -> bool:
    """Whether `path` names a WFDB record: its header, one of its sample files, or neither's extension."""
    return header_file(path) is not None


def read_wfdb(path: str) -> Recording:
    """Reads a single-segment WFDB record.

    Args:
        path: the record, with or without `.hea`, `.dat` or `.mat`.

    Returns:
        all leads in millivolts, float64; NaN where the format's 'invalid sample' value is stored.

    Raises:
        RecordingError: and nothing else, whatever the files hold.
    """
    header_path = header_file(path)
    if header_path is None:
        raise RecordingError(path, "missing", "Expected a WFDB header (.hea) for this record. Received none.")
    header = parse_header(path, read_header(path, header_path))
    folder = os.path.dirname(header_path)
    rows: list[np.ndarray] = []
    for name, group in groupby(header.signals, key=lambda signal: signal.file):
        rows += decode_file(path, os.path.join(folder, name), header, tuple(group))
    if len({row.size for row in rows}) > 1:
        raise RecordingError(path, "malformed", "Expected all leads to have one length. Received several.")
    return Recording(
        path=path,
        leads=tuple(signal.lead for signal in header.signals),
        sampling_rate_hz=header.rate_hz * header.signals[0].samples_per_frame,
        ecg_mv=np.stack([millivolts(row, signal) for row, signal in zip(rows, header.signals, strict=True)]),
        format="wfdb",
    )


def header_file(path: str) -> str | None:
    """The header that belongs to `path`, or None."""
    stem, extension = os.path.splitext(path)
    candidates = [path] if extension == ".hea" else [path + ".hea"]
    if extension in (".dat", ".mat"):
        candidates.append(stem + ".hea")
    return next((name for name in candidates if os.path.isfile(name)), None)


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
        received = (match["rate"] or "none")[:24]
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
    unit = match["unit"] or "mV"  # header(5): a gain without a unit is one for millivolts
    if unit.lower() not in MILLIVOLTS_PER:
        received = unit if QUOTABLE_UNIT.fullmatch(unit) else "none of them"
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
        millivolts_per_unit=MILLIVOLTS_PER[unit.lower()],
        lead=match["lead"],
    )


def number(text: str | None) -> float | None:
    """The number that `text` spells, None where it spells none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def decode_file(path: str, file: str, header: Header, signals: tuple[Signal, ...]) -> list[np.ndarray]:
    """The digital samples of all signals of one file, one array of `frames * samples_per_frame` a signal."""
    sample_format, offset = signals[0].format, signals[0].offset
    if any((signal.format, signal.offset) != (sample_format, offset) for signal in signals):
        raise RecordingError(path, "malformed", "Expected one format and offset in each sample file. Received several.")
    if not os.path.isfile(file):
        raise RecordingError(
            path, "missing", "Expected the sample file that the header names beside it. Received no such file."
        )
    try:
        stored_bytes = os.path.getsize(file) - offset
        frames = stored_frames(path, header, stored_bytes, signals)
        dtype = np.dtype(wfdb_signal.DATA_LOAD_TYPES[sample_format])
        count = needed_bytes(frames, signals) // dtype.itemsize
        stored = np.fromfile(file, dtype, count=count, offset=offset)
        decoded: list[np.ndarray] = wfdb_signal._rd_dat_signals(
            file_name="",
            dir_name="",
            pn_dir=None,
            fmt=sample_format,
            n_sig=len(signals),
            sig_len=frames,
            byte_offset=0,
            samps_per_frame=[signal.samples_per_frame for signal in signals],
            skew=[signal.skew for signal in signals],
            init_value=[signal.first for signal in signals],
            sampfrom=0,
            sampto=frames,
            no_file=True,
            sig_data=stored,
        )
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected readable samples. Received {error.strerror}.") from error
    except Exception as error:  # wfdb raises bare Exceptions, and what NumPy raises depends on the bytes
        raise RecordingError(
            path, "malformed", f"Expected samples that decode as format {sample_format}. Received others."
        ) from error
    return decoded


def needed_bytes(frames: int, signals: tuple[Signal, ...]) -> int:
    """The bytes that `frames` of these signals fill, padding of the packed formats included."""
    values = frames * sum(signal.samples_per_frame for signal in signals)
    return int(wfdb_signal._required_byte_num("read", signals[0].format, values))


def stored_frames(path: str, header: Header, stored_bytes: int, signals: tuple[Signal, ...]) -> int:
    """How many frames to read: what the header promises, if the file's `stored_bytes` hold them, or else all."""
    values_per_frame = sum(signal.samples_per_frame for signal in signals)
    bytes_per_frame = values_per_frame * wfdb_signal.BYTES_PER_SAMPLE[signals[0].format]
    available = max(0, int(stored_bytes / bytes_per_frame))
    promised = available if header.frames is None else header.frames
    if promised == 0 or needed_bytes(promised, signals) > stored_bytes:
        raise RecordingError(
            path, "truncated", f"Expected {max(promised, 1)} samples a signal. Received {available} in the file."
        )
    samples = promised * sum(signal.samples_per_frame for signal in header.signals)
    if samples > LARGEST_RECORD_SAMPLES:
        raise RecordingError(
            path, "too_long", f"Expected at most {LARGEST_RECORD_SAMPLES} samples in all. Received {samples}."
        )
    if any(signal.skew >= promised for signal in signals):
        raise RecordingError(path, "malformed", "Expected a skew shorter than the recording. Received a longer one.")
    return promised


def millivolts(digital: np.ndarray, signal: Signal) -> np.ndarray:
    """Digital samples to physical ones, float64; the format's 'invalid' value becomes NaN."""
    with np.errstate(over="ignore"):  # a gain of 1e-300 gives infinity, which conforming refuses
        physical = (digital.astype(np.float64) - signal.baseline) / signal.gain * signal.millivolts_per_unit
    invalid = wfdb_signal.INVALID_SAMPLE_VALUE[signal.format]
    if invalid is not None:
        physical[digital == invalid] = np.nan
    return physical
