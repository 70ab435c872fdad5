"""Philips Sierra XML (`restingecgdata`, versions 1.03 to 1.04.02) of PageWriter carts and HeartStart monitors.

`parsedwaveforms` holds all leads, one after the other: as int16 in base64, plainly or packed by Philips' XLI, or as
numbers. XLI packs a lead by itself: eight bytes (length, a constant, a first difference), then LZW codes of 10 bits,
which give the high bytes of all samples and then the low ones, of their second differences. sierraecg undoes the LZW;
the rest is done here, because `sierraecg.read_file` takes any size on trust (a negative length keeps it in one place
for ever, 1 MiB may unpack to 600), lets int16 overflow, and fails on samples that are not packed.

In XLI, III, aVR, aVL and aVF are what is left of them after their derivation from I and II; in plain samples they are
themselves. Neither is documented: Einthoven's law has the last word, and a III that does not fit I and II is refused.

A unit is `resolution` microvolts (in version 1.03 `signalresolution`): the calibration pulse of 1 mV with which a
recording ends shows it. That pulse stays; it comes after 10.6 s of 11, behind what `conform` takes. More channels
than labels are the analysis program's spare ones and hold nothing else.
"""

import base64
from xml.etree.ElementTree import Element

import numpy as np
from sierraecg.lzw import LzwDecoder

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.formats.xml import carried_leads, child_text, decimal, read_samples, read_xml
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

ROOT = "restingecgdata"
DOCUMENT_TYPES, VERSIONS = ("SierraECG", "PhilipsECG"), ("1.03", "1.04", "1.04.01", "1.04.02")
# Version 1.03 names no leads. These acquisition types mean the standard twelve, in the order of `spec.LEADS`.
TWELVE_LEADS = ("STD-12", "10-WIRE")
LIMB_LEADS = spec.LEADS[:6]
XLI_HEADER_BYTES, XLI_BITS = 8, 10
# Four minutes at 500 Hz. The decoder goes on for ever behind the end of what it has.
LARGEST_SAMPLES = 1 << 17
# As many as complete twelve leads to sixteen: of more channels, the duration is rather wrong.
SPARE_CHANNELS = 4
# Of stored units: I, II and III are rounded each on its own.
LARGEST_RESIDUAL = 2
MILLIVOLTS_PER_MICROVOLT = 1e-3


def is_philips_xml(source: Source) -> bool:
    """Whether the file's root element is Philips'."""
    return source.root == ROOT


def read_philips_xml(source: Source) -> Recording:
    """Reads the waveforms of a Sierra XML file.

    Returns:
        all its leads in millivolts, float64, and the calibration pulse at their end.
    """
    root = read_xml(source)
    kind, version = child_text(root, "documentinfo/documenttype"), child_text(root, "documentinfo/documentversion")
    if kind not in DOCUMENT_TYPES or version not in VERSIONS:
        raise source.refusal(
            "unknown_format",
            f"Expected {' or '.join(DOCUMENT_TYPES)} of version {', '.join(VERSIONS)}.",
        )
    details, waveforms = (
        root.findall("dataacquisition/signalcharacteristics"),
        root.findall("waveforms/parsedwaveforms"),
    )
    if len(details) != 1 or len(waveforms) != 1:
        raise source.refusal(
            "malformed",
            "Expected one signalcharacteristics and one parsedwaveforms. "
            f"Received {len(details)} and {len(waveforms)}.",
        )
    (detail,), (waveform,) = details, waveforms
    rate_hz = agreed(source, detail, "samplingrate", waveform, "samplespersecond", "sampling_rate")
    name = "resolution" if detail.find("resolution") is not None else "signalresolution"
    resolution_uv = agreed(source, detail, name, waveform, "resolution", "unit")
    check_sample_format(source, detail, waveform)
    leads = lead_labels(source, detail, waveform)
    digital = read_digital(source, waveform, leads, sample_count(source, waveform, rate_hz))
    check_limb_leads(source, leads, digital)
    with np.errstate(over="ignore"):  # an absurd resolution gives infinity, which conforming refuses
        ecg_mv = digital * (resolution_uv * MILLIVOLTS_PER_MICROVOLT)
    return Recording(path=source.path, leads=leads, sampling_rate_hz=rate_hz, ecg_mv=ecg_mv, format="philips_xml")


