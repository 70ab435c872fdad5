"""Philips Sierra XML (`restingecgdata`, versions 1.03 to 1.04.02) of PageWriter carts and HeartStart monitors.

`parsedwaveforms` holds all leads, one after the other: as int16 in base64, plainly or packed by Philips' XLI, or as
numbers. XLI packs a lead by itself: eight bytes (length, a constant, a first difference), then LZW codes of 10 bits,
which give the high bytes of all samples and then the low ones, of their second differences. sierraecg undoes the LZW;
the rest is done here, because `sierraecg.read_file` reads no other samples than packed ones, and no XML to be mended.

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
from keras_ecg_mae.recordings.formats.xml import carried_leads, child_text, decimal, positive, read_samples, read_xml
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

DOCUMENT_TYPES, VERSIONS = ("SierraECG", "PhilipsECG"), ("1.03", "1.04", "1.04.01", "1.04.02")
# Version 1.03 names no leads. These acquisition types mean the standard twelve, in the order of `spec.LEADS`.
TWELVE_LEADS = ("STD-12", "10-WIRE")
LIMB_LEADS = spec.LEADS[:6]
XLI_HEADER_BYTES, XLI_BITS = 8, 10
# As many as complete twelve leads to sixteen: of more channels, the duration is rather wrong.
SPARE_CHANNELS = 4
# Of stored units: I, II and III are rounded each on its own.
LARGEST_RESIDUAL = 2
MILLIVOLTS_PER_MICROVOLT = 1e-3


def is_philips_xml(source: Source) -> bool:
    """Whether the file's root element is Philips'."""
    return source.root == "restingecgdata"


def read_philips_xml(source: Source) -> Recording:
    """Reads all leads of a Sierra XML file, and the calibration pulse at their end."""
    root = read_xml(source)
    kind, version = child_text(root, "documentinfo/documenttype"), child_text(root, "documentinfo/documentversion")
    is_known = kind in DOCUMENT_TYPES and version in VERSIONS
    source.expect(is_known, "unknown_format", f"Expected Sierra XML of version {', '.join(VERSIONS)}.")
    detail, waveform = root.find("dataacquisition/signalcharacteristics"), root.find("waveforms/parsedwaveforms")
    if detail is None or waveform is None:
        raise source.refusal("malformed", "Expected signalcharacteristics and parsedwaveforms.")
    rate_hz = agreed(source, detail, "samplingrate", waveform, "samplespersecond", "sampling_rate")
    name = "resolution" if detail.find("resolution") is not None else "signalresolution"
    resolution_uv = agreed(source, detail, name, waveform, "resolution", "unit")
    check_sample_format(source, detail, waveform)
    leads = lead_labels(source, detail, waveform)
    samples = (decimal(waveform.get("durationperchannel")) or 0) * rate_hz / 1000
    is_whole = samples >= 2 and samples == int(samples)
    source.expect(is_whole, "malformed", "Expected a durationperchannel of two whole samples or more.")
    digital = read_digital(source, waveform, leads, int(samples))
    check_limb_leads(source, leads, digital)
    ecg_mv = digital * (resolution_uv * MILLIVOLTS_PER_MICROVOLT)
    return Recording(source.path, leads, rate_hz, ecg_mv, "philips_xml")


def agreed(source: Source, detail: Element, name: str, waveform: Element, attribute: str, code: str) -> float:
    """The positive number of the element `name`, which `attribute` of the waveforms must repeat where it is there."""
    number = positive(source, child_text(detail, name), name, code)
    repeats = decimal(waveform.get(attribute, str(number))) == number
    source.expect(repeats, code, f"Expected {attribute} of parsedwaveforms to be {name}.")
    return number


def check_sample_format(source: Source, detail: Element, waveform: Element) -> None:
    """Refuses a file where the file says that samples are not int16 without an offset."""
    for name, wanted in (("bitspersample", "16"), ("signaloffset", "0"), ("signalsigned", "true")):
        said = (child_text(detail, name), waveform.get(name, ""), waveform.get("n" + name, ""))  # nbitspersample: 1.03
        is_wanted = all(text.strip().lower() in ("", wanted) for text in said)
        source.expect(is_wanted, "unknown_format", "Expected signed samples of 16 bits with signaloffset 0.")


def lead_labels(source: Source, detail: Element, waveform: Element) -> tuple[str, ...]:
    """The leads that are stored, in their order."""
    labels = waveform.get("leadlabels", "").split()
    if labels:
        count = decimal(waveform.get("numberofleads", str(len(labels))))
        source.expect(count in range(1, len(labels) + 1), "leads", "Expected a label for each of numberofleads leads.")
        return carried_leads(source, labels[: int(count or 0)])  # fewer leads than labels: the others are not stored
    kind, allocated = child_text(detail, "acquisitiontype"), decimal(child_text(detail, "numberchannelsallocated")) or 0
    is_twelve = kind in TWELVE_LEADS and allocated >= len(spec.LEADS)
    source.expect(is_twelve, "leads", f"Expected leadlabels, or twelve channels of {' or '.join(TWELVE_LEADS)}.")
    return spec.LEADS


def read_digital(source: Source, waveform: Element, leads: tuple[str, ...], samples: int) -> np.ndarray:
    """Stored samples, `(leads, samples)`, with the limb leads made whole."""
    text = waveform.text or ""
    compression = waveform.get("compressmethod", waveform.get("compression", "Uncompressed")).strip().lower()
    if waveform.get("compressflag", "").strip().lower() == "false":
        compression = "uncompressed"
    match waveform.get("dataencoding", "").strip().lower(), compression:
        case "plain", _:
            stored = read_samples(source, text, "," if "," in text else None, "the leads")
            return split(source, stored, leads, samples)
        case "base64", "xli":
            content = base64.b64decode("".join(text.split()), validate=True)
            return derive_limb_leads(source, leads, unpack(source, content, len(leads), samples))
        case "base64", "uncompressed" | "none":
            content = base64.b64decode("".join(text.split()), validate=True)
            return split(source, np.frombuffer(content, "<i2", len(content) // 2), leads, samples)
    raise source.refusal("unknown_format", "Expected Base64 or Plain samples, packed by XLI or not at all.")


def split(source: Source, stored: np.ndarray, leads: tuple[str, ...], samples: int) -> np.ndarray:
    """Samples that were not packed, `(leads, samples)`, without the channels behind them."""
    channels, rest = divmod(stored.size, samples)
    fits = not rest and 0 <= channels - len(leads) <= SPARE_CHANNELS
    received = f"Expected {len(leads)} leads of {samples} samples. Received {stored.size} samples in all."
    source.expect(fits, "truncated", received)
    return stored.reshape(channels, samples)[: len(leads)]


def unpack(source: Source, content: bytes, leads: int, samples: int) -> np.ndarray:
    """The first `leads` leads of an XLI stream, `(leads, samples)` int64."""
    rows, place = [], 0
    for lead in range(1, leads + 1):
        header = content[place : place + XLI_HEADER_BYTES]
        size = int.from_bytes(header[:4], "little")
        first = int.from_bytes(header[6:], "little", signed=True)
        place += XLI_HEADER_BYTES + size
        source.expect(header and place <= len(content), "truncated", f"Expected {leads} leads. Received {lead - 1}.")
        decoder = LzwDecoder(content[place - size : place], bits=XLI_BITS)
        unpacked = bytes(decoder.read_bytes(2 * samples))
        # -1 is the end
        source.expect(decoder.read() == -1, "malformed", f"Expected packed lead {lead} to give {samples} samples.")
        rows.append(integrate(unpacked, first))
    return np.stack(rows)


def integrate(unpacked: bytes, first: int) -> np.ndarray:
    """Samples from their second differences, int64.

    The first two samples are stored as they are. Of each later sample the negative second difference is stored one
    place before it, plus 64, and that of the third in the header.
    """
    high, low = np.frombuffer(unpacked, np.uint8).reshape(2, -1).astype(np.int64)
    words = (high << 8 | low).astype(np.int16).astype(np.int64)
    second = np.concatenate([[first], words[2:-1] - 64])[: words.size - 2]
    slopes = words[1] - words[0] - np.cumsum(second)
    return np.concatenate([words[:2], words[1] + np.cumsum(slopes)])


def derive_limb_leads(source: Source, leads: tuple[str, ...], digital: np.ndarray) -> np.ndarray:
    """XLI's leads with III, aVR, aVL and aVF in place of what is left of them after their derivation."""
    source.expect(leads[:6] == LIMB_LEADS, "leads", f"Expected packed leads to begin with {', '.join(LIMB_LEADS)}.")
    one, two, three, right, left, foot = digital[:6]
    three = two - one - three
    derived = [three, -right - (one + two) // 2, (one - three) // 2 - left, (two + three) // 2 - foot]
    return np.concatenate([digital[:2], derived, digital[6:]])


def check_limb_leads(source: Source, leads: tuple[str, ...], digital: np.ndarray) -> None:
    """Refuses a file where III does not fit I and II."""
    if {"I", "II", "III"} <= set(leads):
        one, two, three = (digital[leads.index(lead)].astype(np.float64) for lead in ("I", "II", "III"))
        fits = np.median(np.abs(two - one - three)) <= LARGEST_RESIDUAL
        source.expect(fits, "malformed", "Expected II = I + III. Received a lead III that is something else.")
