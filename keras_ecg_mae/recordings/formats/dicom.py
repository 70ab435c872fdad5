"""DICOM waveforms (PS3.3, A.34 and C.10.9): 12-lead, general, general 32-bit and ambulatory ECG.

A file holds multiplex groups: channels that are sampled together. Carts put the recording into one and the median beat,
which is DERIVED, into another. The standard also has leads that are recorded one after another, a group for each three
(A.34.3.4.4): those are never put side by side.
"""

import re
from dataclasses import dataclass

import numpy as np
from pydicom.uid import (
    AmbulatoryECGWaveformStorage,
    General32bitECGWaveformStorage,
    GeneralECGWaveformStorage,
    TwelveLeadECGWaveformStorage,
)

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.dicom_dataset import Item, is_dicom, open_dicom
from keras_ecg_mae.recordings.formats.dicom_samples import millivolts, read_samples
from keras_ecg_mae.recordings.leads_and_units import LIMB_LEADS, lead_name
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

__all__ = ["is_dicom", "read_dicom"]

SOP_CLASSES = (
    TwelveLeadECGWaveformStorage,
    GeneralECGWaveformStorage,
    AmbulatoryECGWaveformStorage,
    General32bitECGWaveformStorage,
)
LARGEST_RECORD_SAMPLES = 1 << 25
# PS3.16, CID 3001: a code of ISO/IEEE 11073-10101 or, in older files, of SCP-ECG. Both number leads alike, 1 to 255.
LEAD_CODES = {"MDC": re.compile(r"2:([0-9]{1,3})"), "SCPECG": re.compile(r"5\.6\.3-9-([0-9]{1,3})")}
LEADS_BY_NUMBER = dict(enumerate(("I", "II", *(f"V{n}" for n in range(1, 8)), *(f"V{n}R" for n in range(2, 8))), 1))
LEADS_BY_NUMBER |= {61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 66: "V8", 67: "V9", 68: "V8R", 69: "V9R"}


@dataclass(frozen=True)
class Channel:
    """An ECG lead of a multiplex group; `index` is its place in it, from 0."""

    lead: str
    index: int
    definition: Item


@dataclass(frozen=True)
class Group:
    """A multiplex group, `number` from 1; `start_ms` is None where the file does not say when it begins."""

    number: int
    item: Item
    channels: int
    samples: int
    rate_hz: float
    start_ms: float | None
    leads: tuple[Channel, ...]

    @property
    def duration_s(self) -> float:
        return self.samples / self.rate_hz


