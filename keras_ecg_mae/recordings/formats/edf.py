"""EDF, EDF+ and BDF: a header of text fields, then data records that hold some samples of each signal.

Kemp et al. 1992 and Kemp and Olivan 2003, both at https://www.edfplus.info/specs. The header has 256 bytes for the file
and 256 for each signal. Its fields with name, birth date, place and time are not looked at. Fields are to be filled up
with spaces; some writers fill them with NUL, which is read as a space.
"""

import re
from dataclasses import dataclass

import numpy as np

from keras_ecg_mae.recordings.formats.sidecar import what_is_unsaid
from keras_ecg_mae.recordings.leads_and_units import LIMB_LEADS, carried_name, lead_name, lead_names
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
RECORD_TIME = re.compile(rb"([+-][0-9]+(?:\.[0-9]+)?)\x14")


@dataclass(frozen=True)
class EdfSignal:
    """What the header says of a signal; its samples are at `columns` of each data record."""

    fields: dict[str, str]
    columns: slice

    @property
    def samples(self) -> int:
        return int(self.columns.stop - self.columns.start)

    def number(self, field: str) -> float:
        return decimal(self.fields[field])


def is_edf(source: Source) -> bool:
    """Whether the file begins as EDF or BDF: a version of eight characters, and later the header's size and parts."""
    head = source.head[:HEADER_BYTES].replace(b"\0", b" ")
    return head[:8] in VERSIONS and head[184:192].strip().isdigit() and head[252:].strip().isdigit()


def read_edf(source: Source) -> Recording:
    """Reads the signals that are labelled as a lead; or all, where none is and a sidecar or the settings name them."""
    content = source.content
    head = content[:HEADER_BYTES].replace(b"\0", b" ").decode("latin-1")
    kind, start = VERSIONS[head[:8].encode("latin-1")], int(head[184:192])
    source.expect(start == HEADER_BYTES * (int(head[252:]) + 1), "malformed", "The header must fit its signals.")
    source.expect(len(content) >= start, "truncated", "The file ends within its header.")
    signals = read_signals(content[HEADER_BYTES:start].replace(b"\0", b" ").decode("latin-1"))
    record_s, record_samples = decimal(head[244:252]), signals[-1].columns.stop
    source.expect(record_s > 0, "sampling_rate", "The duration of a data record must be positive.")
    stated = int(head[236:244])
    available = (len(content) - start) // (record_samples * SAMPLE_BYTES[kind])
    # A recorder that was cut off leaves -1, or the 0 that it began with.
    records = available if stated in (0, -1) else stated
    received = f"Expected {max(1, records)} data records. Received {available}."
    source.expect(0 < records <= available, "truncated", received)
    data = content[start : start + records * record_samples * SAMPLE_BYTES[kind]]
    leads = choose_leads(source, [each for each in signals if each.fields["label"] != f"{kind} Annotations"])
    samples = {signal.samples for _, signal in leads}
    source.expect(len(samples) == 1, "unknown_format", "Expected one sampling rate for all leads. Received several.")
    rate_hz = samples.pop() / record_s
    if head[192:].startswith(f"{kind}+D"):
        check_continuous(source, kind, signals, data, record_s, tolerance_s=0.5 / rate_hz)
    rows = []
    for place, (lead, signal) in enumerate(leads):
        gain, offset = scale(source, lead, signal)
        unit_mv = millivolts_per_unit(source, lead, signal, place, len(leads))
        rows.append((digital(data, kind, record_samples, signal) + offset) * gain * unit_mv)
    return Recording(source.path, tuple(lead for lead, _ in leads), rate_hz, np.stack(rows), "edf")


def read_signals(header: str) -> list[EdfSignal]:
    """The signals' part of the header."""
    count = len(header) // HEADER_BYTES
    columns, begin = {}, 0
    for field, width in SIGNAL_FIELDS.items():
        columns[field] = [header[begin + width * index :][:width].strip() for index in range(count)]
        begin += width * count
    signals, first = [], 0
    for values in zip(*columns.values(), strict=True):
        fields = dict(zip(columns, values, strict=True))
        signals.append(EdfSignal(fields, slice(first, first + int(fields["samples"]))))
        first = signals[-1].columns.stop
    return signals


def choose_leads(source: Source, signals: list[EdfSignal]) -> list[tuple[str, EdfSignal]]:
    """The signals that are labelled as leads; where none is, all, by the leads that are told."""
    names = [match["lead"] if (match := LEAD_LABEL.fullmatch(each.fields["label"])) else "" for each in signals]
    leads = lead_names(names)
    if not set(LIMB_LEADS) <= set(leads):  # C1 to C6 may be electrodes of an EEG with an ECG of a few leads beside it
        leads = tuple(lead_name(name) for name in names)
    labels = [
        name.upper() if FURTHER_CHEST_LEAD.fullmatch(name) else lead for name, lead in zip(names, leads, strict=True)
    ]
    if not any(labels):
        told = what_is_unsaid(source, f"which of {len(signals)} signals is which lead", "leads")
        source.expect(len(told) == len(signals), "leads", f"Expected {len(signals)} leads. Received {len(told)}.")
        labels = [carried_name(index, lead) for index, lead in enumerate(told, start=1)]
    return [(lead, signal) for lead, signal in zip(labels, signals, strict=True) if lead is not None]


def millivolts_per_unit(source: Source, lead: str, signal: EdfSignal, place: int, leads: int) -> float:
    """How many millivolts the unit of a lead is: the file's, or where it states none, the one told."""
    unit = signal.fields["unit"]
    if not unit:
        told = what_is_unsaid(source, f"the unit of lead {lead}", "unit")
        unit = told[place if len(told) == leads else 0]
    return source.millivolts_per(unit, f"Lead {lead}")


def scale(source: Source, lead: str, signal: EdfSignal) -> tuple[float, float]:
    """Gain and offset: a physical value is `(digital + offset) * gain`."""
    # The physical minimum may be the larger one: the signal is then stored upside down.
    minimum, maximum = signal.number("physical minimum"), signal.number("physical maximum")
    lowest, highest = int(signal.fields["digital minimum"]), int(signal.fields["digital maximum"])
    fits = lowest < highest and minimum != maximum
    source.expect(fits, "unit", f"The physical and the digital minimum and maximum of lead {lead} must differ.")
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
        source.expect(
            abs(time_s - expected_s) <= tolerance_s,
            "unknown_format",
            f"The recording has a gap: data record {record + 1} should begin at {expected_s:g} s, and begins at "
            f"{time_s:g} s.",
        )


def decimal(field: str) -> float:
    """The number in a field of the header. Some writers use their country's decimal sign."""
    return float(field.replace(",", "."))
