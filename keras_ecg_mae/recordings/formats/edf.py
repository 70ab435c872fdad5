"""EDF, EDF+ and BDF: a header, then data records that hold some samples of each signal, decoded by edfio.

Kemp et al. 1992 and Kemp and Olivan 2003, both at https://www.edfplus.info/specs.
"""

import math
import os
import re

import edfio
import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.edf_header import (
    BDF_VERSION,
    EDF_VERSION,
    HEADER_BYTES,
    SAMPLE_BYTES,
    WHOLE_NUMBER,
    Header,
    Signal,
    decimal_number,
    read_header,
    spaced,
    whole_number,
)
from keras_ecg_mae.recordings.leads_and_units import (
    LIMB_LEADS,
    MILLIVOLTS_PER,
    QUOTABLE_UNIT,
    lead_name,
    lead_names,
    voltage_unit,
)
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

# All signals together. edfio needs ten times as much memory for a sample of BDF.
LARGEST_RECORD_SAMPLES = {"EDF": 1 << 25, "BDF": 1 << 24}
# Each one's time is looked at. A recording with this many, of a second each, lasts a day and a half.
MOST_RECORDS_WITH_TIMES = 1 << 17
# EDF+ names a signal by its kind and its place, which may say against what: "ECG V2", "ECG V2-Ref".
LEAD_LABEL = re.compile(r"(?:E[CK]G[ _:-]+)?(?P<lead>.*?)(?: ?- ?Ref)?", re.IGNORECASE)
FURTHER_CHEST_LEAD = re.compile(r"V[7-9]|V[2-9]R", re.IGNORECASE)
# EDF+, 2.2.4: the annotations of a data record begin with the record's time.
RECORD_TIME = re.compile(rb"([+-][0-9]{1,12}(?:\.[0-9]{1,15})?)\x14")


def is_edf(source: Source) -> bool:
    """Whether the file begins as EDF or BDF: a version of eight characters, and later the header's size and parts."""
    head = spaced(source.head[:HEADER_BYTES])
    numbers = (head[184:192].decode("latin-1"), head[252:HEADER_BYTES].decode("latin-1"))
    return head.startswith((EDF_VERSION, BDF_VERSION)) and all(
        WHOLE_NUMBER.fullmatch(text.strip(" ")) for text in numbers
    )


def read_edf(source: Source) -> Recording:
    """Reads the ECG signals of an EDF, EDF+ or BDF file.

    Returns:
        the signals that are labelled as a lead, in millivolts. Others are left out.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    path = source.path
    try:
        with open(path, "rb") as file:
            header, raw_header = read_header(path, file)
            records = count_records(path, header, os.fstat(file.fileno()).st_size - len(raw_header))
            samples = file.read(records * header.samples_per_record * SAMPLE_BYTES[header.kind])
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable file. Received {error.strerror}.") from error
    except ValueError as error:  # a path with a null byte
        raise RecordingError(path, "missing", "Expected a file at this path. Received none.") from error
    ecg = choose_signals(path, header)
    scales_mv = [millivolts_per_unit(path, lead, signal) for lead, signal in ecg.items()]
    samples_per_record = next(iter(ecg.values())).samples_per_record
    rate_hz = samples_per_record / header.record_s
    if not 0 < rate_hz < math.inf:
        raise RecordingError(path, "sampling_rate", f"Expected a positive sampling rate in Hz. Received {rate_hz:g}.")
    if header.discontinuous:
        check_continuous(path, header, samples, tolerance_s=0.5 / rate_hz)
    # edfio warns of a count that is not the file's, and of a record that was cut short.
    content = raw_header[:236] + f"{records:<8}".encode() + raw_header[244:] + samples
    try:
        read = edfio.read_edf if header.kind == "EDF" else edfio.read_bdf
        decoded = read(content, header_encoding="latin-1").signals
        ordinary = [signal.number for signal in header.signals if signal.label != header.annotations]
        ecg_mv = np.empty((len(ecg), records * samples_per_record))
        for row, signal in enumerate(ecg.values()):
            ecg_mv[row] = decoded[ordinary.index(signal.number)].data * scales_mv[row]
    except Exception:  # what edfio raises depends on the bytes, and may quote them
        raise RecordingError(path, "malformed", f"Expected samples of {header.kind}. Received others.") from None
    return Recording(
        path=path,
        leads=tuple(ecg),
        sampling_rate_hz=rate_hz,
        ecg_mv=ecg_mv,
        format="edf",
    )


def count_records(path: str, header: Header, stored_bytes: int) -> int:
    """How many data records to read: what the header promises, if the file has them, or else all that are whole."""
    record_bytes = header.samples_per_record * SAMPLE_BYTES[header.kind]
    if record_bytes == 0:
        raise RecordingError(path, "malformed", "Expected samples in each data record. Received none.")
    available = stored_bytes // record_bytes
    records = available if header.records is None else header.records
    if records == 0 or records > available:
        raise RecordingError(path, "truncated", f"Expected {max(1, records)} data records. Received {available}.")
    samples = records * header.samples_per_record
    if samples > LARGEST_RECORD_SAMPLES[header.kind]:
        raise RecordingError(
            path,
            "too_long",
            f"Expected at most {LARGEST_RECORD_SAMPLES[header.kind]} samples in all. Received {samples}.",
        )
    return records


def choose_signals(path: str, header: Header) -> dict[str, Signal]:
    """The signals that are labelled as leads, by lead, once they are known to have a scale and one sampling rate."""
    ecg: dict[str, Signal] = {}
    for signal, lead in zip(header.signals, label_leads(header.signals), strict=True):
        if lead in ecg:
            raise RecordingError(path, "leads", f"Expected each lead once. Received lead {lead} twice.")
        if lead is not None:
            ecg[lead] = signal
    if not ecg:
        raise RecordingError(
            path, "leads", f"Expected signals labelled as leads. Received none among {len(header.signals)} signals."
        )
    empty = next((lead for lead, signal in ecg.items() if signal.samples_per_record == 0), None)
    if empty is not None:
        raise RecordingError(path, "malformed", f"Expected samples of lead {empty} in each data record. Received none.")
    if len({signal.samples_per_record for signal in ecg.values()}) > 1:
        raise RecordingError(path, "unknown_format", "Expected one sampling rate for all leads. Received several.")
    for lead, signal in ecg.items():
        check_scale(path, header.kind, lead, signal)
    return ecg


def label_leads(signals: tuple[Signal, ...]) -> list[str | None]:
    """The lead that each label names, None where it names none: `ECG V2`, `EKG Lead II` and `aVR` do."""
    matches = [LEAD_LABEL.fullmatch(signal.label.strip()) for signal in signals]
    names = [match["lead"] if match else "" for match in matches]
    leads = lead_names(names)
    if not set(LIMB_LEADS) <= set(leads):  # C1 to C6 may be electrodes of an EEG with an ECG of a few leads beside it
        leads = tuple(lead_name(name) for name in names)
    return [
        name.upper() if FURTHER_CHEST_LEAD.fullmatch(name) else lead for name, lead in zip(names, leads, strict=True)
    ]


def millivolts_per_unit(path: str, lead: str, signal: Signal) -> float:
    """How many millivolts the unit of a lead's signal is."""
    unit = voltage_unit(signal.unit)
    if unit is None:
        received = signal.unit if QUOTABLE_UNIT.fullmatch(signal.unit) else "none of them"
        raise RecordingError(path, "unit", f"Expected lead {lead} in mV, uV or V. Received {received}.")
    return MILLIVOLTS_PER[unit]


