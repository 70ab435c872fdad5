"""Writes MFER (ISO 22077) by the letter of the standard."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from keras_ecg_mae.recordings.formats.lead_codes import LEAD_CODES

CODES = {lead: code for code, lead in LEAD_CODES.items()}
LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
DIGITAL = np.random.default_rng(0).integers(-2000, 2000, (8, 300))
NAME = b"Zyxomma^Quokka"

Order = Literal["big", "little"]


def tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x84]) + size.to_bytes(4, "big")) + value


def scaled(unit: int, exponent: int, mantissa: int, order: Order) -> bytes:
    return bytes([unit, exponent % 256]) + mantissa.to_bytes(2, order)


def mfer(
    digital: np.ndarray = DIGITAL,
    leads: Sequence[str | int] = LEADS,
    order: Order = "little",
    block: int | None = None,
    kind: int | None = 1,
    data_type: tuple[int, str] | None = None,
    interval: tuple[int, int, int] | None = (1, -3, 2),
    sensitivity: tuple[int, int, int] | None = (0, -9, 1250),
    preamble: bool = True,
    sequences: bool = True,
    further: bytes = b"",
    channel_further: Sequence[bytes] = (b"",) * 16,
    waves: int = 1,
) -> bytes:
    """A file of these samples, `(leads, samples)`, in blocks of `block` samples, by default all of them."""
    channels, samples = digital.shape
    block = samples if block is None else block
    content = tlv(0x40, b"MFR Standard 12 leads ECG".ljust(32)) if preamble else b""
    content += tlv(0x17, b"MAKER^MODEL^1^2") + tlv(0x01, bytes([order == "little"]))
    content += tlv(0x81, NAME) + tlv(0x82, NAME) + b"\0"
    if kind is not None:
        content += tlv(0x08, bytes([kind]))
    if data_type is not None:
        content += tlv(0x0A, bytes([data_type[0]]))
    content += b"" if interval is None else tlv(0x0B, scaled(*interval, order))
    content += b"" if sensitivity is None else tlv(0x0C, scaled(*sensitivity, order))
    content += tlv(0x04, block.to_bytes(4, order)) + tlv(0x05, channels.to_bytes(4, order))
    content += tlv(0x06, (samples // block).to_bytes(4, order)) if sequences else b""
    content += further
    for number, lead in enumerate(leads):
        code = CODES[lead] if isinstance(lead, str) else lead
        said = tlv(0x09, code.to_bytes(1 + (code > 255), order)) + channel_further[number]
        content += bytes([0x3F, number]) + tlv(0, said)[1:]
    stored = digital.reshape(channels, -1, block).swapaxes(0, 1)
    dtype = np.dtype("i2" if data_type is None else data_type[1]).newbyteorder("<" if order == "little" else ">")
    return content + tlv(0x1E, stored.astype(dtype).tobytes()) * waves
