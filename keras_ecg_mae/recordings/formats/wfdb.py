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

import numpy as np

from keras_ecg_mae.recordings.formats.sidecar import what_is_unsaid
from keras_ecg_mae.recordings.leads_and_units import carried_name
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source, is_file

RECORD_LINE = re.compile(
    r"""(?P<name>\S+?) (/(?P<segments>[0-9]+))?
    \s+ (?P<signals>[0-9]+)
    (\s+ (?P<rate>[0-9.eE+-]+) (/\S*)?
        (\s+ (?P<samples>[0-9]+) (\s .*)?)?   # what follows is the time and date of recording: not read
    )?""",
    re.VERBOSE,
)
SIGNAL_LINE = re.compile(
    r"""(?P<file>\S+)
    \s+ (?P<format>[0-9]+) (x(?P<samples_per_frame>[0-9]+))? (:(?P<skew>[0-9]+))? (\+(?P<offset>[0-9]+))?
    \s+ (?P<gain>[0-9.eE+-]+) (\((?P<baseline>-?[0-9]+)\))? (/(?P<unit>\S+))?
    (\s+ [0-9]+ (\s+ (?P<zero>-?[0-9]+) (\s+ (?P<first>-?[0-9]+)
        (\s+ (?P<checksum>-?[0-9]+) (\s+ -?[0-9]+)?)?)?)?)?
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
    by_file: dict[str, list[int]] = {}
    for place, signal in enumerate(signals):
        by_file.setdefault(signal.file, []).append(place)
    decoded: dict[int, np.ndarray] = {}
    for places in by_file.values():
        decoded |= zip(places, decode_file(source, header, frames, [signals[place] for place in places]), strict=True)
    rows = [decoded[place] for place in range(len(signals))]
    leads = name_leads(source, signals)
    if frames is not None:
        check_sums(source, leads, rows, signals)
    ecg_mv = np.stack([to_millivolts(row, signal) for row, signal in zip(rows, signals, strict=True)])
    return Recording(source.path, leads, rate_hz * signals[0].samples_per_frame, ecg_mv, "wfdb")


def header_file(path: str) -> str | None:
    """The header that belongs to `path`, or None."""
    stem, extension = os.path.splitext(path)
    candidates = [path] if extension == ".hea" else [path + ".hea"]
    if extension in (".dat", ".mat"):
        candidates.append(stem + ".hea")
    return next((name for name in candidates if is_file(name)), None)


def parse_header(source: Source, header: str) -> tuple[float, int | None, list[WfdbSignal]]:
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
    source.expect(not match["segments"], "unknown_format", "Expected a record of one segment. Received several.")
    promised, received = int(match["signals"]), len(lines) - 1
    has_all = f"The header promises {promised} signals and has {received} signal lines."
    source.expect(0 < promised == received, "malformed", has_all)
    # header(5) lets a reader assume 250 Hz where none is stated; here somebody has to say it.
    if match["rate"] is None:
        rate_hz = what_is_unsaid(source, "the sampling rate", "sampling_rate_hz")[0]
    else:
        rate_hz = float(match["rate"])
    signals = [parse_signal(source, index, line) for index, line in enumerate(lines[1:], start=1)]
    one_rate = len({signal.samples_per_frame for signal in signals}) == 1
    source.expect(one_rate, "unknown_format", "Expected one sampling rate for all leads. Received several.")
    return rate_hz, int(match["samples"] or 0) or None, signals


def parse_signal(source: Source, index: int, line: str) -> WfdbSignal:
    """The meaning of signal line `index`, counted from 1."""
    match = SIGNAL_LINE.fullmatch(line)
    if match is None:
        raise source.refusal("malformed", f"Signal line {index} must have: file, format, gain/unit, numbers, lead.")
    is_beside = match["file"] not in ("..", ".") and not set(match["file"]) & set("/\\:")
    source.expect(is_beside, "outside_root", f"The samples of signal {index} must lie in a file beside the header.")
    received = f"Expected signal {index} in a format of {', '.join(FORMATS)}. Received {match['format']}."
    source.expect(match["format"] in FORMATS, "unknown_format", received)
    gain = float(match["gain"])
    # header(5) lets a reader assume 200 units a millivolt here, and calls such a signal uncalibrated.
    is_calibrated = gain != 0 and math.isfinite(gain)
    source.expect(is_calibrated, "unit", f"Signal {index} is uncalibrated: it must have a gain.")
    # header(5): a gain without a unit is one for millivolts
    unit_mv = source.millivolts_per((match["unit"] or "mV").lower(), f"Signal {index}")
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
        millivolts_per_unit=unit_mv,
        lead=carried_name(index, match["lead"]) if match["lead"] else "",
    )


def name_leads(source: Source, signals: list[WfdbSignal]) -> tuple[str, ...]:
    """The leads' names: the header's, or a sidecar's or the settings' where the header leaves some unsaid."""
    unnamed = [index for index, signal in enumerate(signals, start=1) if not signal.lead]
    if not unnamed:
        return tuple(signal.lead for signal in signals)
    leads = what_is_unsaid(source, f"the lead of signal {unnamed[0]}", "leads")
    source.expect(len(leads) == len(signals), "leads", f"Expected {len(signals)} leads. Received {len(leads)}.")
    return tuple(carried_name(index, lead) for index, lead in enumerate(leads, start=1))


def decode_file(source: Source, header: str, frames: int | None, signals: list[WfdbSignal]) -> list[np.ndarray]:
    """The digital samples of all signals of one file, one array of `frames * samples_per_frame` a signal."""
    file, stem = os.path.join(os.path.dirname(header), signals[0].file), os.path.splitext(header)[0]
    # Any other name than the record's own stands in the header alone, where an outsider may have put it.
    if os.path.islink(file) and file not in (stem + ".dat", stem + ".mat"):
        places = os.path.realpath(os.path.dirname(header)), os.path.dirname(os.path.realpath(header))
        is_inside = os.path.dirname(os.path.realpath(file)) in places
        source.expect(is_inside, "outside_root", "The samples' file is a link out of the header's folder.")
    source.expect(is_file(file), "missing", "The sample file that the header names is not beside it.")
    dtype, sample_bytes, _ = FORMATS[signals[0].format]
    per_frame = sum(signal.samples_per_frame for signal in signals)
    stored_bytes = os.path.getsize(file) - signals[0].offset
    available = max(0, int(stored_bytes / (per_frame * sample_bytes)))
    promised = available if frames is None else frames
    needed = math.ceil(promised * per_frame * sample_bytes)
    received = f"Expected {max(promised, 1)} samples a signal. Received {available} in the file."
    source.expect(0 < needed <= stored_bytes, "truncated", received)
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


def check_sums(source: Source, leads: tuple[str, ...], rows: list[np.ndarray], signals: list[WfdbSignal]) -> None:
    """Refuses a lead whose samples are not those that its checksum was made of.

    header(5): the sum of all samples, of which 16 bits are kept; it holds where all of a known length was read, and may
    be 0 where it was not taken. Samples that a skew moves past the end are not read.
    """
    for index, (lead, row, signal) in enumerate(zip(leads, rows, signals, strict=True), start=1):
        # Running over at 32 bits, which is fast, changes nothing at 16.
        read, promised = int(row.sum(dtype=np.int32)) % (1 << 16), signal.checksum % (1 << 16)
        received = f"Signal {index} ({lead}) has checksum {promised} in the header, and samples of {read}"
        is_right = not signal.checksum or signal.skew or read == promised
        source.expect(is_right, "malformed", f"{received}: another file's, or damaged.")


def to_millivolts(digital: np.ndarray, signal: WfdbSignal) -> np.ndarray:
    """A signal's samples in millivolts, `(samples,)`; NaN where one is missing, or past a skew's end."""
    row_mv = digital.astype(np.float64)
    row_mv -= signal.baseline
    row_mv /= signal.gain
    row_mv *= signal.millivolts_per_unit
    missing = FORMATS[signal.format][2]
    if missing is not None:
        row_mv[digital == missing] = np.nan
    skew = signal.skew * signal.samples_per_frame
    return np.pad(row_mv[skew:], (0, skew), constant_values=np.nan) if skew else row_mv
