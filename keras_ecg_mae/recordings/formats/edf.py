"""EDF, EDF+ and BDF: a header of text fields, then data records that hold some samples of each signal.

Kemp et al. 1992 and Kemp and Olivan 2003, both at https://www.edfplus.info/specs. The header has 256 bytes for the file
and 256 for each signal. Its fields with name, birth date, place and time are not looked at. Fields are to be filled up
with spaces; some writers fill them with NUL, which is read as a space.
"""

import re
from dataclasses import dataclass

import numpy as np

from keras_ecg_mae.recordings.formats.sidecar import what_is_unsaid
from keras_ecg_mae.recordings.leads_and_units import (
    LIMB_LEADS,
    MILLIVOLTS_PER,
    QUOTABLE_UNIT,
    carried_name,
    lead_name,
    lead_names,
    voltage_unit,
)
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

VERSIONS = {b"0       ": "EDF", b"\xffBIOSEMI": "BDF"}
SAMPLE_BYTES = {"EDF": 2, "BDF": 3}
HEADER_BYTES = 256  # of the file, and again of each signal
# The fields of a signal and their widths. The header has each field for all signals in turn.
SIGNAL_FIELDS = {
    "label": 16,
    "transducer type": 80,
    "unit": 8,
    "physical minimum": 8,
    "physical maximum": 8,
    "digital minimum": 8,
    "digital maximum": 8,
    "prefiltering": 80,
    "samples": 8,
    "reserved": 32,
}
# EDF+ names a signal by its kind and its place, which may say against what: "ECG V2", "ECG V2-Ref".
LEAD_LABEL = re.compile(r"(?:E[CK]G[ _:-]+)?(?P<lead>.*?)(?: ?- ?Ref)?", re.IGNORECASE)
FURTHER_CHEST_LEAD = re.compile(r"V[7-9]|V[2-9]R", re.IGNORECASE)
# EDF+, 2.2.4: the annotations of a data record begin with the record's time.
RECORD_TIME = re.compile(rb"([+-][0-9]{1,12}(?:\.[0-9]{1,15})?)\x14")


@dataclass(frozen=True)
class EdfSignal:
    """What the header says of a signal; its samples are at `columns` of each data record."""

    fields: dict[str, str]
    columns: slice

    @property
    def samples(self) -> int:
        return int(self.columns.stop - self.columns.start)


def is_edf(source: Source) -> bool:
    """Whether the file begins as EDF or BDF: a version of eight characters, and later the header's size and parts."""
    head = source.head[:HEADER_BYTES].replace(b"\0", b" ")
    return head[:8] in VERSIONS and head[184:192].strip().isdigit() and head[252:].strip().isdigit()