def agreed(source: Source, detail: Element, name: str, waveform: Element, attribute: str, code: str) -> float:
    """The positive number of the element `name`, which `attribute` of the waveforms must repeat where it is there."""
    number = decimal(child_text(detail, name))
    if number is None or number <= 0 or decimal(waveform.get(attribute, str(number))) != number:
        raise source.refusal(code, f"Expected a positive {name}, and no other in parsedwaveforms.")
    return number


def check_sample_format(source: Source, detail: Element, waveform: Element) -> None:
    """Refuses a file where the file says that samples are not int16 without an offset."""
    for name, wanted in (("bitspersample", "16"), ("signaloffset", "0"), ("signalsigned", "true")):
        said = (child_text(detail, name), waveform.get(name, ""), waveform.get("n" + name, ""))  # nbitspersample: 1.03
        if any(text and text.strip().lower() != wanted for text in said):
            raise source.refusal("unknown_format", "Expected signed samples of 16 bits with signaloffset 0.")


def lead_labels(source: Source, detail: Element, waveform: Element) -> tuple[str, ...]:
    """The leads that are stored, in their order."""
    labels = waveform.get("leadlabels", "").split()
    if labels:
        count = decimal(waveform.get("numberofleads", str(len(labels)))) or 0
        leads = tuple(labels[: int(min(max(count, 0), len(labels)))])
        complete = count == len(leads)  # fewer leads than labels: the others are not stored
    else:
        leads = spec.LEADS
        allocated = decimal(child_text(detail, "numberchannelsallocated")) or 0
        complete = child_text(detail, "acquisitiontype") in TWELVE_LEADS and allocated >= len(leads)
    if not leads or not complete:
        raise source.refusal(
            "leads",
            f"Expected a label for each of numberofleads leads, or an acquisitiontype {' or '.join(TWELVE_LEADS)} "
            f"of twelve channels or more. Received {len(labels)} labels.",
        )
    return carried_leads(source, leads)


def sample_count(source: Source, waveform: Element, rate_hz: float) -> int:
    """How many samples a lead has, from `durationperchannel`, which is in milliseconds."""
    duration_ms = decimal(waveform.get("durationperchannel"))
    samples = 0.0 if duration_ms is None else duration_ms * rate_hz / 1000
    if samples < 2 or samples != round(min(samples, 1e15)):
        raise source.refusal("malformed", "Expected a durationperchannel of two whole samples or more.")
    if samples > LARGEST_SAMPLES:
        raise source.refusal("too_long", f"Expected at most {LARGEST_SAMPLES} samples a lead. Received {samples:.0f}.")
    return int(samples)


