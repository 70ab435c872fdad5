"""DICOM waveforms (PS3.3, A.34 and C.10.9), read by pydicom.

A file holds multiplex groups: channels that are sampled together. Carts put the recording into one and the median beat,
which is DERIVED, into another. The standard also has leads that are recorded one after another, a group for each three
(A.34.3.4.4): those are never put side by side. The SOP class does not decide: what has channels that are leads of an
ECG is one, under whatever class its cart exports.
"""

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.lead_codes import LEAD_CODES
from keras_ecg_mae.recordings.leads_and_units import LIMB_LEADS, lead_name
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

if TYPE_CHECKING:
    from pydicom import Dataset

PREFIX_START, PREFIX = 128, b"DICM"
# Some archives store the elements alone, without what PS3.10 (7.1) puts in front of them: group 2 or 8 comes first.
FIRST_GROUPS, WAVEFORM_UIDS, FIRST_BYTES = (b"\x02\x00", b"\x08\x00"), b"1.2.840.10008.5.1.4.1.1.9.", 1024
TRANSFER_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
# PS3.3, C.10.9.1.5. MB and AB are companded speech; no ECG has 64 bits.
SAMPLE_TYPES = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
}
# The values of Channel Status after which the samples are, or may be, the lead's. The others say that they are not.
USABLE_STATUS = frozenset({"", "OK", "QUESTIONABLE", "UNZEROED"})
# PS3.16, CID 3001: a code of ISO/IEEE 11073-10101 or, in older files, of SCP-ECG. Both number leads alike, 1 to 255.
CODE_PATTERNS = {"MDC": re.compile(r"2:([0-9]{1,3})"), "SCPECG": re.compile(r"5\.6\.3-9-([0-9]{1,3})")}


@dataclass(frozen=True)
class Channel:
    """An ECG lead of a multiplex group; `index` is its place in it, from 0."""

    lead: str
    index: int
    definition: "Dataset"


@dataclass(frozen=True)
class MultiplexGroup:
    """A multiplex group, `number` from 1; `start_ms` is None where the file does not say when it begins."""

    number: int
    item: "Dataset"
    channels: int
    samples: int
    rate_hz: float
    start_ms: float | None
    leads: tuple[Channel, ...]


def is_dicom(source: Source) -> bool:
    """Whether the file begins as PS3.10 has it, 128 bytes of anything, then DICM; or without these as a waveform."""
    head = source.head[:FIRST_BYTES]
    return head.startswith(PREFIX, PREFIX_START) or (head.startswith(FIRST_GROUPS) and WAVEFORM_UIDS in head)


def read_dicom(source: Source) -> Recording:
    """Reads the longest multiplex group that is not DERIVED and that twelve leads can be had from.

    NaN stands where the padding value is stored. Leads are named after their codes; channels that are no ECG lead are
    left out.
    """
    dataset = read_dataset(source)
    items = dataset.get("WaveformSequence") or ()
    groups = [
        read_group(source, number, item)
        for number, item in enumerate(items, start=1)
        if text(item, "WaveformOriginality") != "DERIVED"
    ]
    if not groups:
        raise no_waveform(source, dataset, len(items))
    chosen = choose_groups(source, [group for group in groups if group.leads])
    check_simultaneous(source, chosen)
    rows = []
    for group in chosen:
        little_endian = dataset.original_encoding[1] is not False
        multiplex, padding = read_samples(source, group, little_endian)
        rows += [millivolts(source, group, channel, multiplex[:, channel.index], padding) for channel in group.leads]
    leads = tuple(channel.lead for group in chosen for channel in group.leads)
    return Recording(source.path, leads, chosen[0].rate_hz, np.stack(rows), "dicom")


def read_dataset(source: Source) -> "Dataset":
    """What pydicom makes of the file; its log lines, which quote files, stay away."""
    import pydicom  # takes half a second to load, which other formats need not wait for

    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        tags = ["SOPClassUID", "WaveformSequence", "EncapsulatedDocument"]
        dataset = pydicom.dcmread(source.file, force=True, specific_tags=tags, stop_before_pixels=True)
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        is_plain = not syntax or syntax in TRANSFER_SYNTAXES
        source.expect(
            is_plain, "unknown_format", f"The TransferSyntaxUID must be uncompressed. It is {uid_name(syntax)}."
        )
        dataset.decode()  # here, where nothing is logged
        return dataset
    finally:
        logger.disabled = was_disabled


def no_waveform(source: Source, dataset: "Dataset", derived: int) -> RecordingError:
    """Why a file without a recording is refused."""
    if derived:
        return source.refusal("malformed", "Every multiplex group is DERIVED, as a median beat is.")
    content = "an encapsulated document (a PDF) alone" if "EncapsulatedDocument" in dataset else "none"
    name = uid_name(str(dataset.get("SOPClassUID", "")))
    return source.refusal("unknown_format", f"Expected a waveform. The file holds {content}; its SOP class is {name}.")


