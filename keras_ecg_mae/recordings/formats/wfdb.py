"""WFDB records: a text header (`.hea`) and binary samples (`.dat`, or `.mat` as in the CinC challenges).

https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm. `wfdb.rdrecord` is not called, for four reasons: it
refuses record names with a dot, which CinC-2021's Georgia headers have (`E07500.mat 12 500 5000`); it drops non-ASCII
characters, so a gain in uV spelled with a micro sign reads as volts; it skips what it does not understand, so a damaged
unit becomes mV; and it opens paths through fsspec, which follows URLs. A header's comments hold names and diagnoses:
they are dropped unread.
"""

import math
import os
import re
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from keras_ecg_mae.recordings.formats.sidecar import what_is_unsaid
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, QUOTABLE_UNIT, carried_name, voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source, is_file

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
# How each format's bytes are loaded, the bytes of a sample, and the value of a sample that is missing (signal-5).
FORMATS: dict[str, tuple[str, float, int | None]] = {
    "8": ("i1", 1, None),  # differences
    "16": ("<i2", 2, -(1 << 15)),
    "24": ("u1", 3, -(1 << 23)),
    "32": ("<i4", 4, -(1 << 31)),
    "61": (">i2", 2, -(1 << 15)),
    "80": ("u1", 1, -(1 << 7)),  # less 128
    "160": ("<u2", 2, -(1 << 15)),  # less 32768
    "212": ("u1", 3 / 2, -(1 << 11)),  # two of 12 bits in three bytes
    "310": ("u1", 4 / 3, -(1 << 9)),  # three of 10 bits in four bytes
    "311": ("u1", 4 / 3, -(1 << 9)),
}


@dataclass(frozen=True)
class WfdbSignal:
    """One signal line of a header: where the samples lie and what they mean; `lead` is empty without a name."""

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


def is_wfdb(source: Source) -> bool:
    """Whether the path names a WFDB record: its header, one of its sample files, or neither's extension."""
    return header_file(source.path) is not None


def read_wfdb(source: Source) -> Recording:
    """Reads a single-segment WFDB record: all leads; NaN where the format's value of a missing sample is stored."""
    header = header_file(source.path) or ""
    rate_hz, frames, signals = parse_header(source, header)
    rows: list[np.ndarray] = []
    for name, group in groupby(signals, key=lambda signal: signal.file):
        rows += decode_file(source, os.path.join(os.path.dirname(header), name), header, frames, tuple(group))
    if len({row.size for row in rows}) > 1:
        raise source.refusal("malformed", "Expected all leads to have one length. Received several.")
    leads = name_leads(source, header, signals)
    if frames is not None:
        check_sums(source, leads, rows, signals)
    ecg_mv = np.empty((len(rows), rows[0].size))
    with np.errstate(over="ignore"):  # a gain of 1e-300 gives infinity, which conforming refuses
        for row_mv, row, signal in zip(ecg_mv, rows, signals, strict=True):
            to_millivolts(row_mv, row, signal)
    return Recording(source.path, leads, rate_hz * signals[0].samples_per_frame, ecg_mv, "wfdb")


def header_file(path: str) -> str | None:
    """The header that belongs to `path`, or None."""
    stem, extension = os.path.splitext(path)
    candidates = [path] if extension == ".hea" else [path + ".hea"]
    if extension in (".dat", ".mat"):
        candidates.append(stem + ".hea")
    return next((name for name in candidates if is_file(name)), None)


def parse_header(source: Source, header: str) -> tuple[float, int | None, tuple[WfdbSignal, ...]]:
    """Rate, frames (None: as many as the file has) and signals. The record's name in the header is not used."""
    content = Source(header).content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line for raw in re.split(r"[\r\n]+", text) if (line := raw.strip()) and not line.startswith("#")]
    match = RECORD_LINE.fullmatch(lines[0]) if lines else None
    if match is None:
        raise source.refusal("malformed", "The header must begin with: name, signals, rate, samples.")
    if match["segments"]:
        raise source.refusal(
            "unknown_format", f"Expected a record of one segment. Received {match['segments']} segments."
        )
    if int(match["signals"]) == 0 or int(match["signals"]) != len(lines) - 1:
        raise source.refusal(
            "malformed", f"The header promises {int(match['signals'])} signals and has {len(lines) - 1} signal lines."
        )
    # header(5) lets a reader assume 250 Hz where none is stated; here somebody has to say it.
    if match["rate"] is None:
        rate_hz = what_is_unsaid(source, header, "the sampling rate", "sampling_rate_hz")[0]
    else:
        rate_hz = number(match["rate"])
    if rate_hz is None or not 0 < rate_hz < math.inf:
        raise source.refusal("sampling_rate", "The header must state a positive sampling rate in Hz.")
    signals = tuple(parse_signal(source, index, line) for index, line in enumerate(lines[1:], start=1))
    if len({signal.samples_per_frame for signal in signals}) > 1:
        raise source.refusal("unknown_format", "Expected one sampling rate for all leads. Received several.")
    if len([file for file, _ in groupby(signals, key=lambda signal: signal.file)]) > len({s.file for s in signals}):
        raise source.refusal("malformed", "The signals of one file must stand together in the header.")
    return rate_hz, int(match["samples"] or 0) or None, signals


