"""The header of EDF, EDF+ and BDF files: text fields of fixed width, 256 bytes for the file and 256 for each signal.

https://www.edfplus.info/specs/edf.html. Its numbers are checked strictly, since edfio believes each of them. The fields
with name, birth date, place and time are not looked at. Fields are to be filled up with spaces; some writers fill them
with NUL, which is read as a space.
"""

import io
import re
from dataclasses import dataclass

from keras_ecg_mae.errors import RecordingError

EDF_VERSION, BDF_VERSION = b"0       ", b"\xffBIOSEMI"
HEADER_BYTES = 256  # of the file, and again of each signal
SIGNAL_FIELD_BYTES = {
    "label": 16,
    "transducer type": 80,
    "physical dimension": 8,
    "physical minimum": 8,
    "physical maximum": 8,
    "digital minimum": 8,
    "digital maximum": 8,
    "prefiltering": 80,
    "samples in each data record": 8,
    "reserved": 32,
}
# A sleep laboratory records some thirty.
MOST_SIGNALS = 512
SAMPLE_BYTES = {"EDF": 2, "BDF": 3}
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,8}")
DECIMAL_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?0?[0-9]{1,2})?")


@dataclass(frozen=True)
class Signal:
    """What the header says of a signal, `number` from 1."""

    number: int
    fields: dict[str, bytes]
    samples_per_record: int

    @property
    def label(self) -> str:
        return self.fields["label"].decode("latin-1").rstrip()

    @property
    def unit(self) -> str:
        return self.fields["physical dimension"].decode("latin-1").strip()


@dataclass(frozen=True)
class Header:
    """What the header says of the file: `kind` is EDF or BDF, `records` None where they were not counted."""

    kind: str
    discontinuous: bool
    records: int | None
    record_s: float
    signals: tuple[Signal, ...]

    @property
    def samples_per_record(self) -> int:
        return sum(signal.samples_per_record for signal in self.signals)

    @property
    def annotations(self) -> str:
        """The label of signals that hold text."""
        return f"{self.kind} Annotations"


def read_header(path: str, file: io.BufferedReader) -> tuple[Header, bytes]:
    """The header's meaning, and its bytes."""
    head = spaced(file.read(HEADER_BYTES))
    if len(head) < HEADER_BYTES or not head.startswith((EDF_VERSION, BDF_VERSION)):
        raise RecordingError(path, "unknown_format", "Expected a header of EDF or BDF. Received something else.")
    kind = "EDF" if head.startswith(EDF_VERSION) else "BDF"
    count = whole_number(path, "number of signals", head[252:256])
    if not 1 <= count <= MOST_SIGNALS:
        raise RecordingError(path, "malformed", f"Expected 1 to {MOST_SIGNALS} signals. Received {count}.")
    header_bytes = whole_number(path, "number of bytes in the header", head[184:192])
    if header_bytes != HEADER_BYTES * (count + 1):
        raise RecordingError(
            path,
            "malformed",
            f"Expected a header of {HEADER_BYTES * (count + 1)} bytes for {count} signals. Received {header_bytes}.",
        )
    records = whole_number(path, "number of data records", head[236:244])
    if records < -1:
        raise RecordingError(path, "malformed", f"Expected a number of data records, or -1. Received {records}.")
    record_s = decimal_number(path, "duration of a data record", head[244:252])
    if record_s <= 0:
        raise RecordingError(
            path, "sampling_rate", f"Expected data records to last longer than 0 s. Received {record_s:g} s."
        )
    raw_signals = spaced(file.read(HEADER_BYTES * count))
    if len(raw_signals) < HEADER_BYTES * count:
        raise RecordingError(path, "truncated", f"Expected the header of {count} signals. Received part of it.")
    header = Header(
        kind=kind,
        discontinuous=head[192:].startswith(b"%s+D" % kind.encode()),
        records=records if records != -1 else None,
        record_s=record_s,
        signals=parse_signals(path, raw_signals, count),
    )
    return header, head + raw_signals


def parse_signals(path: str, raw: bytes, count: int) -> tuple[Signal, ...]:
    """The signals' part of the header: field by field, each for all signals in turn."""
    columns, begin = {}, 0
    for field, width in SIGNAL_FIELD_BYTES.items():
        columns[field] = [raw[begin + width * index :][:width] for index in range(count)]
        begin += width * count
    signals = []
    for index in range(count):
        fields = {field: column[index] for field, column in columns.items()}
        samples = whole_number(path, f"signal {index + 1}'s samples", fields["samples in each data record"])
        if samples < 0:
            raise RecordingError(
                path, "malformed", f"Expected a number of samples of signal {index + 1}. Received {samples}."
            )
        signals.append(Signal(number=index + 1, fields=fields, samples_per_record=samples))
    return tuple(signals)


def spaced(raw: bytes) -> bytes:
    """Part of a header with a space for each NUL."""
    return raw.replace(b"\0", b" ")


def whole_number(path: str, name: str, field: bytes) -> int:
    """The whole number in a field of the header."""
    text = field.decode("latin-1").strip(" ")
    if not WHOLE_NUMBER.fullmatch(text):
        raise RecordingError(path, "malformed", f"Expected {name} as a whole number. Received something else.")
    return int(text)


def decimal_number(path: str, name: str, field: bytes) -> float:
    """The decimal number in a field of the header, finite."""
    text = field.decode("latin-1").strip(" ")
    if not DECIMAL_NUMBER.fullmatch(text):
        raise RecordingError(path, "malformed", f"Expected {name} as a decimal number. Received something else.")
    return float(text)
