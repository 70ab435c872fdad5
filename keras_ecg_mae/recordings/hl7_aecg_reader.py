"""HL7 annotated ECG (`AnnotatedECG`; ANSI/HL7 V3 ECG, R1-2004), in which trials send ECGs to the FDA.

Read is the series of code RHYTHM, what the device recorded. A `derivedSeries` (REPRESENTATIVE_BEAT) is computed and
lies elsewhere. The values of a `sequenceSet` are a table: one column of times (TIME_ABSOLUTE or TIME_RELATIVE,
generated from a head and an increment), and one of voltages a lead (MDC_ECG_LEAD_*), `origin + scale * digits`.

A series with several sets is read where the standard leaves no doubt that their rows belong together: each lead
once, and the same head, increment and length in all. Leads that were recorded one group after the other, 2.5 s each,
are refused: no moment has all of them. So are several rhythm series.

Philips' converter to this format leaves in it the calibration pulse with which its devices end a recording. The
standard knows no such thing in a rhythm, and nothing in the file marks it: it is refused. The pulse is told by leads
I, II and III, which all stand at 1 mV in it: no heart does that, since II is I + III.
"""

from fractions import Fraction
from itertools import pairwise
from xml.etree.ElementTree import Element

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.safe_xml import check_labels, decimal, read_samples, read_xml, root_name

ROOT = "AnnotatedECG"
LEAD_CODE = "MDC_ECG_LEAD_"
TIME_CODES = ("TIME_ABSOLUTE", "TIME_RELATIVE")
# Units by UCUM, and with the micro sign that it spells u.
MILLIVOLTS_PER = {
    "V": 1e3,
    "mV": 1.0,
    "uV": 1e-3,
    "\N{MICRO SIGN}V": 1e-3,
    "\N{GREEK SMALL LETTER MU}V": 1e-3,
    "nV": 1e-6,
}
UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "\N{MICRO SIGN}s": 10**6, "\N{GREEK SMALL LETTER MU}s": 10**6}
# IEC 60601-2-25 has cardiographs draw a pulse of 1 mV. It lasts 0.2 s in Philips' files.
CALIBRATION_MV = 1.0
CALIBRATION_TOLERANCE_MV = 0.02
SHORTEST_CALIBRATION_S, LONGEST_CALIBRATION_S = 0.05, 1.0


def is_hl7_aecg(path: str) -> bool:
    """Whether the file's root element is that of an annotated ECG."""
    return root_name(path) == ROOT