def read_edf(source: Source) -> Recording:
    """Reads the signals that are labelled as a lead; or all, where none is and a sidecar or the settings name them."""
    content = source.content
    head = content[:HEADER_BYTES].replace(b"\0", b" ")
    kind = VERSIONS[head[:8]]
    count, start = whole(source, "number of signals", head[252:]), whole(source, "size of the header", head[184:192])
    if count < 1 or start != HEADER_BYTES * (count + 1):
        raise source.refusal("malformed", f"A header of {start} bytes cannot have {count} signals.")
    record_s = decimal(source, "duration of a data record", head[244:252])
    if record_s <= 0:
        raise source.refusal("sampling_rate", "The duration of a data record must be positive.")
    if len(content) < start:
        raise source.refusal("truncated", "The file ends within its header.")
    signals = read_signals(source, content[HEADER_BYTES:start].replace(b"\0", b" "), count)
    record_samples, width = signals[-1].columns.stop, SAMPLE_BYTES[kind]
    if record_samples == 0:
        raise source.refusal("malformed", "The data records have no samples.")
    stated, stored = whole(source, "number of data records", head[236:244]), len(content) - start
    available = stored // (record_samples * width)
    # A recorder that was cut off leaves -1, or the 0 that it began with.
    records = available if stated in (0, -1) else stated
    if not 0 < records <= available:
        raise source.refusal("truncated", f"Expected {max(1, records)} data records. Received {available}.")
    data = content[start : start + records * record_samples * width]
    leads = choose_leads(source, [each for each in signals if each.fields["label"] != f"{kind} Annotations"])
    chosen = list(leads.values())
    if len({signal.samples for signal in chosen}) > 1:
        raise source.refusal("unknown_format", "Expected one sampling rate for all leads. Received several.")
    if chosen[0].samples == 0:
        raise source.refusal("malformed", f"Lead {next(iter(leads))} has no samples.")
    rate_hz = chosen[0].samples / record_s
    if head[192:].startswith(f"{kind}+D".encode()):
        check_continuous(source, kind, signals, data, record_s, tolerance_s=0.5 / rate_hz)
    units = millivolts_per_unit(source, leads)
    ecg_mv = np.empty((len(leads), records * chosen[0].samples))
    for row, (lead, signal) in enumerate(leads.items()):
        gain, offset = scale(source, kind, lead, signal)
        with np.errstate(over="ignore"):  # absurd limits give infinity, which conforming refuses
            ecg_mv[row] = (digital(data, kind, record_samples, signal) + offset) * gain * units[row]
    return Recording(source.path, tuple(leads), rate_hz, ecg_mv, "edf")


def read_signals(source: Source, header: bytes, count: int) -> list[EdfSignal]:
    """The signals' part of the header."""
    columns, begin = {}, 0
    for field, width in SIGNAL_FIELDS.items():
        columns[field] = [header[begin + width * index :][:width] for index in range(count)]
        begin += width * count
    signals, first = [], 0
    for index in range(count):
        samples = whole(source, f"number of samples of signal {index + 1}", columns["samples"][index])
        if samples < 0:
            raise source.refusal("malformed", f"The number of samples of signal {index + 1} is negative.")
        fields = {field: values[index].decode("latin-1").strip() for field, values in columns.items()}
        signals.append(EdfSignal(fields, slice(first, first + samples)))
        first += samples
    return signals


def choose_leads(source: Source, signals: list[EdfSignal]) -> dict[str, EdfSignal]:
    """The signals that are labelled as leads, by lead; where none is, all, by the leads that are told."""
    names = [match["lead"] if (match := LEAD_LABEL.fullmatch(each.fields["label"])) else "" for each in signals]
    leads = lead_names(names)
    if not set(LIMB_LEADS) <= set(leads):  # C1 to C6 may be electrodes of an EEG with an ECG of a few leads beside it
        leads = tuple(lead_name(name) for name in names)
    labels = [
        name.upper() if FURTHER_CHEST_LEAD.fullmatch(name) else lead for name, lead in zip(names, leads, strict=True)
    ]
    if not any(labels):
        what = f"which of {len(signals)} signals is which lead"
        told = what_is_unsaid(source, source.file, what, "leads")
        if len(told) != len(signals):
            raise source.refusal("leads", f"Expected the leads of {len(signals)} signals. Received {len(told)} leads.")
        labels = [carried_name(index, lead) for index, lead in enumerate(told, start=1)]
    twice = next((lead for lead in labels if lead is not None and labels.count(lead) > 1), None)
    if twice is not None:
        raise source.refusal("leads", f"Expected each lead once. Received lead {twice} twice.")
    return {lead: signal for lead, signal in zip(labels, signals, strict=True) if lead is not None}


def millivolts_per_unit(source: Source, leads: dict[str, EdfSignal]) -> list[float]:
    """How many millivolts the unit of each lead is: the file's, or where it states none for a lead, the one told."""
    units = []
    for row, (lead, signal) in enumerate(leads.items()):
        stated = signal.fields["unit"]
        if stated:
            unit = voltage_unit(stated)
        else:
            told = what_is_unsaid(source, source.file, f"the unit of lead {lead}", "unit")
            unit = told[row if len(told) == len(leads) else 0]
        if unit is None:
            received = f"; it is in {stated}" if QUOTABLE_UNIT.fullmatch(stated) else ""
            raise source.refusal("unit", f"Lead {lead} must be in mV, uV or V{received}.")
        units.append(MILLIVOLTS_PER[unit])
    return units


