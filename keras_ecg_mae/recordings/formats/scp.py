"""SCP-ECG (EN 1064, ISO 11073-91064): numbered sections of little-endian numbers.

Four sections are read, and each has to fit its checksum: 0 (where the others lie), 2 (Huffman tables), 3 (leads) and 6
(rhythm). The others hold names, dates, measurements and statements, and reference beats. They are not looked at, so
that damage to them, or an anonymizer that leaves their checksums as they were, costs nothing.

A rhythm from which a reference beat was subtracted, or whose rate differs within beats and between them (bimodal), is
refused: no real file of either kind was found to try a reader on.
"""

import binascii
import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_ecg_mae.recordings.formats.lead_codes import LEAD_CODES
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

RECORD_HEADER_BYTES = 6
SECTION_HEADER_BYTES = 16
POINTER = struct.Struct("<HII")  # of section 0: a section's number, its length, and its first byte, counted from 1
LEAD = struct.Struct("<IIB")  # of section 3: first sample, last sample, code
# Of section 2: bits of the prefix, bits in all, whether it is a sample's, value, prefix.
CODE = struct.Struct("<BBBhI")
DEFAULT_TABLE_COUNT = 19999  # in place of the number of tables
REFERENCE_BEAT_SUBTRACTED = 1  # a bit of section 3's flags
NANOVOLTS_PER_MILLIVOLT = 1e6
MICROSECONDS_PER_SECOND = 1e6


class HuffmanTable(NamedTuple):
    """What runs of bits stand for.

    Attributes:
        pattern: a group for each code: the bits that follow its prefix, a signed number that is added to its value.
        values: of each code: of a sample, or else the number of the table to go on with.
        switches: of each code, whether it is for another table.
    """

    pattern: re.Pattern[str]
    values: Sequence[int]
    switches: Sequence[bool]


# As the standard gives it: 0; then 1 to 8 as so many ones, a zero and the sign; then numbers of 8 and of 16 bits.
DEFAULT_VALUES = [0, *(value for size in range(1, 9) for value in (size, -size)), 0, 0]
DEFAULT_TABLE = HuffmanTable(
    re.compile(
        "0()"
        + "".join(f"|{'1' * size}0{sign}()" for size in range(1, 9) for sign in "01")
        + "|1{9}0(.{8})|1{10}(.{16})"
    ),
    DEFAULT_VALUES,
    [False] * len(DEFAULT_VALUES),
)


def is_scp(source: Source) -> bool:
    """Whether the file begins as a record of SCP-ECG: section 0, whose first pointer is to itself."""
    head = source.head
    if len(head) < RECORD_HEADER_BYTES + SECTION_HEADER_BYTES + POINTER.size:
        return False
    number, length = struct.unpack_from("<HI", head, RECORD_HEADER_BYTES + 2)
    pointer = POINTER.unpack_from(head, RECORD_HEADER_BYTES + SECTION_HEADER_BYTES)
    return bool(number == 0 and pointer == (0, length, RECORD_HEADER_BYTES + 1))