def parse_signal(source: Source, index: int, line: str) -> WfdbSignal:
    """The meaning of signal line `index`, counted from 1."""
    match = SIGNAL_LINE.fullmatch(line)
    if match is None:
        raise source.refusal("malformed", f"Signal line {index} must have: file, format, gain/unit, numbers, lead.")
    if match["file"] in ("..", ".") or any(character in match["file"] for character in "/\\:\0"):
        raise source.refusal("outside_root", f"The samples of signal {index} must lie in a file beside the header.")
    if match["format"] not in FORMATS:
        raise source.refusal(
            "unknown_format",
            f"Expected signal {index} in one of WFDB's uncompressed formats {', '.join(FORMATS)}. "
            f"Received {match['format']}.",
        )
    gain = number(match["gain"])
    if gain is None or gain == 0 or not math.isfinite(gain):
        # header(5) lets a reader assume 200 units a millivolt here, and calls such a signal uncalibrated.
        raise source.refusal("unit", f"Signal {index} is uncalibrated: it must have a gain.")
    spelled = match["unit"] or "mV"  # header(5): a gain without a unit is one for millivolts
    unit = voltage_unit(spelled.lower())
    if unit is None:
        received = f"; it is in {spelled}" if QUOTABLE_UNIT.fullmatch(spelled) else ""
        raise source.refusal("unit", f"Signal {index} must be in mV, uV or V{received}.")
    return WfdbSignal(
        file=match["file"],
        format=match["format"],
        samples_per_frame=int(match["samples_per_frame"] or 1),
        skew=int(match["skew"] or 0),
        offset=int(match["offset"] or 0),
        gain=gain,
        baseline=int(match["baseline"] or match["zero"] or 0),
        first=int(match["first"] or 0),
        checksum=int(match["checksum"] or 0),
        millivolts_per_unit=MILLIVOLTS_PER[unit],
        lead=carried_name(index, match["lead"]) if match["lead"] else "",
    )