def uid_name(uid: str) -> str:
    """A UID with its name in PS3.6, for messages; what is no UID is not quoted."""
    from pydicom.uid import UID

    return f"{uid} ({UID(uid).name})" if re.fullmatch(r"[0-9.]+", uid) else "not stated"


def text(item: "Dataset", keyword: str) -> str:
    """An element's text, empty without the element. May be anybody's: not to be quoted."""
    value = item.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def decimal(item: "Dataset", keyword: str) -> float | None:
    """An element's number, None without one."""
    value: Any = item.get(keyword)
    return None if value in (None, "") else float(value)


def read_group(source: Source, number: int, item: "Dataset") -> MultiplexGroup:
    """What a multiplex group says of itself."""
    definitions, channels = item.get("ChannelDefinitionSequence") or (), int(item.get("NumberOfWaveformChannels") or 0)
    defined = f"NumberOfWaveformChannels of group {number} is {channels}, and {len(definitions)} channels are defined."
    source.expect(0 < channels == len(definitions), "malformed", defined)
    samples = int(item.get("NumberOfWaveformSamples") or 0)
    source.expect(samples > 0, "truncated", f"Group {number} has no samples.")
    rate_hz = decimal(item, "SamplingFrequency") or 0.0
    source.expect(rate_hz > 0, "sampling_rate", f"The SamplingFrequency of group {number} must be positive.")
    leads = [
        Channel(lead, index, definition)
        for index, definition in enumerate(definitions)
        if (lead := read_lead(source, index, definition))
    ]
    return MultiplexGroup(
        number=number,
        item=item,
        channels=channels,
        samples=samples,
        rate_hz=rate_hz,
        start_ms=decimal(item, "MultiplexGroupTimeOffset"),
        leads=tuple(leads),
    )


def read_lead(source: Source, index: int, definition: "Dataset") -> str | None:
    """A channel's lead, None where it is none of an ECG.

    Told by its code, by what the code means ('Lead I (Einthoven)', 'aVR, augmented voltage, right') and by its label,
    as not every code is of a scheme known here. Those that tell a lead have to tell the same one.
    """
    leads, texts = set(), [text(definition, "ChannelLabel")]
    for coded in definition.get("ChannelSourceSequence") or ():
        pattern, code = CODE_PATTERNS.get(text(coded, "CodingSchemeDesignator")), text(coded, "CodeValue")
        match = pattern.fullmatch(code) if pattern else None
        if match and 1 <= int(match[1]) <= 255:
            leads.add(LEAD_CODES.get(int(match[1]), code))
        texts.append(text(coded, "CodeMeaning"))
    leads |= {lead for name in texts if (lead := lead_name(re.split("[,(]", name)[0])) is not None}
    several = f"Code and label of channel {index + 1} name different leads: {', '.join(sorted(leads))}."
    source.expect(len(leads) < 2, "leads", several)
    return leads.pop() if leads else None


def choose_groups(source: Source, groups: list[MultiplexGroup]) -> list[MultiplexGroup]:
    """The recording: one group with ECG leads, or several that say that they begin together and last as long."""
    together: dict[tuple[float | None, ...], list[MultiplexGroup]] = {}
    for group in groups:
        apart = group.number if group.start_ms is None else 0
        together.setdefault((group.rate_hz, group.samples, group.start_ms, apart), []).append(group)
    candidates = list(together.values())
    if len(candidates) > 1:
        candidates = [candidate for candidate in candidates if is_twelve_lead(candidate)]
        longest_s = max((candidate[0].samples / candidate[0].rate_hz for candidate in candidates), default=0.0)
        candidates = [each for each in candidates if each[0].samples / each[0].rate_hz == longest_s]
    if len(candidates) != 1:
        received = ", ".join(f"{len(group.leads)} leads of {group.samples / group.rate_hz:g} s" for group in groups[:5])
        raise source.refusal(
            "leads",
            f"Expected one group of twelve leads longer than any other, or groups with one MultiplexGroupTimeOffset "
            f"that hold them. Received {received or 'no channel that is an ECG lead'}.",
        )
    return candidates[0]


def is_twelve_lead(groups: list[MultiplexGroup]) -> bool:
    """Whether groups hold all twelve leads, or those that the rest can be derived from."""
    leads = {channel.lead for group in groups for channel in group.leads}
    return leads >= set(spec.LEADS) - set(LIMB_LEADS) and len(leads & set(LIMB_LEADS)) >= 2


