"""WFDB records: a text header (`.hea`) and binary samples (`.dat`, or `.mat` as in the CinC challenges).

`wfdb_header.py` parses the header, and wfdb decodes the samples of all uncompressed formats. `wfdb.rdrecord` is not
called, for four reasons: it refuses record names with a dot, which CinC-2021's Georgia headers have (`E07500.mat 12 500
5000`); it drops non-ASCII characters, so a gain in uV spelled with a micro sign reads as volts; it skips what it does
not understand, so a damaged unit becomes mV; and it opens paths through fsspec, which follows URLs. Here wfdb is handed
bytes and sees no path.
"""

import os
from itertools import groupby

import numpy as np
from wfdb.io import _signal as wfdb_signal  # wfdb's decoders of sample formats have no public name

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.wfdb_header import Header, Signal, parse_header, read_header
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

# Twelve leads at 1000 Hz for 46 minutes: 256 MiB of float64. Longer (Holter) records need cutting beforehand.
LARGEST_RECORD_SAMPLES = 1 << 25
CHECKSUMS = 1 << 16  # of 16 bits, written as signed or unsigned numbers


def is_wfdb(source: Source) -> bool:
    """Whether the path names a WFDB record: its header, one of its sample files, or neither's extension."""
    return header_file(source.path) is not None


def read_wfdb(source: Source) -> Recording:
    """Reads a single-segment WFDB record.

    Returns:
        all leads in millivolts, float64; NaN where the format's 'invalid sample' value is stored.

    Raises:
        RecordingError: and nothing else, whatever the files hold.
    """
    path = source.path
    header_path = header_file(path)
    if header_path is None:
        raise RecordingError(path, "missing", "Expected a WFDB header (.hea) for this record. Received none.")
    header = parse_header(path, read_header(path, header_path))
    folder = os.path.dirname(header_path)
    rows: list[np.ndarray] = []
    for name, group in groupby(header.signals, key=lambda signal: signal.file):
        file = os.path.join(folder, name)
        check_place(path, file, header_path)
        rows += decode_file(path, file, header, tuple(group))
    if len({row.size for row in rows}) > 1:
        raise RecordingError(path, "malformed", "Expected all leads to have one length. Received several.")
    if header.frames is not None:
        check_sums(path, header, rows)
    with np.errstate(over="ignore"):  # a gain of 1e-300 gives infinity, which conforming refuses
        ecg_mv = np.stack([millivolts(row, signal) for row, signal in zip(rows, header.signals, strict=True)])
    return Recording(
        path=path,
        leads=tuple(signal.lead for signal in header.signals),
        sampling_rate_hz=header.rate_hz * header.signals[0].samples_per_frame,
        ecg_mv=ecg_mv,
        format="wfdb",
    )


def header_file(path: str) -> str | None:
    """The header that belongs to `path`, or None."""
    stem, extension = os.path.splitext(path)
    candidates = [path] if extension == ".hea" else [path + ".hea"]
    if extension in (".dat", ".mat"):
        candidates.append(stem + ".hea")
    return next((name for name in candidates if os.path.isfile(name)), None)


def check_place(path: str, file: str, header_path: str) -> None:
    """Raises `RecordingError` `outside_root` where a sample file is a link that leads out of the header's folder.

    A record's own `.dat` or `.mat` may be one: whoever names the record sees these names. Any other name stands in the
    header alone, where an outsider may have put it.
    """
    stem = os.path.splitext(header_path)[0]
    if os.path.islink(file) and file not in (stem + ".dat", stem + ".mat"):
        places = os.path.realpath(os.path.dirname(header_path)), os.path.dirname(os.path.realpath(header_path))
        if os.path.dirname(os.path.realpath(file)) not in places:
            raise RecordingError(
                path, "outside_root", "Expected sample files beside the header. Received a link to another place."
            )


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


def check_sums(path: str, header: Header, rows: list[np.ndarray]) -> None:
    """Raises `RecordingError` `malformed` where a lead's samples are not those that its checksum was made of.

    header(5): the sum of all samples, of which 16 bits are kept; it holds where all of a known length was read, and may
    be 0 where it was not taken. Samples that a skew moves past the end are not read.
    """
    for number, (row, signal) in enumerate(zip(rows, header.signals, strict=True), start=1):
        if signal.checksum and not signal.skew:
            # Running over at 32 bits, which is fast, changes nothing at 16.
            read, promised = int(row.sum(dtype=np.int32)) % CHECKSUMS, signal.checksum % CHECKSUMS
            if read != promised:
                raise RecordingError(
                    path,
                    "malformed",
                    f"Expected signal {number} ({signal.lead}) to have the header's checksum, {promised}. "
                    f"Received samples of {read}: another file's, or damaged.",
                )


def millivolts(digital: np.ndarray, signal: Signal) -> np.ndarray:
    """Digital samples to physical ones, float64; the format's 'invalid' value becomes NaN."""
    physical = (digital.astype(np.float64) - signal.baseline) / signal.gain * signal.millivolts_per_unit
    invalid = wfdb_signal.INVALID_SAMPLE_VALUE[signal.format]
    if invalid is not None:
        physical[digital == invalid] = np.nan
    return physical
