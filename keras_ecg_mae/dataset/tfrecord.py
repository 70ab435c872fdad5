"""TFRecord files, written and copied without TensorFlow, whose import takes seconds and half a gigabyte a process.

A record is framed by its length, the length's checksum, and the data's checksum, all little-endian; a checksum is a
CRC-32C, rotated and shifted (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import BinaryIO

from google_crc32c import value as crc32c

_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4


class TFRecordFile:
    """Writes records to an open file, and knows the size and SHA-256 of what was written.

    Args:
        file: open for writing in binary; closing it is its owner's business.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._digest = file, hashlib.sha256()
        self.size_bytes = 0

    def write(self, record: bytes) -> None:
        """Writes one record."""
        length = struct.pack("<Q", len(record))
        for part in (length + _checksum(length), record, _checksum(record)):
            self.write_framed(part)

    def write_framed(self, framed: bytes) -> None:
        """Writes one record of `framed_records` as it is."""
        self._file.write(framed)
        self._digest.update(framed)
        self.size_bytes += len(framed)

    @property
    def sha256(self) -> str:
        """Of the file so far, in hexadecimal."""
        return self._digest.hexdigest()


def framed_records(file: BinaryIO) -> Iterator[bytes]:
    """Each record of a file with its frame. Raises `ValueError` where one is cut off or differs from its checksums."""
    while head := file.read(_LENGTH_BYTES + _CHECKSUM_BYTES):
        length, checksum = head[:_LENGTH_BYTES], head[_LENGTH_BYTES:]
        if checksum != _checksum(length):
            raise ValueError("Expected the length of a record. Received another checksum of it.")
        size = int.from_bytes(length, "little")
        body = file.read(size + _CHECKSUM_BYTES)
        if body[size:] != _checksum(body[:size]):
            raise ValueError("Expected a whole record. Received another checksum of it.")
        yield head + body


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
