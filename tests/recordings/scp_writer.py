"""Writes SCP-ECG (EN 1064, ISO 11073-91064) by the letter of the standard."""

import binascii
import struct
from collections.abc import Callable, Sequence

import numpy as np

from keras_ecg_mae.recordings.formats.lead_codes import LEAD_CODES

CODES = {lead: code for code, lead in LEAD_CODES.items()}
LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
DIGITAL = np.random.default_rng(0).normal(0, 6, (8, 300)).cumsum(axis=1).astype(int)
NAME = b"Zyxomma^Quokka"

Bits = Callable[[int], str]


def default_bits(value: int) -> str:
    """A number in the standard's own Huffman table."""
    if abs(value) <= 8:
        return "1" * abs(value) + "0" + ("" if value == 0 else "01"[value < 0])
    size = 8 if -128 <= value < 128 else 16
    return {8: "1111111110", 16: "1111111111"}[size] + f"{value % (1 << size):0{size}b}"


def section(number: int, body: bytes) -> bytes:
    rest = struct.pack("<HIBB6x", number, 16 + len(body), 20, 20) + body
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def record(bodies: dict[int, bytes]) -> bytes:
    """A record of these sections: a pointer to each, and to itself, stands in section 0."""
    pointers, sections = b"", b""
    size = 16 + 10 * 12
    for number in range(1, 12):
        body = bodies.get(number)
        made = b"" if body is None else section(number, body)
        pointers += struct.pack("<HII", number, len(made), 1 + 6 + size + len(sections) if made else 0)
        sections += made
    rest = section(0, struct.pack("<HII", 0, size, 7) + pointers) + sections
    rest = struct.pack("<I", 6 + len(rest)) + rest
    return struct.pack("<H", binascii.crc_hqx(rest, 0xFFFF)) + rest


def bodies(
    digital: np.ndarray = DIGITAL,
    leads: Sequence[str] = LEADS,
    differences: int = 2,
    bits: Bits | None = default_bits,
    tables: bytes = struct.pack("<H", 19999),
    nanovolts: int = 2500,
    interval_us: int = 2000,
    first: int = 1,
    flags: int = 0b1000100,
    bimodal: int = 0,
) -> dict[int, bytes]:
    """The bodies of the sections of a record with these samples, `(leads, samples)`."""
    stored = [pack(encoded(row, differences), bits) for row in digital]
    listed = b"".join(struct.pack("<IIB", first, digital.shape[1], CODES[lead]) for lead in leads)
    rhythm = struct.pack("<HHBB", nanovolts, interval_us, differences, bimodal)
    rhythm += b"".join(struct.pack("<H", len(row)) for row in stored) + b"".join(stored)
    sections = {1: b"\0" + struct.pack("<H", len(NAME)) + NAME + b"\xff\0\0", 3: bytes([len(leads), flags]) + listed}
    return sections | ({} if bits is None else {2: tables}) | {6: rhythm, 8: b"\1" + NAME}


def encoded(samples: np.ndarray, differences: int) -> np.ndarray:
    """Samples as first or second differences in 16 bits; the first one or two stay what they are."""
    values = samples.astype(np.int64)
    made = np.concatenate([values[:differences], np.diff(values, differences)]) if differences else values
    return made.astype(np.int16).astype(np.int64)


def pack(values: np.ndarray, bits: Bits | None) -> bytes:
    if bits is None:
        return values.astype("<i2").tobytes()
    text = "".join(bits(int(value)) for value in values)
    text += "0" * (-len(text) % 8)
    return int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:]