def scale(source: Source, kind: str, lead: str, signal: EdfSignal) -> tuple[float, float]:
    """Gain and offset: a physical value is `(digital + offset) * gain`."""
    lowest, highest = (
        whole(source, f"digital {end} of lead {lead}", signal.fields[f"digital {end}"].encode())
        for end in ("minimum", "maximum")
    )
    reach = 1 << (8 * SAMPLE_BYTES[kind] - 1)
    if not -reach <= lowest < highest < reach:
        raise source.refusal(
            "unit", f"The digital minimum of lead {lead} must be under its maximum, from {-reach} to {reach - 1}."
        )
    # The physical minimum may be the larger one: the signal is then stored upside down.
    minimum, maximum = (
        decimal(source, f"physical {end} of lead {lead}", signal.fields[f"physical {end}"].encode())
        for end in ("minimum", "maximum")
    )
    if minimum == maximum:
        raise source.refusal("unit", f"The physical minimum and maximum of lead {lead} must differ.")
    gain = (maximum - minimum) / (highest - lowest)
    return gain, maximum / gain - highest


def digital(data: bytes, kind: str, record_samples: int, signal: EdfSignal) -> np.ndarray:
    """A signal's samples as stored, of all data records."""
    if kind == "EDF":
        return np.frombuffer(data, "<i2").reshape(-1, record_samples)[:, signal.columns].reshape(-1)
    stored = np.frombuffer(data, np.uint8).reshape(-1, record_samples, 3)[:, signal.columns].reshape(-1, 3)
    wide = np.zeros((len(stored), 4), np.uint8)
    wide[:, 1:] = stored
    return wide.view("<i4").reshape(-1) >> 8


def check_continuous(
    source: Source, kind: str, signals: list[EdfSignal], data: bytes, record_s: float, tolerance_s: float
) -> None:
    """Refuses a data record that does not begin when the one before it ends.

    EDF+D is for recordings with gaps, but some writers say it of all.
    """
    width, record_bytes = SAMPLE_BYTES[kind], SAMPLE_BYTES[kind] * signals[-1].columns.stop
    annotations = next((each.columns for each in signals if each.fields["label"] == f"{kind} Annotations"), None)
    if annotations is None:
        raise source.refusal("malformed", f"The file must have {kind} Annotations with the times of its records.")
    first_s = None
    for record, begin in enumerate(range(0, len(data), record_bytes)):
        match = RECORD_TIME.match(data, begin + annotations.start * width, begin + annotations.stop * width)
        if match is None:
            raise source.refusal("malformed", f"Data record {record + 1} does not state its time.")
        time_s = float(match[1])
        first_s = time_s if first_s is None else first_s
        expected_s = first_s + record * record_s
        if abs(time_s - expected_s) > tolerance_s:
            raise source.refusal(
                "unknown_format",
                f"The recording has a gap: data record {record + 1} should begin at {expected_s:g} s, and begins at "
                f"{time_s:g} s.",
            )


def whole(source: Source, name: str, field: bytes) -> int:
    """The whole number in a field of the header."""
    try:
        return int(field.decode("ascii").strip())
    except ValueError:  # it would quote the field
        raise source.refusal("malformed", f"The {name} must be a whole number.") from None


def decimal(source: Source, name: str, field: bytes) -> float:
    """The finite number in a field of the header."""
    try:
        value = float(field.decode("ascii").strip().replace(",", "."))  # some writers use their country's sign
    except ValueError:  # it would quote the field
        value = np.inf
    if not np.isfinite(value):
        raise source.refusal("malformed", f"The {name} must be a number.")
    return value