def read_dicom(source: Source) -> Recording:
    """Reads the recording of a DICOM waveform file.

    Returns:
        the leads of the longest ORIGINAL multiplex group that twelve leads can be had from, in millivolts; NaN where
        the padding value is stored. Leads are named after their codes. Channels that are no ECG lead are left out.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    path = source.path
    items = open_dicom(path, SOP_CLASSES, ["WaveformSequence"]).items("WaveformSequence")
    groups = [
        read_group(number, item)
        for number, item in enumerate(items, start=1)
        if item.text("WaveformOriginality") == "ORIGINAL"
    ]
    if not groups:
        raise RecordingError(
            path,
            "malformed",
            f"Expected a multiplex group with WaveformOriginality ORIGINAL. Received none among {len(items)}.",
        )
    chosen = choose_groups(path, [group for group in groups if group.leads])
    check_simultaneous(path, chosen)
    leads = tuple(channel.lead for group in chosen for channel in group.leads)
    ecg_mv, row = np.empty((len(leads), chosen[0].samples)), 0
    for group in chosen:
        multiplex, padding = read_samples(group.item, group.samples, group.channels)
        for channel in group.leads:
            name = f"channel {channel.index + 1} of group {group.number}"
            ecg_mv[row] = millivolts(multiplex[:, channel.index], padding, name, channel.definition)
            row += 1
    return Recording(path=path, leads=leads, sampling_rate_hz=chosen[0].rate_hz, ecg_mv=ecg_mv, format="dicom")


def read_group(number: int, item: Item) -> Group:
    """What a multiplex group says of itself."""
    definitions, channels = item.items("ChannelDefinitionSequence"), item.integer("NumberOfWaveformChannels")
    if len(definitions) != channels:
        raise item.malformed("ChannelDefinitionSequence", f"{channels} channels", f"{len(definitions)}")
    samples = item.integer("NumberOfWaveformSamples")
    if samples == 0:
        raise RecordingError(item.path, "truncated", f"Expected samples in group {number}. Received none.")
    if samples * channels > LARGEST_RECORD_SAMPLES:
        raise RecordingError(
            item.path,
            "too_long",
            f"Expected at most {LARGEST_RECORD_SAMPLES} samples in all. Received {samples * channels}.",
        )
    rate_hz = item.decimal("SamplingFrequency") or 0.0
    if rate_hz <= 0:
        raise RecordingError(
            item.path,
            "sampling_rate",
            f"Expected a positive SamplingFrequency in Hz of group {number}. Received {rate_hz:g}.",
        )
    leads = [(read_lead(index, definition), index, definition) for index, definition in enumerate(definitions)]
    return Group(
        number=number,
        item=item,
        channels=channels,
        samples=samples,
        rate_hz=rate_hz,
        start_ms=item.decimal("MultiplexGroupTimeOffset"),
        leads=tuple(Channel(lead, index, definition) for lead, index, definition in leads if lead),
    )


def read_lead(index: int, definition: Item) -> str | None:
    """A channel's lead, None where it is none of an ECG.

    Told by its code, by what the code means ('Lead I (Einthoven)', 'aVR, augmented voltage, right') and by its label,
    as not every code is of a scheme known here. Those that tell a lead have to tell the same one.
    """
    leads, texts = set(), [definition.text("ChannelLabel")]
    for source in definition.items("ChannelSourceSequence"):
        pattern, code = LEAD_CODES.get(source.text("CodingSchemeDesignator")), source.text("CodeValue")
        match = pattern.fullmatch(code) if pattern else None
        if match and 1 <= int(match[1]) <= 255:
            leads.add(LEADS_BY_NUMBER.get(int(match[1]), code))
        texts.append(source.text("CodeMeaning"))
    leads |= {lead for text in texts if (lead := lead_name(re.split("[,(]", text)[0])) is not None}
    if len(leads) > 1:
        raise RecordingError(
            definition.path,
            "leads",
            f"Expected code and label of channel {index + 1} to name one lead. Received {', '.join(sorted(leads))}.",
        )
    return leads.pop() if leads else None


def choose_groups(path: str, groups: list[Group]) -> list[Group]:
    """The recording: one group with ECG leads, or several that say that they begin together and last as long."""
    together: dict[tuple[float | None, ...], list[Group]] = {}
    for group in groups:
        apart = group.number if group.start_ms is None else 0
        together.setdefault((group.rate_hz, group.samples, group.start_ms, apart), []).append(group)
    candidates = list(together.values())
    if len(candidates) > 1:
        candidates = [candidate for candidate in candidates if is_twelve_lead(candidate)]
        longest_s = max((candidate[0].duration_s for candidate in candidates), default=0.0)
        candidates = [candidate for candidate in candidates if candidate[0].duration_s == longest_s]
    if len(candidates) != 1:
        received = ", ".join(f"{len(group.leads)} leads of {group.duration_s:g} s" for group in groups[:5])
        raise RecordingError(
            path,
            "leads",
            f"Expected one group of twelve leads longer than any other, or groups with one MultiplexGroupTimeOffset "
            f"that hold them. Received {received or 'none'}.",
        )
    (chosen,) = candidates
    leads = [channel.lead for group in chosen for channel in group.leads]
    twice = next((lead for lead in leads if leads.count(lead) > 1), None)
    if twice is not None:
        raise RecordingError(path, "leads", f"Expected each lead once. Received lead {twice} twice.")
    return chosen


def is_twelve_lead(groups: list[Group]) -> bool:
    """Whether groups hold all twelve leads, or those that the rest can be derived from."""
    leads = {channel.lead for group in groups for channel in group.leads}
    return leads >= set(spec.LEADS) - set(LIMB_LEADS) and len(leads & set(LIMB_LEADS)) >= 2


def check_simultaneous(path: str, groups: list[Group]) -> None:
    """Raises `RecordingError` where leads begin a sample or more apart (C.10.9.1.4.3)."""
    starts = []
    for group in groups:
        for channel in group.leads:
            skew = channel.definition.decimal("ChannelSampleSkew")
            skew_s = channel.definition.decimal("ChannelTimeSkew") or 0.0
            offset_s = channel.definition.decimal("ChannelOffset") or 0.0
            starts.append((skew_s * group.rate_hz if skew is None else skew) + offset_s * group.rate_hz)
    apart = max(starts) - min(starts)
    if not apart < 1:
        raise RecordingError(
            path, "unknown_format", f"Expected leads that begin together. Received leads {apart:g} samples apart."
        )
