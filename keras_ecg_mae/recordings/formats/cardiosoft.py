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

from keras_ecg_mae.recordings.formats.xml import carried_leads, child_text, decimal, read_samples, read_xml
from keras_ecg_mae.recordings.leads_and_units import voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

ROOT = "CardiologyXML"
MILLIVOLTS_PER_MICROVOLT = 1e-3
# Of stored units: I, II and III are rounded each on its own.
LARGEST_RESIDUAL = 2


def is_cardiosoft_xml(source: Source) -> bool:
    """Whether the file's root element is CardioSoft's."""
    return source.root == ROOT


def read_cardiosoft_xml(source: Source) -> Recording:
    """Reads the rhythm strip of a CardioSoft export, or else its full disclosure.

    Returns:
        all leads in millivolts, float64.
    """
    root = read_xml(source)
    strips = [each for each in root.findall("StripData") if len(each)]
    disclosures = root.findall("FullDisclosure")
    if len(strips) > 1 or any(each.find("Strip") is not None for each in strips):
        raise source.refusal("malformed", "Expected one rhythm strip in StripData. Received several.")
    if strips:
        (strip,) = strips
        leads, digital = read_strip(source, strip)
    elif len(disclosures) == 1:
        (strip,) = disclosures
        leads, digital = read_disclosure(source, strip)
    else:
        raise source.refusal("malformed", "Expected StripData or one FullDisclosure.")
    with np.errstate(over="ignore", invalid="ignore"):  # an absurd resolution gives infinity, which conforming refuses
        ecg_mv = digital * (resolution_uv(source, strip) * MILLIVOLTS_PER_MICROVOLT)
    return Recording(
        path=source.path,
        leads=leads,
        sampling_rate_hz=sampling_rate_hz(source, strip),
        ecg_mv=ecg_mv,
        format="cardiosoft_xml",
    )


def units(element: Element | None) -> str:
    """The unit that an element states, in lower case; empty where it states none."""
    return "" if element is None else element.get("units", "").strip().lower()


def sampling_rate_hz(source: Source, strip: Element) -> float:
    """`SampleRate`, whose unit must be Hz."""
    element = strip.find("SampleRate")
    rate_hz = decimal(element.text) if element is not None and units(element) == "hz" else None
    if rate_hz is None or rate_hz <= 0:
        raise source.refusal("sampling_rate", "Expected a positive SampleRate in Hz.")
    return rate_hz


def resolution_uv(source: Source, strip: Element) -> float:
    """`Resolution`, microvolts a stored unit, whose unit must be uVperLsb."""
    element = strip.find("Resolution")
    said = units(element)
    known = said.endswith("perlsb") and voltage_unit(said.removesuffix("perlsb")) == "uV"
    resolution = decimal(element.text) if element is not None and known else None
    if resolution is None or resolution <= 0:
        raise source.refusal("unit", "Expected a positive Resolution in uVperLsb.")
    return resolution


def read_strip(source: Source, strip: Element) -> tuple[tuple[str, ...], np.ndarray]:
    """Leads and stored samples, `(leads, samples)`, of a rhythm strip."""
    elements = strip.findall("WaveformData")
    leads = carried_leads(source, [element.get("lead", "").strip() for element in elements])
    said = decimal(child_text(strip, "NumberOfLeads") or str(len(leads)))
    if not leads or said != len(leads):
        raise source.refusal("leads", f"Expected WaveformData for NumberOfLeads leads. Received {len(leads)}.")
    rows = [
        read_samples(source, element.text, ",", f"lead {lead}") for element, lead in zip(elements, leads, strict=True)
    ]
    expected = decimal(child_text(strip, "ChannelSampleCountTotal") or str(rows[0].size))
    received = next((row.size for row in rows if row.size != expected), None)
    if received is not None:
        raise source.refusal(
            "truncated", f"Expected ChannelSampleCountTotal samples in every lead. Received {received} in one."
        )
    return leads, np.stack(rows)


def read_disclosure(source: Source, strip: Element) -> tuple[tuple[str, ...], np.ndarray]:
    """Leads and stored samples, `(leads, samples)`, of a full disclosure."""
    leads = carried_leads(source, [lead.strip() for lead in child_text(strip, "LeadOrder").split(",")])
    if decimal(child_text(strip, "NumberOfChannels") or str(len(leads))) != len(leads):
        raise source.refusal("leads", f"Expected NumberOfChannels leads in LeadOrder. Received {len(leads)}.")
    values = read_samples(source, strip.findtext("FullDisclosureData"), ",", "the full disclosure")
    said = decimal(child_text(strip, "FullDisclosureData/SampleCountTotal") or str(values.size))
    if values.size == 0 or said != values.size:
        raise source.refusal(
            "truncated", f"Expected SampleCountTotal samples in the full disclosure. Received {values.size}."
        )
    if not {"I", "II", "III"} <= set(leads):
        raise source.refusal(
            "leads",
            "Expected leads I, II and III in a full disclosure, without which the order of its samples is not known. "
            f"Received {len(leads)} others.",
        )
    orders = []
    for block in {1, max(1, round(sampling_rate_hz(source, strip)))}:
        if values.size % (len(leads) * block) == 0:
            digital = values.reshape(-1, len(leads), block).swapaxes(0, 1).reshape(len(leads), -1)
            one, two, three = (digital[leads.index(lead)] for lead in ("I", "II", "III"))
            if np.abs(two - one - three).max() <= LARGEST_RESIDUAL:
                orders.append(digital)
    if len(orders) != 1:
        raise source.refusal(
            "malformed",
            f"Expected one order of samples in the full disclosure in which II = I + III. Received {len(orders)}.",
        )
    return leads, orders[0]
