"""From bare arrays to a `Recording`: which array, which of its records, and which way round."""

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.array_millivolts import to_recording
from keras_ecg_mae.recordings.formats.known_names import plain_name
from keras_ecg_mae.recordings.formats.sidecar import Named, check_said, said_by_names, what_is_said
from keras_ecg_mae.recordings.recording import Recording

# Twelve leads at 1000 Hz for 46 minutes: 256 MiB of float64. Longer (Holter) records need cutting beforehand.
LARGEST_RECORD_SAMPLES = 1 << 25
# Ids of a file of many: numbers of 8 bytes, or texts.
LARGEST_IDS_BYTES = 1 << 28

# What arrays of samples are called, as `plain_name` writes it.
SIGNAL_NAMES = (
    *(
        "tracings",
        "tracing",
        "signal",
        "signals",
        "ecg",
        "ecgs",
        "ecgsignal",
        "ecgsignals",
        "ecgdata",
        "ecgmv",
        "ecguv",
    ),
    *("waveform", "waveforms", "psignal", "dsignal", "digital", "feats", "val", "data", "samples", "x"),
)
# What the array with the records' ids is called, the surest first.
ID_NAMES = ("examid", "examids", "ecgid", "ecgids", "recordid", "recordids", "recordname", "recordnames", "ids", "id")

# A table with an empty cell has 22.0 for 22.
WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,18})(?:\.0{0,9})?")

# CODE-15 pads all records to one length with zeros at both ends. A shorter run of zeros in all leads may be signal.
SHORTEST_PADDING = 10


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, not read yet.

    Attributes:
        name: what the file calls it.
        shape: of all of it.
        dtype: of its elements.
        read: all of it, or, for an array of records, the one at this place of its first axis. Raises nothing but
            `RecordingError`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[int | None], np.ndarray]

    @property
    def size(self) -> int:
        """How many elements it has, as a Python integer: declared shapes overflow NumPy's."""
        size = 1
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True)
class ArrayFile:
    """A file of arrays.

    Attributes:
        path: as the user named it, with `#ID` if there was one.
        file: the file alone.
        record_id: what stood after `#`, if anything.
        format: as `Recording.format` names it.
        arrays: all arrays that may be samples or ids.
        named: the values of well-known names.
    """

    path: str
    file: str
    record_id: str | None
    format: str
    arrays: tuple[StoredArray, ...]
    named: tuple[Named, ...] = ()


def read_array_file(content: ArrayFile, signal: Signal) -> Recording:
    """The recording that a file of arrays holds, or the one of many that `#ID` names.

    Raises:
        RecordingError: it is not clear which array, which record, which way round, or what the numbers mean.
    """
    path = content.path
    array = choose_array(content)
    row = choose_record(content, array) if len(array.shape) == 3 else None
    if row is None and content.record_id is not None:
        raise RecordingError(
            path, "missing", "Expected no #ID after a file whose array has no axis of records. Received one."
        )
    # Names that stand beside the array, or beside what it lies in; a rate of another group's signal is not its own.
    named = [item for item in content.named if not item[0] or f"{array.name}/".startswith(f"{item[0]}/")]
    said = what_is_said(path, content.file, said_by_names(path, named), signal)
    check_said(path, said)
    shape = array.shape[-2:] if row is not None else array.shape
    size = array.size // array.shape[0] if row is not None else array.size
    if size == 0:
        raise RecordingError(path, "truncated", "Expected at least one sample. Received an array of none.")
    if size > LARGEST_RECORD_SAMPLES:
        raise RecordingError(
            path, "too_long", f"Expected at most {LARGEST_RECORD_SAMPLES} samples in all. Received {size}."
        )
    leads_first = is_leads_first(path, shape, len(said.leads))
    samples = array.read(row)
    if samples.shape != shape or samples.dtype.kind not in "fiu":
        raise RecordingError(path, "malformed", "Expected real numbers as the file declares. Received others.")
    samples = samples.reshape(len(said.leads), -1) if samples.ndim == 1 else samples
    samples = samples if leads_first else samples.T
    return to_recording(path, content.format, samples if row is None else without_padding(samples), said)


def choose_array(content: ArrayFile) -> StoredArray:
    """The array of samples: one with a name of such, else the only one of two or three axes."""
    numbers = [without_single_axes(array) for array in content.arrays if array.dtype.kind in "fiu"]
    numbers = [array for array in numbers if 0 < len(array.shape) <= 3]
    matrices = [array for array in numbers if len(array.shape) > 1 and min(array.shape[-2:]) > 1]
    for candidates in (_called(matrices, SIGNAL_NAMES), matrices, _called(numbers, SIGNAL_NAMES)):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise RecordingError(
                content.path,
                "unknown_format",
                f"Expected one array of samples, or one with a name such as signal, ecg or tracings. "
                f"Received {len(candidates)}.",
            )
    raise RecordingError(
        content.path,
        "unknown_format",
        "Expected an array of numbers with an axis of leads and one of samples. Received none.",
    )


