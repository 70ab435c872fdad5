"""From bare arrays to a `Recording`: which array, which of its records, which way round, and in millivolts."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.formats.sidecar import (
    KNOWN_NAMES,
    SCALES,
    Named,
    Statement,
    check_said,
    plain_name,
    read_sidecar,
    said_by_names,
    unsaid,
    what_is_said,
)
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, carried_name, lead_name
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

# What the array with the records' ids is called, the surest first.
ID_NAMES = ("examid", "ecgid", "recordid", "ids", "id")
# A table with an empty cell has 22.0 for 22.
WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,18})(?:\.0{0,9})?")
# CODE-15 pads all records to one length with zeros at both ends. A shorter run of zeros in all leads may be signal.
SHORTEST_PADDING = 10
# So many leads at least must a recording have (`conform.lead_rows`): fewer arrays of such names may be anything.
FEWEST_LEADS = 8
WORD = re.compile(r"[A-Za-z0-9]+")
# Beside the rhythm, as UK Biobank's files have it; here as in other formats the rhythm is read.
AVERAGED_BEAT = re.compile(r"median|average|template|beat", re.IGNORECASE)


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, not read yet.

    Attributes:
        name: what the file calls it, behind the groups or structures it lies in; of an array a lead, with `*` in place
            of the lead.
        shape: of all of it.
        dtype: of its elements.
        read: all of it, or, for an array of records, the one at this place of its first axis.
        parts: the names of the arrays that it is made of, where each is a lead.
        leads: their leads.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[int | None], np.ndarray]
    parts: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()


def values_in(array: object) -> list[object]:
    """The numbers and texts of what a library returns for a scalar, an array or a list, in one row."""
    values = np.asarray(array).reshape(-1).tolist()
    texts = (value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values)
    return [text.rstrip(" \0") if isinstance(text, str) else text for text in texts]  # padded to one length


def read_arrays(source: Source, key: str, arrays: Iterable[StoredArray], named: Sequence[Named]) -> Recording:
    """The recording that a file of arrays holds, or the one of many that `#ID` names.

    Args:
        source: the file.
        key: as `Recording.format` has it.
        arrays: all that may be samples or ids.
        named: the values of `KNOWN_NAMES` and `SCALES` in the file.

    Raises:
        RecordingError: it is not clear which array, which record, which way round, or what the numbers mean.
    """
    arrays = [without_single_axes(array) for array in arrays]
    leads = [item for item in named if KNOWN_NAMES.get(plain_name(item[1])) == "leads"]
    array = choose_array(source, arrays, lambda array: said_by_names(source, beside(array, leads)).leads)
    row = choose_record(source, array, arrays)
    in_file = said_by_names(source, beside(array, named))
    said = what_is_said(source, replace(in_file, leads=array.leads or in_file.leads))
    shape = array.shape[-2:]
    check_said(source, said, min(shape))
    leads_first = is_leads_first(source, shape, len(said.leads))
    samples = array.read(row if len(array.shape) == 3 else None)
    samples = samples if leads_first else samples.T
    scaled = any(SCALES.search(plain_name(name)) for _, name, _ in beside(array, named))
    return to_recording(source, key, samples if len(array.shape) == 2 else without_padding(samples), said, scaled)


def beside(array: StoredArray, named: Sequence[Named]) -> list[Named]:
    """The names that stand beside an array, or beside what it lies in: another signal's rate is not its own."""
    parts = array.parts or (array.name,)
    return [item for item in named if not item[0] or any(f"{part}/".startswith(f"{item[0]}/") for part in parts)]


def without_single_axes(array: StoredArray) -> StoredArray:
    """An array without its axes of length 1. EchoNext's has (records, 1, samples, 12)."""
    shape = tuple(length for length in array.shape if length != 1)

    def read(row: int | None) -> np.ndarray:
        if row is not None and array.shape[0] == shape[0]:
            return array.read(row).reshape(shape[1:])
        whole = array.read(None).reshape(shape)
        return whole if row is None else whole[row]

    return replace(array, shape=shape, read=read)


def choose_array(
    source: Source, arrays: list[StoredArray], leads_beside: Callable[[StoredArray], Sequence[str]]
) -> StoredArray:
    """The array that the sidecar names, else the only one with an axis of as many as there are leads."""
    numbers = [array for array in arrays if array.dtype.kind in "fiu" and 0 not in array.shape]
    of_leads = arrays_of_leads(source, numbers)
    sidecar = read_sidecar(source)
    parts = {part for array in of_leads for part in array.parts}
    found = [*of_leads, *(array for array in numbers if len(array.shape) in (2, 3) and array.name not in parts)]
    if sidecar.array:
        found = [array for array in found if array.name == sidecar.array.strip("/")]
    elif len(found) > 1:
        stated = {array: sidecar.leads or leads_beside(array) or source.signal.leads for array in found}
        found = [array for array in found if array.leads or len(stated[array]) in array.shape[-2:]] or found
    named = " called as the sidecar says" if sidecar.array else ""
    expected = f"Expected an array of numbers{named}, of leads and samples, or arrays that are named after their leads."
    source.expect(found, "unknown_format", expected)
    if len(found) > 1:
        shapes = ", ".join(str(array.shape) for array in found[:12])
        what = f"which of {len(found)} arrays it is, of shapes {shapes}"
        raise unsaid(source, what_is_said(source, Statement()), ["array"], what=what)
    return found[0]


