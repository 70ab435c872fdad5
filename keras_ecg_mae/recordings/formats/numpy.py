"""NumPy's files: NPY, one array, and NPZ, a zip of them.

The headers are parsed here. NumPy evaluates them as Python, which warns of what damage makes of them, and lets arrays
of Python objects be declared, which only unpickling could read. Here nothing but numbers and texts can be declared.
The samples are read as they lie.
"""

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.array_signal import (
    ID_NAMES,
    SIGNAL_NAMES,
    ArrayFile,
    StoredArray,
    read_array_file,
)
from keras_ecg_mae.recordings.formats.known_names import MOST_LEADS, SAYS, plain_name
from keras_ecg_mae.recordings.formats.sidecar import FLAGS, Named
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
LARGEST_HEADER_BYTES = 1 << 16
# 1 << 25 samples of 8 bytes.
LARGEST_READ_BYTES = 1 << 28
# NPZ files have a member an array, some 60 bytes each in the zip's directory.
LARGEST_DIRECTORY_BYTES = 1 << 18
# Deflate cannot compress further; what is said to be smaller is no deflated array.
LARGEST_RATIO = 1040

# The header as NumPy writes it (numpy.lib.format): a dictionary of these three in any order. Python 2 wrote 12L.
HEADER_ITEM = re.compile(
    r"\s*'(?P<key>descr|fortran_order|shape)'\s*:\s*(?P<value>'[^']{0,16}'|True|False|\([0-9L, ]{0,200}\))\s*(,|(?=\}))"
)
DTYPE = re.compile(r"'([<>|=]?)([fiuUSb])([0-9]{1,9})'")
NUMBER_BYTES = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}
# What zipfile and zlib raise depends on the bytes.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, KeyError, OverflowError, EOFError, RuntimeError)
# Members that are opened because of their name.
KNOWN = {*SAYS, *SIGNAL_NAMES, *ID_NAMES}


@dataclass(frozen=True)
class Header:
    """What an NPY header declares, and where the data begin."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    start: int


def is_npy(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names is one NumPy array."""
    return source.head.startswith(NPY_MAGIC)


