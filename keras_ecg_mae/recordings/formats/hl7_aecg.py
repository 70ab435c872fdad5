"""HL7 annotated ECG (`AnnotatedECG`; ANSI/HL7 V3 ECG, R1-2004), in which trials send ECGs to the FDA.

Read is the series of code RHYTHM, what the device recorded. A `derivedSeries` (REPRESENTATIVE_BEAT) is computed and
lies elsewhere. The values of a `sequenceSet` are a table: one column of times (TIME_ABSOLUTE or TIME_RELATIVE), and one
of voltages a lead (MDC_ECG_LEAD_*), `origin + scale * digits`. Times are generated from a head and an increment, or
listed as voltages are. A lead whose value is null was not recorded.

A series with several sets is read where the standard leaves no doubt that their rows belong together: each lead
once, and the same head, increment and length in all. Leads that were recorded one group after the other, 2.5 s each,
are refused: no moment has all of them. Of several rhythm series, `FILE#ID` names one.

Philips' converter to this format leaves in it the calibration pulse with which its devices end a recording. The
standard knows no such thing in a rhythm, and nothing in the file marks it: it is refused. The pulse is told by leads
I, II and III, which all stand at 1 mV in it: no heart does that, since II is I + III.
"""

from fractions import Fraction
from itertools import pairwise
from xml.etree.ElementTree import Element

import numpy as np

from keras_ecg_mae.recordings.formats.xml import carried_leads, decimal, positive, read_samples, read_xml
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, lead_names, voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