def arrays_of_leads(source: Source, numbers: Iterable[StoredArray]) -> list[StoredArray]:
    """One array, `(leads, samples)`, for each set of arrays that differ by a lead in their name alone.

    With an axis of records, which each lead has first, it is `(records, leads, samples)`.
    """
    sets: dict[str, list[tuple[str, StoredArray]]] = {}
    for array in numbers:
        words = [word for word in WORD.finditer(array.name) if lead_name(word[0])]
        if len(array.shape) in (1, 2) and words and not AVERAGED_BEAT.search(array.name):
            start, end = words[-1].span()
            name = f"{array.name[:start]}*{array.name[end:]}"
            sets.setdefault(name, []).append((str(lead_name(array.name[start:end])), array))
    found = []
    for name, named in sets.items():
        by_lead = dict(named)
        leads = tuple(lead for lead in spec.LEADS if lead in by_lead)
        if len(leads) < FEWEST_LEADS:
            continue
        each = [by_lead[lead] for lead in leads]
        source.expect(len(named) == len(by_lead), "leads", "Expected one array of each lead. Received two of one.")
        one_length = len({array.shape for array in each}) == 1
        source.expect(one_length, "malformed", "Expected as many samples of each lead. Received others.")

        def read(row: int | None, each: list[StoredArray] = each) -> np.ndarray:
            return np.stack([array.read(row) for array in each], axis=-2)

        shape = (*each[0].shape[:-1], len(each), each[0].shape[-1])
        dtype = np.result_type(*(array.dtype for array in each))
        parts = tuple(array.name for array in each)
        found.append(StoredArray(name, shape, dtype, read, parts, leads))
    return found


def choose_record(source: Source, array: StoredArray, arrays: Iterable[StoredArray]) -> int:
    """The place of the record that `#ID` names: among the file's ids, or ID itself, from 0, where it has none."""
    records = array.shape[0] if len(array.shape) == 3 else 1
    if source.record_id is None and records == 1:
        return 0
    by_name = {plain_name(other.name.rpartition("/")[2]): other for other in arrays if np.prod(other.shape) == records}
    name = next((name for name in ID_NAMES if name in by_name), None)
    ids = range(records) if name is None else values_in(by_name[name].read(None))
    number = WHOLE_NUMBER.fullmatch(source.record_id or "")
    wanted = {source.record_id, int(number[1]) if number else source.record_id}
    rows = [row for row, each in enumerate(ids) if each in wanted]
    named_by = f"its {name}" if name else "its number, counted from 0"
    expected = f"Expected FILE#ID, where ID names one of {records} recordings by {named_by}."
    source.expect(source.record_id is not None, "missing", f"{expected} Received no #ID.")
    source.expect(len(rows) == 1, "missing", f"{expected} Received one that names {len(rows)}.")
    return rows[0]


def is_leads_first(source: Source, shape: tuple[int, ...], leads: int) -> bool:
    """Whether `shape` is (leads, samples) rather than (samples, leads), as the number of leads decides."""
    is_told = (shape[0] == leads) != (shape[1] == leads)
    source.expect(is_told, "leads", f"Expected one axis of {leads} leads. Received shape {shape}.")
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


def to_recording(source: Source, key: str, samples: np.ndarray, said: Statement, scaled: bool = False) -> Recording:
    """`samples` `(leads, samples)` as millivolts, float64.

    A gain and a baseline are for digital units, so for whole numbers; what they make of them are millivolts. Samples
    with fractions are in their unit already, and a gain beside them tells of the device.

    Args:
        source: the file.
        key: as `Recording.format` has it.
        samples: in whatever unit.
        said: of them.
        scaled: whether something that may be a gain or an offset stands beside them, of which nobody knows which way it
            is meant.

    Raises:
        RecordingError: what is said cannot be meant for such samples.
    """
    integers = samples.dtype.kind in "iu"
    whole = integers or bool(((samples == np.trunc(samples)) | np.isnan(samples)).all())
    if whole and not said.gain_per_mv and (scaled or (integers and set(said.unit) - {"uV", "nV"})):
        what = "how the scale or offset beside" if scaled else "the gain of"
        meaning = f"{what} its whole numbers{' is meant' if scaled else ''}"
        raise unsaid(source, replace(said, unit=()), ["gain_per_mv"], what=meaning)
    units_per_mv = np.array([1 / MILLIVOLTS_PER[unit] for unit in said.unit])
    baseline = np.array(said.baseline or [0.0])
    if whole and said.gain_per_mv:
        units_per_mv = np.array(said.gain_per_mv)
    elif not said.unit:
        raise unsaid(source, said, ["unit"], what="the unit of its fractions")
    source.expect(whole or not baseline.any(), "unit", "Expected a baseline with whole numbers. Received fractions.")
    ecg_mv = np.array(samples, dtype=np.float64, order="C")
    ecg_mv = (ecg_mv - baseline[:, None]) / units_per_mv[:, None]
    leads = tuple(carried_name(number, name) for number, name in enumerate(said.leads, start=1))
    return Recording(source.path, leads, said.sampling_rate_hz[0], ecg_mv, key)