def is_npz(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names is a zip whose first member is an array."""
    head = source.head[:1024]
    if not head.startswith(ZIP_MAGIC) or len(head) < 30:
        return False
    (name_length,) = struct.unpack_from("<H", head, 26)  # APPNOTE 4.3.7
    return head[30 : 30 + name_length].endswith(b".npy")


def read_npy(source: Source) -> Recording:
    """Reads an array of (leads, samples) or (samples, leads), or the record that `FILE#ID` names of three axes.

    Sampling rate, unit and leads come from the sidecar or `signal`.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    path, file, record_id, signal = source.path, source.file, source.record_id, source.signal
    with _errors_refused(path), open(file, "rb") as content:
        header = parse_header(path, "array", content)
        size = os.fstat(content.fileno()).st_size

        def read(row: int | None) -> np.ndarray:
            return read_array(path, "array", content, header, size, row)

        array = StoredArray("signal", header.shape, header.dtype, read)
        return read_array_file(ArrayFile(path, file, record_id, "npy", (array,)), signal)


def read_npz(source: Source) -> Recording:
    """Reads the member of samples, or the record that `FILE#ID` names of one of three axes.

    Sampling rate, unit, leads and gain are looked for in members with well-known names; then in the sidecar and in
    `signal`. Other members are not opened, unless none has the name of samples.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    path, file, record_id, signal = source.path, source.file, source.record_id, source.signal
    with _errors_refused(path), open(file, "rb") as content:
        check_directory(path, content)
        with zipfile.ZipFile(content) as members:
            for member in members.infolist():
                check_member(path, member)
            arrays, named = describe_members(path, members)
            return read_array_file(ArrayFile(path, file, record_id, "npz", arrays, named), signal)


@contextmanager
def _errors_refused(path: str) -> Iterator[None]:
    try:
        yield
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable file. Received {error.strerror}.") from error
    except DAMAGED as error:
        raise RecordingError(path, "malformed", "Expected whole NumPy arrays. Received damaged ones.") from error


def parse_header(path: str, what: str, content: IO[bytes]) -> Header:
    """The header of an NPY file or member, whose first byte is next in `content`.

    Raises:
        RecordingError: `"unsafe"` for Python objects, `"malformed"` for what is no header.
    """
    magic = content.read(8)
    length_format = {b"\x01": "<H", b"\x02": "<I", b"\x03": "<I"}.get(magic[6:7])
    if not magic.startswith(NPY_MAGIC) or length_format is None:
        raise RecordingError(path, "malformed", f"Expected the {what} to begin as NPY 1 to 3. Received another start.")
    length_bytes = content.read(struct.calcsize(length_format))
    (length,) = struct.unpack(length_format, length_bytes.ljust(struct.calcsize(length_format), b"\0"))
    text = content.read(min(length, LARGEST_HEADER_BYTES)).decode("latin-1").strip()
    items, place = {}, 1
    while text.startswith("{") and (item := HEADER_ITEM.match(text, place)):
        items[item["key"]], place = item["value"], item.end()
    dtype = DTYPE.fullmatch(items.get("descr", ""))
    if "O'" in text and dtype is None:
        raise RecordingError(path, "unsafe", f"Expected numbers in the {what}. Received Python objects.")
    shape = tuple(int(size) for size in re.findall("[0-9]+", items.get("shape", "")))
    if dtype is None or len(items) < 3 or text[place:].strip() != "}" or len(shape) > 8 or max(shape, default=0) >> 62:
        raise RecordingError(
            path,
            "malformed",
            f"Expected the {what} to declare numbers or texts, their shape and order. Received others.",
        )
    order, kind, size = dtype.groups()
    if int(size) not in NUMBER_BYTES.get(kind, range(1, 1 << 16)):
        raise RecordingError(path, "malformed", f"Expected numbers of at most 8 bytes in the {what}. Received others.")
    start = len(magic) + len(length_bytes) + length
    return Header(np.dtype(f"{order}{kind}{size}"), shape, items["fortran_order"] == "True", start)


def read_array(path: str, what: str, content: IO[bytes], header: Header, size: int, row: int | None) -> np.ndarray:
    """An array, or the record at `row` of its first axis, of which only that is read where records lie in one piece.

    Args:
        path: for errors.
        what: for errors.
        content: an NPY file or member.
        header: its header.
        size: its bytes.
        row: which record; None for all.
    """
    row_bytes = math.prod(header.shape[1:]) * header.dtype.itemsize
    in_one_piece = row is not None and not header.fortran_order
    start = row * row_bytes if row is not None and in_one_piece else 0
    count_bytes = row_bytes if in_one_piece else math.prod(header.shape) * header.dtype.itemsize
    if header.start + start + count_bytes > size:
        raise RecordingError(
            path, "truncated", f"Expected {start + count_bytes} bytes in the {what}. Received {size - header.start}."
        )
    # What lies before a record in a zip must be decompressed as well.
    in_zip = not isinstance(content, io.BufferedReader)
    to_read = start + count_bytes if in_zip else count_bytes
    if to_read > LARGEST_READ_BYTES:
        raise RecordingError(
            path,
            "too_long",
            f"Expected to read at most {LARGEST_READ_BYTES} bytes of the {what}. Received {to_read}; of an NPY or HDF5 "
            "file with the records in its first axis, one record is read alone.",
        )
    if in_zip:  # newly opened. Since Python 3.12 a seek in it would end the comparison with its checksum.
        content.read(header.start + start)
    else:
        content.seek(header.start + start)
    stored = content.read(count_bytes)
    if len(stored) < count_bytes:
        raise RecordingError(path, "truncated", f"Expected {count_bytes} bytes in the {what}. Received {len(stored)}.")
    shape = header.shape[1:] if in_one_piece else header.shape
    array = np.frombuffer(stored, header.dtype).reshape(shape, order="F" if header.fortran_order else "C")
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array if row is None or in_one_piece else array[row]


def check_directory(path: str, content: IO[bytes]) -> None:
    """Raises `RecordingError` `unsafe` where the zip's directory is too long to be that of arrays.

    zipfile reads all of it at once, tens of millions of members. Every place where it might find the directory's end
    is looked at.
    """
    size = content.seek(0, os.SEEK_END)
    content.seek(max(0, size - (1 << 16) - 64))
    tail = content.read()
    for end in re.finditer(rb"PK\x05\x06.{8}(.{4})", tail, re.DOTALL):  # APPNOTE 4.3.16
        (directory_bytes,) = struct.unpack("<I", end[1])
        if directory_bytes > LARGEST_DIRECTORY_BYTES or tail.startswith(b"PK\x06\x07", max(0, end.start() - 20)):
            raise RecordingError(
                path,
                "unsafe",
                f"Expected a zip's directory of at most {LARGEST_DIRECTORY_BYTES} bytes, not in the form for more than "
                "4 GiB. Received another.",
            )
    content.seek(0)


def check_member(path: str, member: zipfile.ZipInfo) -> None:
    """Raises `RecordingError` where a member declares what no array does, whether it would be read or not."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise RecordingError(
            path, "unknown_format", "Expected members stored or deflated. Received another compression."
        )
    compressed = member.compress_type == zipfile.ZIP_DEFLATED
    if compressed and member.file_size > LARGEST_READ_BYTES + LARGEST_HEADER_BYTES:
        raise RecordingError(
            path,
            "unsafe",
            f"Expected members of at most {LARGEST_READ_BYTES} bytes when decompressed. Received {member.file_size}.",
        )
    if member.file_size > LARGEST_RATIO * (member.compress_size + 16):
        raise RecordingError(
            path,
            "unsafe",
            f"Expected members compressed at most {LARGEST_RATIO} times. Received {member.file_size} bytes in "
            f"{member.compress_size}.",
        )