def read_hl7_aecg(path: str) -> Recording:
    """Reads the rhythm series of an annotated ECG.

    Returns:
        all its leads in millivolts, float64.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    root = read_xml(path)
    if root.tag != ROOT:
        raise RecordingError(path, "unknown_format", f"Expected the root element {ROOT}. Received another.")
    series = [element for element in root.findall("component/series") if code(element) == "RHYTHM"]
    if len(series) != 1:
        raise RecordingError(path, "malformed", f"Expected one series of code RHYTHM. Received {len(series)}.")
    sets = series[0].findall("component/sequenceSet")
    if not sets:
        raise RecordingError(path, "malformed", "Expected a sequenceSet in the rhythm series. Received none.")
    times: list[tuple[str, float]] = []
    rows: list[tuple[str, np.ndarray]] = []
    for sequence_set in sets:
        sequences = [(code(element), element) for element in sequence_set.findall("component/sequence")]
        times.append(read_time(path, [element for name, element in sequences if name in TIME_CODES]))
        rows += [(name, read_lead(path, name, element)) for name, element in sequences if name.startswith(LEAD_CODE)]
    leads = tuple(name for name, _ in rows)
    if not leads or (len(sets) > 1 and len(set(leads)) < len(leads)):
        raise RecordingError(
            path, "leads", f"Expected {LEAD_CODE}* sequences, each lead once. Received {len(set(leads))} leads."
        )
    if len(set(times)) > 1 or len({row.size for _, row in rows}) > 1:
        raise RecordingError(
            path,
            "malformed",
            f"Expected all leads at the same times. Received several lengths or starts in {len(sets)} sequence sets.",
        )
    recording = Recording(
        path=path,
        leads=leads,
        sampling_rate_hz=times[0][1],
        ecg_mv=np.stack([row for _, row in rows]),
        format="hl7_aecg",
    )
    check_no_calibration(recording)
    return recording


def code(element: Element) -> str:
    """The code that says what a series or sequence is, empty where there is none."""
    child = element.find("code")
    return "" if child is None else child.get("code", "")


def read_time(path: str, sequences: list[Element]) -> tuple[str, float]:
    """Head, as it is written, and rate in Hz of a set's one sequence of times."""
    increment = sequences[0].find("value/increment") if len(sequences) == 1 else None
    if increment is None:
        raise RecordingError(
            path, "sampling_rate", "Expected one time sequence with an increment in each sequenceSet. Received another."
        )
    per_second = UNITS_PER_SECOND.get(increment.get("unit", ""))
    step = decimal(increment.get("value"))
    if per_second is None or step is None or step <= 0:
        raise RecordingError(
            path, "sampling_rate", f"Expected a positive increment in {', '.join(UNITS_PER_SECOND)}. Received another."
        )
    head = sequences[0].find("value/head")
    start = "" if head is None else f"{head.get('value', '')} {head.get('unit', '')}"
    # As fractions, so that 0.002 s are 500 Hz to the last digit.
    return start, float(min(per_second / Fraction(increment.get("value", "").strip()), Fraction(10**18)))


def read_lead(path: str, name: str, sequence: Element) -> np.ndarray:
    """One lead in millivolts, `(samples,)`."""
    check_labels(path, (name,))
    value = sequence.find("value")
    if value is None:
        raise RecordingError(path, "malformed", f"Expected a value of {name}. Received none.")
    origin_mv, scale_mv = millivolts(value.find("origin")), millivolts(value.find("scale"))
    if origin_mv is None or scale_mv is None or scale_mv <= 0:
        raise RecordingError(
            path,
            "unit",
            f"Expected an origin and a positive scale in V, mV, uV or nV for {name}. Received something else.",
        )
    digits = read_samples(path, value.findtext("digits"), None, name)
    with np.errstate(over="ignore"):  # an absurd scale gives infinity, which conforming refuses
        return origin_mv + scale_mv * digits


def millivolts(quantity: Element | None) -> float | None:
    """The voltage that `value` and `unit` give, None where they give none. Zero needs no unit."""
    number = None if quantity is None else decimal(quantity.get("value"))
    if quantity is None or number is None:
        return None
    unit = MILLIVOLTS_PER.get(quantity.get("unit", "").strip(), 0.0 if number == 0 else None)
    return None if unit is None else number * unit


def check_no_calibration(recording: Recording) -> None:
    """Raises `RecordingError` `malformed` where leads I, II and III hold a calibration pulse at once."""
    limbs = [LEAD_CODE + lead for lead in ("I", "II", "III")]
    if not set(limbs) <= set(recording.leads):
        return
    three_mv = recording.ecg_mv[[recording.leads.index(lead) for lead in limbs]]
    pulse = (np.abs(three_mv - CALIBRATION_MV) <= CALIBRATION_TOLERANCE_MV).all(axis=0)
    edges = np.flatnonzero(np.diff(pulse.astype(np.int8)))
    for rise, fall in pairwise(edges):
        begin_s, seconds = np.array([rise + 1, fall - rise]) / recording.sampling_rate_hz
        if pulse[fall] and SHORTEST_CALIBRATION_S <= seconds <= LONGEST_CALIBRATION_S:
            raise RecordingError(
                recording.path,
                "malformed",
                f"Expected the heart's signal alone in the rhythm series. Received a calibration pulse: leads I, II "
                f"and III stand at {CALIBRATION_MV:g} mV together for {seconds:.3f} s from {begin_s:.3f} s on, as in "
                "what Philips' converter to aECG writes.",
            )