LEAD_CODES = ("MDC_ECG_LEAD_", "NOM_ECG_LEAD_")
# The standard's, and MegaCare's.
RHYTHM_CODES = ("RHYTHM", "ECG_RHYTHM_WAVEFORMS")
TIME_CODES = ("TIME_ABSOLUTE", "TIME_RELATIVE")
# By UCUM, and as some spell them.
UNITS_PER_SECOND = {
    **dict.fromkeys(("s", "sec"), 1),
    **dict.fromkeys(("ms", "msec"), 10**3),
    **dict.fromkeys(("us", "usec", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"), 10**6),
}
# By how much of a step a listed time may be off its place.
LARGEST_JITTER = 1e-6
# IEC 60601-2-25 has cardiographs draw a pulse of 1 mV. It lasts 0.2 s in Philips' files.
CALIBRATION_MV = 1.0
CALIBRATION_TOLERANCE_MV = 0.02
SHORTEST_CALIBRATION_S, LONGEST_CALIBRATION_S = 0.05, 1.0


def is_hl7_aecg(source: Source) -> bool:
    """Whether the file's root element is that of an annotated ECG."""
    return source.root == "AnnotatedECG"


def read_hl7_aecg(source: Source) -> Recording:
    """Reads all leads of the rhythm series of an annotated ECG."""
    sets = choose_series(source, read_xml(source)).findall("component/sequenceSet")
    source.expect(sets, "malformed", "The rhythm series has no sequenceSet.")
    times: set[tuple[str, float]] = set()
    lengths: set[int | None] = set()
    columns: list[tuple[str, Element]] = []
    for sequence_set in sets:
        sequences = [(code(element), element) for element in sequence_set.findall("component/sequence")]
        start, rate_hz, length = read_time(source, [element for name, element in sequences if name in TIME_CODES])
        times.add((start, rate_hz))
        lengths.add(length)
        columns += [column for column in sequences if column[0].startswith(LEAD_CODES) and not is_null(column[1])]
    leads = carried_leads(source, [name for name, _ in columns])
    is_once = len(sets) == 1 or len({name for name, _ in columns}) == len(columns)
    source.expect(is_once, "leads", f"Expected each lead once in {len(sets)} sequence sets.")
    rows = [read_lead(source, lead, element) for lead, (_, element) in zip(leads, columns, strict=True)]
    is_one = len(times) == 1 and len((lengths | {row.size for row in rows}) - {None}) == 1
    source.expect(is_one, "malformed", "Expected all leads at the same times. Received several lengths or starts.")
    recording = Recording(source.path, leads, rate_hz, np.stack(rows), "hl7_aecg")
    check_no_calibration(source, recording)
    return recording


def choose_series(source: Source, root: Element) -> Element:
    """The rhythm series; of several, the one that `FILE#ID` names by its id or its place, counted from 0."""
    series = [element for element in root.findall("component/series") if code(element) in RHYTHM_CODES]
    source.expect(series, "malformed", f"The file has no series of code {' or '.join(RHYTHM_CODES)}.")
    if source.record_id is None and len(series) == 1:
        return series[0]
    named = {str(place): element for place, element in enumerate(series)}
    for element in series:
        found = element.find("id")
        if found is not None:
            named |= {name: element for name in (found.get("extension"), found.get("root")) if name and len(name) > 4}
    several = f"The file has {len(series)} rhythm series. Name one as FILE#0 to FILE#{len(series) - 1}."
    source.expect(source.record_id in named, "missing", several)
    return named[source.record_id or ""]


def code(element: Element) -> str:
    """The code that says what a series or sequence is, empty where there is none."""
    child = element.find("code")
    return "" if child is None else child.get("code", "")


def is_null(sequence: Element) -> bool:
    """Whether a sequence says that it has no values."""
    value = sequence.find("value")
    return value is not None and "nullFlavor" in value.attrib and not (value.findtext("digits") or "").strip()


def read_time(source: Source, sequences: list[Element]) -> tuple[str, float, int | None]:
    """Start, as it is written, and rate in Hz of a set's one sequence of times; how many there are, if they are listed.

    Raises:
        RecordingError: `sampling_rate`, or `malformed` where something else than numbers is listed.
    """
    value = sequences[0].find("value") if len(sequences) == 1 else None
    if value is None or (value.find("increment") is None and value.find("digits") is None):
        raise source.refusal("sampling_rate", "Expected one time sequence with an increment or digits in each set.")
    is_listed = value.find("increment") is None
    start, step = (value.find(name) for name in (("origin", "scale") if is_listed else ("head", "increment")))
    spelled, unit = ("", "") if step is None else (step.get("value", "").strip(), step.get("unit", "").strip())
    positive(source, spelled, "The time step", "sampling_rate")
    source.expect(unit in UNITS_PER_SECOND, "sampling_rate", f"Expected a time step in {', '.join(UNITS_PER_SECOND)}.")
    written = "" if start is None else f"{start.get('value', '')} {start.get('unit', '')}"
    # As fractions, so that 0.002 s are 500 Hz to the last digit.
    seconds, length = Fraction(spelled) / UNITS_PER_SECOND[unit], None
    if is_listed:
        digits = read_samples(source, value.findtext("digits"), None, "the times")
        written, seconds, length = f"{written} {digits[:1]}", seconds * even_step(source, digits), digits.size
    return written, float(1 / seconds), length


def even_step(source: Source, digits: np.ndarray) -> Fraction:
    """By how much each of the numbers `(samples,)` is larger than the one before it: all by the same."""
    step = (digits[-1] - digits[0]) / (digits.size - 1) if digits.size > 1 else 0.0
    is_even = step > 0 and np.abs(digits - digits[0] - step * np.arange(digits.size)).max() <= LARGEST_JITTER * step
    source.expect(is_even, "sampling_rate", "Expected listed times that are evenly spaced.")
    return Fraction(f"{step:.12g}")


def read_lead(source: Source, name: str, sequence: Element) -> np.ndarray:
    """One lead in millivolts, `(samples,)`."""
    origin_mv, scale_mv = millivolts(sequence.find("value/origin")), millivolts(sequence.find("value/scale"))
    if origin_mv is None or scale_mv is None or scale_mv <= 0:
        raise source.refusal("unit", f"Expected an origin and a positive scale in V, mV, uV or nV for {name}.")
    digits = read_samples(source, sequence.findtext("value/digits"), None, name)
    return origin_mv + scale_mv * digits


def millivolts(quantity: Element | None) -> float | None:
    """The voltage that `value` and `unit` give, None where they give none. Zero needs no unit."""
    number = None if quantity is None else decimal(quantity.get("value"))
    if quantity is None or number is None:
        return None
    unit = voltage_unit(quantity.get("unit", ""))
    if unit is None:
        return 0.0 if number == 0 else None
    return number * MILLIVOLTS_PER[unit]


def check_no_calibration(source: Source, recording: Recording) -> None:
    """Refuses a file where leads I, II and III hold a calibration pulse at once."""
    leads = lead_names(recording.leads)
    if not {"I", "II", "III"} <= set(leads):
        return
    three_mv = recording.ecg_mv[[leads.index(lead) for lead in ("I", "II", "III")]]
    pulse = (np.abs(three_mv - CALIBRATION_MV) <= CALIBRATION_TOLERANCE_MV).all(axis=0)
    edges = np.flatnonzero(np.diff(pulse.astype(np.int8)))
    for rise, fall in pairwise(edges):
        begin_s, seconds = np.array([rise + 1, fall - rise]) / recording.sampling_rate_hz
        if pulse[fall] and SHORTEST_CALIBRATION_S <= seconds <= LONGEST_CALIBRATION_S:
            raise source.refusal(
                "malformed",
                f"Expected the heart's signal alone in the rhythm series. Received a calibration pulse: leads I, II "
                f"and III stand at {CALIBRATION_MV:g} mV together for {seconds:.3f} s from {begin_s:.3f} s on, as in "
                "what Philips' converter to aECG writes.",
            )