def read_digital(source: Source, waveform: Element, leads: tuple[str, ...], samples: int) -> np.ndarray:
    """Stored samples, `(leads, samples)`, with the limb leads made whole."""
    compression = waveform.get("compressmethod", waveform.get("compression", "Uncompressed")).strip().lower()
    if waveform.get("compressflag", "").strip().lower() == "false":
        compression = "uncompressed"
    match waveform.get("dataencoding", "").strip().lower(), compression:
        case "plain", _:
            separator = "," if "," in (waveform.text or "") else None
            return split(source, read_samples(source, waveform.text, separator, "the leads"), leads, samples)
        case "base64", "xli":
            return derive_limb_leads(source, leads, unpack(source, read_base64(source, waveform), len(leads), samples))
        case "base64", "uncompressed" | "none":
            content = read_base64(source, waveform)
            return split(source, np.frombuffer(content[: len(content) // 2 * 2], "<i2"), leads, samples)
        case _:
            raise source.refusal(
                "unknown_format",
                "Expected Base64 or Plain samples, packed by XLI or not at all.",
            )


def read_base64(source: Source, waveform: Element) -> bytes:
    """The bytes in an element's text."""
    try:
        return base64.b64decode("".join((waveform.text or "").split()), validate=True)
    except ValueError:
        raise source.refusal("malformed", "Expected base64 in parsedwaveforms.") from None


def split(source: Source, stored: np.ndarray, leads: tuple[str, ...], samples: int) -> np.ndarray:
    """Samples that were not packed, `(leads, samples)`, without the channels behind them."""
    channels, rest = divmod(stored.size, samples)
    if rest or not 0 <= channels - len(leads) <= SPARE_CHANNELS:
        raise source.refusal(
            "truncated",
            f"Expected {len(leads)} leads of {samples} samples. Received {stored.size} samples in all.",
        )
    return stored.reshape(channels, samples)[: len(leads)]


def unpack(source: Source, content: bytes, leads: int, samples: int) -> np.ndarray:
    """The first `leads` leads of an XLI stream, `(leads, samples)` int64."""
    rows, place = [], 0
    for lead in range(1, leads + 1):
        header = content[place : place + XLI_HEADER_BYTES]
        size = int.from_bytes(header[:4], "little", signed=True)
        first = int.from_bytes(header[6:], "little", signed=True)
        place += XLI_HEADER_BYTES
        if len(header) < XLI_HEADER_BYTES or not 0 < size <= len(content) - place:
            raise source.refusal("truncated", f"Expected {leads} packed leads. Received {lead - 1} whole ones.")
        decoder = LzwDecoder(content[place : place + size], bits=XLI_BITS)
        place += size
        try:
            unpacked = bytes(decoder.read_bytes(2 * samples))
            complete = decoder.read() == -1
        except (IndexError, OverflowError):  # a code before any string it could repeat; -1 for the end
            complete = False
        row = integrate(unpacked, first) if complete else None
        if row is None:
            raise source.refusal("malformed", f"Expected packed signal {lead} to give {samples} samples.")
        rows.append(row)
    return np.stack(rows)


def integrate(unpacked: bytes, first: int) -> np.ndarray | None:
    """Samples from their second differences, int64, or None where they leave int16.

    The first two samples are stored as they are. Of each later sample the negative second difference is stored one
    place before it, plus 64, and that of the third in the header.
    """
    high, low = np.frombuffer(unpacked, np.uint8).reshape(2, -1).astype(np.int64)
    words = (high << 8 | low).astype(np.int16).astype(np.int64)
    second = np.concatenate([[first], words[2:-1] - 64])[: words.size - 2]
    slopes = words[1] - words[0] - np.cumsum(second)
    row = np.concatenate([words[:2], words[1] + np.cumsum(slopes)])
    limits = np.iinfo(np.int16)
    return row if limits.min <= row.min() and row.max() <= limits.max else None


def derive_limb_leads(source: Source, leads: tuple[str, ...], digital: np.ndarray) -> np.ndarray:
    """XLI's leads with III, aVR, aVL and aVF in place of what is left of them after their derivation."""
    if leads[:6] != LIMB_LEADS:
        raise source.refusal("leads", f"Expected packed leads to begin with {', '.join(LIMB_LEADS)}.")
    one, two, three, right, left, foot = digital[:6]
    three = two - one - three
    derived = [three, -right - (one + two) // 2, (one - three) // 2 - left, (two + three) // 2 - foot]
    return np.concatenate([digital[:2], derived, digital[6:]])


def check_limb_leads(source: Source, leads: tuple[str, ...], digital: np.ndarray) -> None:
    """Refuses a file where III does not fit I and II."""
    if {"I", "II", "III"} <= set(leads):
        one, two, three = (digital[leads.index(lead)].astype(np.float64) for lead in ("I", "II", "III"))
        if np.median(np.abs(two - one - three)) > LARGEST_RESIDUAL:
            raise source.refusal("malformed", "Expected II = I + III. Received a lead III that is something else.")