def check_scale(path: str, kind: str, lead: str, signal: Signal) -> None:
    """Raises `RecordingError` where a signal's four limits are not a scale."""
    lowest, highest = (
        whole_number(path, f"lead {lead}'s {name}", signal.fields[name])
        for name in ("digital minimum", "digital maximum")
    )
    reach = 1 << (8 * SAMPLE_BYTES[kind] - 1)
    if not -reach <= lowest < highest < reach:
        raise RecordingError(
            path,
            "unit",
            f"Expected lead {lead}'s digital minimum under its maximum, from {-reach} to {reach - 1}. "
            f"Received {lowest} and {highest}.",
        )
    # The physical minimum may be the larger one: the signal is then stored upside down.
    minimum, maximum = (
        decimal_number(path, f"lead {lead}'s {name}", signal.fields[name])
        for name in ("physical minimum", "physical maximum")
    )
    if minimum == maximum:
        raise RecordingError(
            path,
            "unit",
            f"Expected lead {lead}'s physical minimum and maximum to differ. Received {minimum:g} for both.",
        )


def check_continuous(path: str, header: Header, samples: bytes, tolerance_s: float) -> None:
    """Raises `RecordingError` where a data record does not begin when the one before it ends.

    EDF+D is for recordings with gaps, but some writers say it of all. edfio compares too, by a pattern whose time grows
    with the square of what it reads.
    """
    begin = 0
    for signal in header.signals:
        if signal.label == header.annotations:
            break
        begin += signal.samples_per_record
    else:
        raise RecordingError(
            path, "malformed", f"Expected {header.annotations} with the records' times. Received none."
        )
    width = SAMPLE_BYTES[header.kind]
    record_bytes = header.samples_per_record * width
    if len(samples) // record_bytes > MOST_RECORDS_WITH_TIMES:
        raise RecordingError(
            path,
            "too_long",
            f"Expected at most {MOST_RECORDS_WITH_TIMES} data records with times. "
            f"Received {len(samples) // record_bytes}.",
        )
    end = begin + signal.samples_per_record
    first_s = None
    for record, offset in enumerate(range(0, len(samples), record_bytes)):
        match = RECORD_TIME.match(samples, offset + begin * width, offset + end * width)
        if match is None:
            raise RecordingError(
                path, "malformed", f"Expected data record {record + 1} to state its time. Received none."
            )
        time_s = float(match[1])
        first_s = time_s if first_s is None else first_s
        expected_s = first_s + record * header.record_s
        if abs(time_s - expected_s) > tolerance_s:
            raise RecordingError(
                path,
                "unknown_format",
                f"Expected a recording without gaps: data record {record + 1} at {expected_s:g} s. "
                f"Received one at {time_s:g} s.",
            )