def describe_members(path: str, members: zipfile.ZipFile) -> tuple[tuple[StoredArray, ...], tuple[Named, ...]]:
    """The arrays of a zip that may be samples or ids, and the values of well-known names."""
    by_name = {
        info.filename.removesuffix(".npy"): info for info in members.infolist() if info.filename.endswith(".npy")
    }
    opened: dict[str, StoredArray] = {}
    named: list[Named] = []
    for name in by_name:
        if plain_name(name) in KNOWN:
            try:
                opened[name] = _member(path, members, by_name[name], name)
            except RecordingError as error:
                # Lists of texts are often stored as Python objects. What they say, a sidecar or the settings may.
                if error.code != "unsafe" or SAYS.get(plain_name(name)) not in FLAGS:
                    raise
                named.append(("", name, None))
    for name, array in opened.items():
        if plain_name(name) in SAYS:
            few = array.size <= 64 * MOST_LEADS
            values = array.read(None).reshape(-1).tolist() if few else [0.0] * (MOST_LEADS + 1)
            named.append(
                (
                    "",
                    name,
                    [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values],
                )
            )
    if not any(plain_name(name) in SIGNAL_NAMES and len(array.shape) in (2, 3) for name, array in opened.items()):
        for name in by_name.keys() - opened.keys():
            with suppress(RecordingError):  # an array of Python objects, which is not needed
                opened[name] = _member(path, members, by_name[name], name)
    return tuple(opened.values()), tuple(named)


def _member(path: str, members: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> StoredArray:
    what = f"member {name}" if plain_name(name) in KNOWN else "member"
    with members.open(info) as content:
        header = parse_header(path, what, content)

    def read(row: int | None) -> np.ndarray:
        with members.open(info) as content:
            return read_array(path, what, content, header, info.file_size, row)

    return StoredArray(name, header.shape, header.dtype, read)
