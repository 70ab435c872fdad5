"""GE CardioSoft and CASE XML (`CardiologyXML`): samples as numbers between commas.

Read is `StripData`, the ECG of a resting examination: one `WaveformData` a lead, ten seconds of all leads at once.
`MedianSamples` and `VectorLoops`, averaged beats, are not looked at. An exercise test has one `Strip` a stage in its
place and does not say which one counts: it is refused.

Without a strip the `FullDisclosure`, all that was recorded, is read. Its order is not documented: exports are seen to
write a second of each lead in turn, while some of its readers take one sample of each lead in turn. Einthoven's
law decides: in one order alone II is I + III throughout. Without these leads, or where that does not decide, it is
refused.

Both state their `SampleRate` in Hz and their `Resolution` in microvolts a unit.
"""

from xml.etree.ElementTree import Element

import numpy as np

from keras_ecg_mae.recordings.formats.xml import carried_leads, child_text, decimal, positive, read_samples, read_xml
from keras_ecg_mae.recordings.leads_and_units import voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

MILLIVOLTS_PER_MICROVOLT = 1e-3
# Of stored units: I, II and III are rounded each on its own.
LARGEST_RESIDUAL = 2


def is_cardiosoft_xml(source: Source) -> bool:
    """Whether the file's root element is CardioSoft's."""
    return source.root == "CardiologyXML"


def read_cardiosoft_xml(source: Source) -> Recording:
    """Reads all leads of the rhythm strip of a CardioSoft export, or else of its full disclosure."""
    root = read_xml(source)
    strips = [each for each in root.findall("StripData") if len(each)]
    found = strips or root.findall("FullDisclosure")
    is_one = len(found) == 1 and found[0].find("Strip") is None
    source.expect(is_one, "malformed", "Expected one rhythm strip in StripData, or one FullDisclosure.")
    (strip,) = found
    rate_hz = positive(source, quantity(strip, "SampleRate", "hz"), "SampleRate in Hz", "sampling_rate")
    resolution_uv = positive(source, quantity(strip, "Resolution", "uvperlsb"), "Resolution in uVperLsb", "unit")
    leads, digital = read_strip(source, strip) if strips else read_disclosure(source, strip, rate_hz)
    ecg_mv = digital * (resolution_uv * MILLIVOLTS_PER_MICROVOLT)
    return Recording(source.path, leads, rate_hz, ecg_mv, "cardiosoft_xml")


def quantity(strip: Element, name: str, unit: str) -> str | None:
    """The text of an element that has this unit, in any spelling of microvolts; None elsewhere."""
    element = strip.find(name)
    said = "" if element is None else element.get("units", "").strip().lower()
    if voltage_unit(said.removesuffix("perlsb")) == "uV":
        said = said.replace(said.removesuffix("perlsb"), "uv")
    return element.text if element is not None and said == unit else None


def read_strip(source: Source, strip: Element) -> tuple[tuple[str, ...], np.ndarray]:
    """Leads and stored samples, `(leads, samples)`, of a rhythm strip."""
    elements = strip.findall("WaveformData")
    leads = carried_leads(source, [element.get("lead", "").strip() for element in elements])
    check_count(source, strip, "NumberOfLeads", len(leads), "leads")
    rows = [
        read_samples(source, element.text, ",", f"lead {lead}") for element, lead in zip(elements, leads, strict=True)
    ]
    for row in rows:
        check_count(source, strip, "ChannelSampleCountTotal", row.size, "truncated")
    return leads, np.stack(rows)


def read_disclosure(source: Source, strip: Element, rate_hz: float) -> tuple[tuple[str, ...], np.ndarray]:
    """Leads and stored samples, `(leads, samples)`, of a full disclosure."""
    leads = carried_leads(source, [lead.strip() for lead in child_text(strip, "LeadOrder").split(",")])
    check_count(source, strip, "NumberOfChannels", len(leads), "leads")
    values = read_samples(source, strip.findtext("FullDisclosureData"), ",", "the full disclosure")
    check_count(source, strip, "FullDisclosureData/SampleCountTotal", values.size, "truncated")
    has_law = {"I", "II", "III"} <= set(leads)
    source.expect(has_law, "leads", "Expected leads I, II and III, which tell the order of a full disclosure.")
    orders = []
    for block in {1, max(1, round(rate_hz))}:
        if values.size % (len(leads) * block) == 0:
            digital = values.reshape(-1, len(leads), block).swapaxes(0, 1).reshape(len(leads), -1)
            one, two, three = (digital[leads.index(lead)] for lead in ("I", "II", "III"))
            if np.abs(two - one - three).max() <= LARGEST_RESIDUAL:
                orders.append(digital)
    several = f"Expected one order of the full disclosure in which II = I + III. Received {len(orders)}."
    source.expect(len(orders) == 1, "malformed", several)
    return leads, orders[0]


def check_count(source: Source, strip: Element, name: str, received: int, code: str) -> None:
    """Refuses a strip that states another count."""
    stated = decimal(child_text(strip, name) or str(received))
    source.expect(stated == received, code, f"Expected as many as {name} says. Received {received}.")