def without_single_axes(array: StoredArray) -> StoredArray:
    """An array of over three axes without those of length 1, the first apart. EchoNext's has (N, 1, samples, 12)."""
    if len(array.shape) <= 3:
        return array
    shape = array.shape[:1] + tuple(length for length in array.shape[1:] if length != 1)

    def read(row: int | None) -> np.ndarray:
        whole = shape if row is None else shape[1:]
        samples = array.read(row)
        return samples.reshape(whole) if samples.size == math.prod(whole) else samples

    return replace(array, shape=shape, read=read)


def _called(arrays: Iterable[StoredArray], names: tuple[str, ...]) -> list[StoredArray]:
    """Those with one of these names, whatever groups or structures they lie in."""
    return [array for array in arrays if plain_name(last_part(array.name)) in names]


def last_part(name: str) -> str:
    """The name of an array without the groups or structures it lies in."""
    return name.rsplit("/", 1)[-1]


def choose_record(content: ArrayFile, array: StoredArray) -> int:
    """The place of the record that `#ID` names: among the file's ids, or ID itself, from 0, where it has none."""
    path, record_id, records = content.path, content.record_id, array.shape[0]
    flat = [other for other in content.arrays if other.size == records == max(other.shape, default=0)]
    ids = next((found for name in ID_NAMES for found in _called(flat, (name,))), None)
    named_by = "its number, counted from 0" if ids is None else f"its {plain_name(last_part(ids.name))}"
    if record_id is None:
        if records == 1:
            return 0
        raise RecordingError(
            path,
            "missing",
            f"Expected FILE#ID, where ID names one of {records} recordings by {named_by}. Received no #ID.",
        )
    if ids is None:
        number = WHOLE_NUMBER.fullmatch(record_id)
        rows = [int(number[1])] if number and 0 <= int(number[1]) < records else []
    else:
        rows = rows_of_id(record_id, read_ids(content, ids))
    if len(rows) != 1:
        raise RecordingError(
            path,
            "missing",
            f"Expected #ID to name one of {records} recordings by {named_by}. Received one that names {len(rows)}.",
        )
    return rows[0]


def rows_of_id(record_id: str, ids: np.ndarray) -> list[int]:
    """Where `record_id` stands in `ids`, numbers or bytes of UTF-8."""
    if ids.dtype.kind == "S":
        return [int(row) for row in np.flatnonzero(ids == record_id.encode("utf-8", "surrogateescape"))]
    number = WHOLE_NUMBER.fullmatch(record_id)
    return [int(row) for row in np.flatnonzero(ids == int(number[1]))] if number else []


# The ids read last: a table names the records of one file one after another.
_last_ids: dict[tuple[str, int, int, str], np.ndarray] = {}


def read_ids(content: ArrayFile, ids: StoredArray) -> np.ndarray:
    """The ids of a file's records, in one row."""
    if ids.dtype.kind not in "fiuSU":
        raise RecordingError(content.path, "unknown_format", "Expected ids that are numbers or texts. Received others.")
    if ids.size * max(1, ids.dtype.itemsize) > LARGEST_IDS_BYTES:
        raise RecordingError(
            content.path, "too_long", f"Expected at most {LARGEST_IDS_BYTES} bytes of ids. Received {ids.size} of them."
        )
    try:
        status = os.stat(content.file)
    except OSError as error:
        raise RecordingError(
            content.path, "missing", f"Expected a readable file. Received {error.strerror}."
        ) from error
    key = (os.path.abspath(content.file), status.st_mtime_ns, status.st_size, ids.name)
    found = _last_ids.get(key)
    if found is None:
        found = ids.read(None).reshape(-1)
        _last_ids.clear()
        _last_ids[key] = found
    return found


def is_leads_first(path: str, shape: tuple[int, ...], leads: int) -> bool:
    """Whether `shape` is (leads, samples) rather than (samples, leads), as the number of leads decides."""
    if len(shape) == 1:
        shape = (1, *shape)
    if (shape[0] == leads) == (shape[1] == leads):
        which = "two of them" if shape[0] == leads else "none of them"
        raise RecordingError(
            path, "leads", f"Expected one axis of {leads} leads. Received shape {shape}: {which} has as many."
        )
    return shape[0] == leads


def without_padding(samples: np.ndarray) -> np.ndarray:
    """A record of many, `(leads, samples)`, without the padding that gives all of them one length.

    Padding is zero, or NaN, in all leads at once, from the first sample on or up to the last, `SHORTEST_PADDING`
    samples at least. A recording of nothing else is left as it is.
    """
    (filled,) = np.nonzero(((samples != 0) & ~np.isnan(samples)).any(axis=0))
    if filled.size == 0:
        return samples
    length = samples.shape[1]
    start, end = int(filled[0]), int(filled[-1]) + 1
    return samples[:, start if start >= SHORTEST_PADDING else 0 : end if length - end >= SHORTEST_PADDING else length]