def read_scp(source: Source) -> Recording:
    """Reads the rhythm of an SCP-ECG record: all leads, of which those without a code are called `signal NUMBER`."""
    sections = Sections(source)
    tables = huffman_tables(sections.body(2)) if 2 in sections.places else None
    leads, samples = read_leads(source, sections.body(3))
    rhythm = sections.body(6)
    nanovolts, interval_us, differences, bimodal = struct.unpack_from("<HHBB", rhythm)
    source.expect(nanovolts, "unit", "Expected section 6 to say how many nanovolts a unit is. Received 0.")
    source.expect(interval_us, "sampling_rate", "Expected section 6 to say the time between samples. Received 0.")
    received = "bimodal compression" if bimodal else f"encoding {differences}"
    is_known = differences <= 2 and not bimodal
    source.expect(is_known, "unknown_format", f"Expected samples, or differences, at one rate. Received {received}.")
    rows = []
    lengths = struct.unpack_from(f"<{len(leads)}H", rhythm, 6)
    start = 6 + 2 * len(leads)
    for lead, length in zip(leads, lengths, strict=True):
        stored = rhythm[start : start + length]
        start += length
        values = np.frombuffer(stored, "<i2", len(stored) // 2) if tables is None else decode(stored, samples, tables)
        received = f"Expected {samples} samples of lead {lead} in section 6. Received {len(values)}."
        source.expect(len(values) >= samples, "malformed", received)
        rows.append(sums(values[:samples], differences))
    ecg_mv = np.stack(rows) * float(nanovolts) / NANOVOLTS_PER_MILLIVOLT
    return Recording(source.path, leads, MICROSECONDS_PER_SECOND / interval_us, ecg_mv, "scp")


class Sections:
    """The sections of a record.

    Attributes:
        places: first byte and length of each section that is not empty, by its number.
    """

    def __init__(self, source: Source):
        self.source = source
        self.places = {0: (RECORD_HEADER_BYTES, struct.unpack_from("<I", source.content, RECORD_HEADER_BYTES + 4)[0])}
        pointers = self.body(0)
        for number, length, place in POINTER.iter_unpack(pointers[: len(pointers) // POINTER.size * POINTER.size]):
            if length > SECTION_HEADER_BYTES:
                self.places[number] = place - 1, length

    def body(self, number: int) -> bytes:
        """What follows a section's header. Raises `RecordingError` where it is not there, or not what was written."""
        self.source.expect(number in self.places, "malformed", f"Expected section {number}. Received none.")
        place, length = self.places[number]
        section = self.source.content[place : place + length]
        received = f"Expected {length} bytes of section {number}. Received {len(section)}."
        self.source.expect(len(section) == length, "truncated", received)
        is_right = int.from_bytes(section[:2], "little") == binascii.crc_hqx(section[2:], 0xFFFF)
        self.source.expect(is_right, "malformed", f"Expected section {number} to have its checksum: it is damaged.")
        return section[SECTION_HEADER_BYTES:]


def read_leads(source: Source, section: bytes) -> tuple[tuple[str, ...], int]:
    """The leads that section 3 lists, in the order of section 6, and how many samples each has."""
    count, flags = section[:2]
    is_whole = not flags & REFERENCE_BEAT_SUBTRACTED
    source.expect(is_whole, "unknown_format", "Expected a rhythm from which no reference beat was subtracted.")
    listed = [LEAD.unpack_from(section, 2 + number * LEAD.size) for number in range(count)]
    is_together = len({(first, last) for first, last, _ in listed}) == 1
    source.expect(is_together, "unknown_format", "Expected all leads of section 3 to have been recorded together.")
    first, last, _ = listed[0]
    leads = tuple(LEAD_CODES.get(code, f"signal {number}") for number, (*_, code) in enumerate(listed, start=1))
    return leads, max(0, last + 1 - max(first, 1))  # some writers call the sample before the first one the first


def huffman_tables(section: bytes) -> list[HuffmanTable]:
    """The tables that section 2 says or has."""
    count = int.from_bytes(section[:2], "little")
    if count == DEFAULT_TABLE_COUNT:
        return [DEFAULT_TABLE]
    tables: list[HuffmanTable] = []
    start = 2
    while len(tables) < count and start < len(section):
        end = start + 2 + CODE.size * int.from_bytes(section[start : start + 2], "little")
        codes = list(CODE.iter_unpack(section[start + 2 : end]))
        start = end
        # The first bit of a stored prefix is the lowest.
        alternatives = [
            f"{prefix:032b}"[::-1][:prefix_bits] + f"(.{{{bits - prefix_bits}}})"
            for prefix_bits, bits, _, _, prefix in codes
        ]
        values, switches = [code[3] for code in codes], [not code[2] for code in codes]
        tables.append(HuffmanTable(re.compile("|".join(alternatives)), values, switches))
    return tables


def decode(stored: bytes, samples: int, tables: Sequence[HuffmanTable]) -> np.ndarray:
    """The samples of one lead, `(samples,)`: fewer where the bits end, or stand for none."""
    bits = bin(int.from_bytes(b"\1" + stored, "big"))[3:]
    decoded: list[int] = []
    place, table = 0, tables[0]
    while len(decoded) < samples and (match := table.pattern.match(bits, place)):
        place, code = match.end(), (match.lastindex or 1) - 1
        if table.switches[code]:
            table = tables[table.values[code] - 1]
            continue
        rest = match[code + 1]
        decoded.append(table.values[code] + (int(rest, 2) - (int(rest[0]) << len(rest)) if rest else 0))
    return np.array(decoded, np.int64)


def sums(values: np.ndarray, differences: int) -> np.ndarray:
    """Samples from themselves (0), their first (1) or their second differences (2), whose first ones are samples."""
    summed = values.astype(np.int64)
    if differences == 2:
        summed[1:2] -= 2 * summed[:1]
        summed = np.cumsum(summed)
    if differences:
        summed = np.cumsum(summed)
    return summed.astype(np.int16)  # as writers count: a difference that is no int16 runs over
