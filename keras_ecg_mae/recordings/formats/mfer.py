"""MFER (ISO 22077; MFER part 1 and, for the standard 12-lead ECG, part 3-1): definitions of a tag, a length, a value.

The definition `WAVEFORM` holds the samples, laid out as the definitions before it say: some sequences, in each of them
a block of samples of every channel. Tags that have no name here are passed over. Among them are those of a patient's
name, id and age.

Compressed samples are refused. An offset is refused too, since it is not settled whether to add or subtract it.
Averaged beats, spectra and trends are left out where they stand beside a rhythm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.lead_codes import LEAD_CODES
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

PADDING, BYTE_ORDER, BLOCK, CHANNELS, SEQUENCES, KIND, LEAD, DATA_TYPE = 0x00, 0x01, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0A
INTERVAL, SENSITIVITY, OFFSET, COMPRESSION, NO_DATA = 0x0B, 0x0C, 0x0D, 0x0E, 0x12
WAVEFORM, CHANNEL, PREAMBLE, GROUP, END = 0x1E, 0x3F, 0x40, 0x67, 0x80
KEPT = {BLOCK, SEQUENCES, KIND, LEAD, DATA_TYPE, INTERVAL, SENSITIVITY, OFFSET, COMPRESSION, NO_DATA}
# A file without a preamble is known by these, which are this short, among its first bytes.
TELLING, TELLING_BYTES, FIRST_BYTES = {CHANNELS, INTERVAL, SENSITIVITY}, 6, 1 << 12

DATA_TYPES = {0: "i2", 1: "u2", 2: "i4", 3: "u1", 5: "i1", 6: "u4"}
# Unidentified; standard 12-lead, long-term and stress ECG; long-term monitoring and monitoring.
RHYTHMS = {0, 1, 2, 4, 20, 21}
HERTZ, SECONDS = 0, 1  # units of an interval
VOLTS = 0  # the unit of a sensitivity
LONG_LENGTH = 0x80  # and the number of bytes that follow and hold the length; with none, padding ends what follows


class Value(NamedTuple):
    """A definition's value.

    Attributes:
        content: its bytes.
        order: in which they are.
    """

    content: bytes
    order: Literal["big", "little"]

    def number(self) -> int:
        """A count."""
        return int.from_bytes(self.content, self.order)

    def code(self) -> int:
        """A code of one or two bytes. A text may follow it."""
        return int.from_bytes(self.content[:2], self.order)

    def scaled(self) -> tuple[int, Fraction]:
        """A unit, and how many of it: one byte for the unit, one for the exponent of ten, and the mantissa."""
        exponent = int.from_bytes(self.content[1:2], "big", signed=True)
        mantissa = int.from_bytes(self.content[2:], self.order, signed=True)
        return self.content[0], mantissa * Fraction(10) ** exponent


Definitions = dict[int, Value]
ZERO, ONE = Value(b"\0", "big"), Value(b"\1", "big")


@dataclass(frozen=True)
class Frame:
    """Samples and what is said of them.

    Attributes:
        channels: the definitions of each channel: those for all, and its own, which come first.
        samples: as stored, and their order of bytes.
    """

    channels: list[Definitions]
    samples: Value


def is_mfer(source: Source) -> bool:
    """Whether the file begins as MFER: with its preamble, or with definitions of channels, interval and sensitivity."""
    if source.head[:1] == bytes([PREAMBLE]) and source.head[2:5] == b"MFR":
        return True
    found = set()
    try:
        for _, tag, value in definitions(source, source.head[:FIRST_BYTES]):
            if tag in TELLING and len(value) > TELLING_BYTES:
                return False
            found.add(tag)
    except RecordingError:  # the last definition goes on, or this is no definition
        pass
    return found >= TELLING


def read_mfer(source: Source) -> Recording:
    """Reads the channels of a rhythm that are said to be a lead; NaN where the file says that there is no data."""
    frame = rhythm(source)
    stored = split_channels(source, frame)
    leads, rates_hz, rows = [], [], []
    for channel, samples in zip(frame.channels, stored, strict=True):
        lead = LEAD_CODES.get(channel.get(LEAD, ZERO).code())
        if lead is not None and channel.get(KIND, ZERO).code() in RHYTHMS:
            leads.append(lead)
            rates_hz.append(sampling_rate_hz(source, lead, channel))
            rows.append(millivolts(source, lead, channel, samples))
    source.expect(leads, "leads", f"Expected channels said to be a lead. Received none among {len(stored)} channels.")
    is_one = len({(rate, row.size) for rate, row in zip(rates_hz, rows, strict=True)}) == 1
    source.expect(is_one, "unknown_format", "Expected one sampling rate for all leads. Received several.")
    return Recording(source.path, tuple(leads), rates_hz[0], np.stack(rows), "mfer")


def definitions(source: Source, content: bytes) -> Iterator[tuple[int | None, int, bytes]]:
    """The definitions of a file or of its beginning: the channel that each is for, None for all; its tag; its value."""
    place, channel, channel_end = 0, None, 0
    until_padding = False  # whether the channel's definitions end there, and not at `channel_end`
    while place < len(content) and content[place] != END:
        tag = content[place]
        if not until_padding and place >= channel_end:
            channel = None
        place += 1
        if tag == PADDING:
            until_padding = False
            continue
        if tag == CHANNEL:
            channel = int.from_bytes(content[place : place + 1], "big")
            place += 1
        length = int.from_bytes(content[place : place + 1], "big")
        place += 1
        open_ended = length == LONG_LENGTH and tag in (CHANNEL, GROUP)
        if open_ended:
            length = 0
        elif length >= LONG_LENGTH:
            size = length - LONG_LENGTH
            length = int.from_bytes(content[place : place + size], "big")
            place += size
        if tag == CHANNEL:
            channel_end, until_padding = place + length, open_ended
        elif tag != GROUP:  # the definitions in it are those that follow
            received = f"Expected {length} bytes of definition {tag:02X}h. Received {len(content) - place}."
            source.expect(place + length <= len(content), "truncated", received)
            yield channel, tag, content[place : place + length]
            place += length


def rhythm(source: Source) -> Frame:
    """The one frame of samples that is an ECG over time."""
    found, kinds = [], []
    order: Literal["big", "little"] = "big"
    general: Definitions = {}
    own: dict[int, Definitions] = {}
    channels = 1
    for channel, tag, content in definitions(source, source.content):
        if tag == BYTE_ORDER:
            order = "little" if any(content) else "big"
        elif tag == CHANNELS:
            own, channels = {}, Value(content, order).number() or 1
            # Definitions of a channel have one byte for its number.
            source.expect(channels < 256, "unknown_format", f"Expected at most 255 channels. Received {channels}.")
        elif tag == WAVEFORM:
            kinds.append(general[KIND].code() if KIND in general else 0)
            if kinds[-1] in RHYTHMS:
                each = [general | own.get(number, {}) for number in range(channels)]
                found.append(Frame(each, Value(content, order)))
        elif tag in KEPT:
            said = general if channel is None else own.setdefault(channel, {})
            if content:
                said[tag] = Value(content, order)
            else:
                said.pop(tag, None)  # takes back what was said
    source.expect(kinds, "truncated", "Expected a definition of samples (1Eh). Received none.")
    received = f"Received {len(found)} among types {', '.join(map(str, sorted(set(kinds))))}."
    source.expect(len(found) == 1, "unknown_format", f"Expected one frame of samples of an ECG over time. {received}")
    return found[0]


def split_channels(source: Source, frame: Frame) -> list[np.ndarray]:
    """The samples of each channel, `(samples,)`, as stored."""
    types = [data_type(source, channel, frame.samples.order) for channel in frame.channels]
    blocks = [channel.get(BLOCK, ONE).number() for channel in frame.channels]
    sequence_bytes = sum(kind.itemsize * block for kind, block in zip(types, blocks, strict=True))
    stored_bytes = len(frame.samples.content)
    if SEQUENCES in frame.channels[0]:
        expected = sequence_bytes * frame.channels[0][SEQUENCES].number()
    else:
        expected = sequence_bytes * -(-stored_bytes // sequence_bytes)
    received = f"Expected {expected} bytes of samples, as blocks, channels and sequences say. Received {stored_bytes}."
    source.expect(stored_bytes >= expected, "truncated", received)
    source.expect(stored_bytes == expected, "malformed", received)
    names = [str(number) for number in range(len(types))]
    layout = np.dtype([(name, kind, (block,)) for name, kind, block in zip(names, types, blocks, strict=True)])
    stored = np.frombuffer(frame.samples.content, layout)
    return [stored[name].ravel() for name in names]


def data_type(source: Source, channel: Definitions, order: str) -> np.dtype[Any]:
    """How each sample of a channel is stored."""
    is_plain = not any(channel.get(COMPRESSION, ZERO).content)
    source.expect(is_plain, "unknown_format", "Expected samples that are not compressed (0Eh). Received others.")
    code = channel.get(DATA_TYPE, ZERO).number()
    received = f"Expected a type of data (0Ah) among {', '.join(map(str, DATA_TYPES))}. Received {code}."
    source.expect(code in DATA_TYPES, "unknown_format", received)
    return np.dtype(DATA_TYPES[code]).newbyteorder("<" if order == "little" else ">")


def sampling_rate_hz(source: Source, lead: str, channel: Definitions) -> float:
    """Samples a second of a lead."""
    unit, count = channel[INTERVAL].scaled() if INTERVAL in channel else (None, Fraction(0))
    is_known = unit in (HERTZ, SECONDS) and count > 0
    source.expect(is_known, "sampling_rate", f"Expected a positive interval (0Bh) of lead {lead} in Hz or s.")
    return float(count if unit == HERTZ else 1 / count)


def millivolts(source: Source, lead: str, channel: Definitions, stored: np.ndarray) -> np.ndarray:
    """A lead's samples in millivolts, `(samples,)` float64."""
    unit, volts = channel[SENSITIVITY].scaled() if SENSITIVITY in channel else (None, Fraction(0))
    is_known = unit == VOLTS and volts > 0
    source.expect(is_known, "unit", f"Expected a positive sensitivity (0Ch) of lead {lead} in volts.")
    offset = f"Expected no offset (0Dh) of lead {lead}. Received one: whether to add or subtract it is unknown."
    source.expect(not any(channel.get(OFFSET, ZERO).content), "unit", offset)
    ecg_mv = stored * float(volts * 1000)
    no_data = channel.get(NO_DATA, ZERO)
    if any(no_data.content):  # 0 is the default, and a voltage
        ecg_mv[stored == int.from_bytes(no_data.content, no_data.order, signed=stored.dtype.kind == "i")] = np.nan
    return ecg_mv