def number(text: str | None) -> float | None:
    """The number that `text` spells, None where it spells none."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def name_leads(source: Source, header: str, signals: tuple[WfdbSignal, ...]) -> tuple[str, ...]:
    """The leads' names: the header's, or a sidecar's or the settings' where the header leaves some unsaid."""
    unnamed = [index for index, signal in enumerate(signals, start=1) if not signal.lead]
    if not unnamed:
        return tuple(signal.lead for signal in signals)
    leads = what_is_unsaid(source, header, f"the lead of signal {unnamed[0]}", "leads")
    if len(leads) != len(signals):
        raise source.refusal("leads", f"Expected the names of {len(signals)} leads. Received {len(leads)}.")
    return tuple(carried_name(index, lead) for index, lead in enumerate(leads, start=1))


def decode_file(
    source: Source, file: str, header: str, frames: int | None, signals: tuple[WfdbSignal, ...]
) -> list[np.ndarray]:
    """The digital samples of all signals of one file, one array of `frames * samples_per_frame` a signal."""
    # Any other name than the record's own stands in the header alone, where an outsider may have put it.
    stem = os.path.splitext(header)[0]
    if os.path.islink(file) and file not in (stem + ".dat", stem + ".mat"):
        places = os.path.realpath(os.path.dirname(header)), os.path.dirname(os.path.realpath(header))
        if os.path.dirname(os.path.realpath(file)) not in places:
            raise source.refusal("outside_root", "The samples' file is a link out of the header's folder.")
    if len({(signal.format, signal.offset) for signal in signals}) > 1:
        raise source.refusal("malformed", "Expected one format and offset in each sample file. Received several.")
    if not is_file(file):
        raise source.refusal("missing", "The sample file that the header names is not beside it.")
    dtype, sample_bytes, _ = FORMATS[signals[0].format]
    per_frame = sum(signal.samples_per_frame for signal in signals)
    stored_bytes = os.path.getsize(file) - signals[0].offset
    available = max(0, int(stored_bytes / (per_frame * sample_bytes)))
    promised = available if frames is None else frames
    needed = math.ceil(promised * per_frame * sample_bytes)
    if promised == 0 or needed > stored_bytes:
        raise source.refusal(
            "truncated", f"Expected {max(promised, 1)} samples a signal. Received {available} in the file."
        )
    if any(signal.skew >= promised for signal in signals):
        raise source.refusal("malformed", "Expected a skew shorter than the recording. Received a longer one.")
    stored = np.fromfile(file, dtype, count=needed // np.dtype(dtype).itemsize, offset=signals[0].offset)
    values = unpack(stored, signals[0].format, promised * per_frame).reshape(promised, per_frame)
    rows, begin = [], 0
    for signal in signals:
        row = values[:, begin : begin + signal.samples_per_frame].reshape(-1)
        begin += signal.samples_per_frame
        rows.append(np.cumsum(row, dtype=np.int32) + np.int32(signal.first) if signal.format == "8" else row)
    return rows


def unpack(stored: np.ndarray, sample_format: str, count: int) -> np.ndarray:
    """The first `count` samples of bytes as `FORMATS` loads them."""
    match sample_format:
        case "24":
            wide = np.zeros((count, 4), np.uint8)
            wide[:, 1:] = stored.reshape(count, 3)
            return wide.view("<i4").reshape(-1) >> 8
        case "80":
            return stored.astype(np.int16) - 128
        case "160":
            return stored.astype(np.int32) - 32768
        case "212":
            low, both, high = np.pad(stored, (0, -stored.size % 3)).astype(np.int16).reshape(-1, 3).T
            values, bits = np.stack([low | (both & 0x0F) << 8, high | (both & 0xF0) << 4], axis=1), 12
        case "310":
            first, second = np.pad(stored, (0, -stored.size % 4)).view("<u2").astype(np.int16).reshape(-1, 2).T
            third = (first >> 11 & 0x1F) | (second >> 11 & 0x1F) << 5
            values, bits = np.stack([first >> 1 & 0x3FF, second >> 1 & 0x3FF, third], axis=1), 10
        case "311":
            word = np.pad(stored, (0, -stored.size % 4)).view("<u4")
            values, bits = np.stack([(word >> shift & 0x3FF).astype(np.int16) for shift in (0, 10, 20)], axis=1), 10
        case _:
            return stored
    values = values.reshape(-1)[:count]
    return np.where(values >= 1 << (bits - 1), values - (1 << bits), values)


def check_sums(source: Source, leads: tuple[str, ...], rows: list[np.ndarray], signals: tuple[WfdbSignal, ...]) -> None:
    """Refuses a lead whose samples are not those that its checksum was made of.

    header(5): the sum of all samples, of which 16 bits are kept; it holds where all of a known length was read, and may
    be 0 where it was not taken. Samples that a skew moves past the end are not read.
    """
    for index, (lead, row, signal) in enumerate(zip(leads, rows, signals, strict=True), start=1):
        # Running over at 32 bits, which is fast, changes nothing at 16.
        if signal.checksum and not signal.skew and (int(row.sum(dtype=np.int32)) - signal.checksum) % (1 << 16):
            read, promised = (value % (1 << 16) for value in (int(row.sum(dtype=np.int32)), signal.checksum))
            raise source.refusal(
                "malformed",
                f"Signal {index} ({lead}) has the checksum {promised} in the header, and samples of {read}: another "
                "file's, or damaged.",
            )


def to_millivolts(row_mv: np.ndarray, digital: np.ndarray, signal: WfdbSignal) -> None:
    """Fills `row_mv` `(samples,)` float64 from digital samples; NaN where one is missing, or past a skew's end."""
    row_mv[:] = digital
    row_mv -= signal.baseline
    row_mv /= signal.gain
    row_mv *= signal.millivolts_per_unit
    missing = FORMATS[signal.format][2]
    if missing is not None:
        row_mv[digital == missing] = np.nan
    if signal.skew:
        skew = signal.skew * signal.samples_per_frame
        row_mv[:] = np.concatenate([row_mv[skew:], np.full(skew, np.nan)])