def check_simultaneous(source: Source, groups: list[MultiplexGroup]) -> None:
    """Refuses leads that begin a sample or more apart (C.10.9.1.4.3)."""
    starts = []
    for group in groups:
        for channel in group.leads:
            skew = decimal(channel.definition, "ChannelSampleSkew")
            skew_s = decimal(channel.definition, "ChannelTimeSkew") or 0.0
            offset_s = decimal(channel.definition, "ChannelOffset") or 0.0
            starts.append((skew_s * group.rate_hz if skew is None else skew) + offset_s * group.rate_hz)
    apart = max(starts) - min(starts)
    source.expect(apart < 1, "unknown_format", f"The leads begin {apart:g} samples apart: they must begin together.")


def read_samples(source: Source, group: MultiplexGroup, little_endian: bool) -> tuple[np.ndarray, int | None]:
    """A group's samples as stored, `(samples, channels)`, and the value of a missing one, None without one."""
    item = group.item
    bits, kind = int(item.get("WaveformBitsAllocated") or 0), text(item, "WaveformSampleInterpretation")
    # Big-endian files, retired long before the first ECG of 32 bits, hold words of 16: nothing orders the two.
    if (bits, kind) not in SAMPLE_TYPES or (bits == 32 and not little_endian):
        received = f"{kind if re.fullmatch('[A-Z]{2}', kind) else 'another'} in {bits} bits"
        known = "8-bit SB or UB, 16-bit SS or US, or little-endian 32-bit SL or UL"
        raise source.refusal("unknown_format", f"Expected {known}. Received {received}.")
    dtype = np.dtype(("<" if little_endian else ">") + SAMPLE_TYPES[bits, kind])
    stored, expected = item.get("WaveformData") or b"", group.samples * group.channels * dtype.itemsize
    received = f"Expected {expected} bytes in WaveformData. Received {len(stored)}."
    source.expect(len(stored) >= expected, "truncated", received)
    source.expect(len(stored) <= expected + expected % 2, "malformed", received)
    padding = item.get("WaveformPaddingValue")
    multiplex = np.frombuffer(stored, dtype, count=group.samples * group.channels)
    return multiplex.reshape(group.samples, -1), int(np.frombuffer(padding, dtype, count=1)[0]) if padding else None


def millivolts(
    source: Source, group: MultiplexGroup, channel: Channel, digital: np.ndarray, padding: int | None
) -> np.ndarray:
    """One channel's samples, float64, NaN where they are missing (PS3.3, C.10.9.1.4.2)."""
    name, definition = f"channel {channel.index + 1} of group {group.number}", channel.definition
    status = definition.get("ChannelStatus") or ""
    is_usable = USABLE_STATUS.issuperset([status] if isinstance(status, str) else status)
    source.expect(is_usable, "leads", f"The ChannelStatus of {name} must be OK.")
    sensitivity = decimal(definition, "ChannelSensitivity")
    correction = decimal(definition, "ChannelSensitivityCorrectionFactor")
    scale = (sensitivity or 0.0) * (1.0 if correction is None else correction)
    source.expect(scale != 0, "unit", f"The ChannelSensitivity of {name} is not stated, or 0.")
    units = [text(unit, "CodeValue") for unit in definition.get("ChannelSensitivityUnitsSequence") or ()]
    unit_mv = source.millivolts_per(units[0] if len(units) == 1 else "", f"ChannelSensitivityUnits of {name}")
    is_missing = digital == padding if padding is not None else np.zeros(digital.shape, bool)
    check_stored_bits(source, name, digital[~is_missing], definition)
    # Without a baseline, 0 will do: an electrocardiograph blocks direct current, so the offset means nothing.
    physical = digital.astype(np.float64) * scale + (decimal(definition, "ChannelBaseline") or 0.0)
    physical *= unit_mv
    physical[is_missing] = np.nan
    return physical


def check_stored_bits(source: Source, name: str, digital: np.ndarray, definition: "Dataset") -> None:
    """Refuses samples that take more bits than Waveform Bits Stored.

    The standard wants the sign extended over the bits allocated (PS3.3, C.10.9.1.7): of a writer that leaves them 0,
    each negative sample would become a large positive one.
    """
    bits = int(definition.get("WaveformBitsStored") or 8 * digital.dtype.itemsize)
    lowest, highest = (-(1 << bits >> 1), (1 << bits >> 1) - 1) if digital.dtype.kind == "i" else (0, (1 << bits) - 1)
    if digital.size and not lowest <= digital.min() <= digital.max() <= highest:
        expected = f"Expected the samples of {name} between {lowest} and {highest}, as WaveformBitsStored {bits} says."
        raise source.refusal("malformed", f"{expected} Received {digital.min()} to {digital.max()}.")
