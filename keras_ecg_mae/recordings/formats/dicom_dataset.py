"""DICOM files of unknown origin (PS3.10), which pydicom splits into elements within bounds.

pydicom is not asked to convert the elements' values: where one breaks the rules of its type, that guesses, and quotes
the value in warnings. Here each element is taken by what it must be.
"""

import io
import logging
import math
import os
import re
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice

from pydicom.config import IGNORE
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.source import Source

PREFIX, PREAMBLE_BYTES = b"DICM", 128
# Without these two: the first group, that of the meta information or of a data set, and the UIDs of waveforms, which
# come among the first elements of both.
FIRST_GROUPS, WAVEFORM_UIDS, FIRST_BYTES = (b"\2\0", b"\x08\0"), b"1.2.840.10008.5.1.4.1.1.9.", 1 << 12
TRANSFER_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
# A file's meta information takes some hundred bytes; that of an image of gigabytes is read without the image.
LARGEST_META_BYTES = 1 << 16
# The longest recording that is decoded, 1 << 25 samples, at 32 bits a sample, and 16 MiB for all else.
LARGEST_FILE_BYTES = (1 << 27) + (1 << 24)
# pydicom reads two to four times an element, of ECGs some thousand times. This many times take it a second or two.
MOST_READS = 200_000
# (0008,0005) in either byte order. It is the one value that pydicom converts unasked, part by part.
CHARACTER_SET_TAGS = {b"\x08\x00\x05\x00", b"\x00\x08\x00\x05"}
LONGEST_CHARACTER_SET_BYTES = 256
# Numbers, codes and labels have 64 characters at most (PS3.5, table 6.2-1), of up to four bytes.
LONGEST_TEXT_BYTES = 256
DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
UID_PATTERN = re.compile(r"[0-9.]{1,64}")


class TooManyElementsError(Exception):
    """More elements than any ECG has: pydicom would take minutes over them."""


class Content(io.BytesIO):
    """Bytes for pydicom to parse, which may be read from as often as there are `reads`.

    A length that an element declares reserves nothing: a read past the end returns what there is.
    """

    def __init__(self, content: bytes, reads: Iterator[int]):
        super().__init__(content)
        self.content, self.reads = content, reads

    def read(self, size: int | None = -1, /) -> bytes:
        price = 1
        if size is not None and size > 4:
            begin = self.tell()  # of a value, if it is one: 8 or 12 bytes behind its tag
            tags = (self.content[begin - 8 : begin - 4], self.content[begin - 12 : begin - 8])
            if not CHARACTER_SET_TAGS.isdisjoint(tags):
                price = size if size <= LONGEST_CHARACTER_SET_BYTES else MOST_READS
        if len(list(islice(self.reads, price))) < price:
            raise TooManyElementsError
        return super().read(size)


class Item:
    """A data set, or an item of one of its sequences. Elements are named by their keywords in PS3.6.

    Raises:
        RecordingError: by every method: `malformed`, `truncated` or `unsafe`, naming the element.
    """

    def __init__(self, path: str, dataset: Dataset, reads: Iterator[int]):
        self.path, self.dataset, self.reads = path, dataset, reads

    def value(self, keyword: str) -> bytes:
        """An element's bytes as they are stored, empty without the element."""
        element = self._element(keyword)
        if element is None or element.value is None:
            return b""
        if not isinstance(element.value, bytes):
            raise self.malformed(keyword, "a value", "a sequence")
        self._check_length(keyword, element)
        return element.value

    def text(self, keyword: str) -> str:
        """A short text without its padding, empty without the element. May be anybody's: not to be quoted."""
        return self.value(keyword)[:LONGEST_TEXT_BYTES].decode("latin-1").strip(" \0")

    def decimal(self, keyword: str) -> float | None:
        """The number of a decimal string, finite, None without one."""
        text = self.text(keyword)
        if text and not (DECIMAL.fullmatch(text) and math.isfinite(float(text))):
            raise self.malformed(keyword, "one decimal number", "something else")
        return float(text) if text else None

    def integer(self, keyword: str) -> int:
        """An unsigned number of 16 or 32 bits."""
        value = self.value(keyword)
        if len(value) not in (2, 4):
            raise self.malformed(keyword, "a number of 2 or 4 bytes", f"{len(value)} bytes")
        return int.from_bytes(value, "little" if self.little_endian else "big")

    def items(self, keyword: str) -> "list[Item]":
        """A sequence's items, none without the element."""
        element = self._element(keyword)
        if element is None or element.value is None:
            return []
        datasets = element.value
        if isinstance(datasets, bytes):  # a sequence of defined length, which pydicom has left as it is
            self._check_length(keyword, element)
            implicit = self.dataset.original_encoding[0] is not False
            with parsing(self.path, keyword):
                content = Content(datasets, self.reads)
                datasets = read_sequence(content, implicit, self.little_endian, len(datasets), "latin-1")
        if not isinstance(datasets, Sequence):
            raise self.malformed(keyword, "a sequence", "a value")
        return [Item(self.path, dataset, self.reads) for dataset in datasets]

    @property
    def little_endian(self) -> bool:
        return self.dataset.original_encoding[1] is not False

    def malformed(self, keyword: str, expected: str, received: str) -> RecordingError:
        return RecordingError(self.path, "malformed", f"Expected {expected} in {keyword}. Received {received}.")

    def _element(self, keyword: str) -> DataElement | RawDataElement | None:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        element: DataElement | RawDataElement | None = self.dataset.get_item(tag, keep_deferred=True)
        return element

    def _check_length(self, keyword: str, element: DataElement | RawDataElement) -> None:
        received = len(element.value or b"")
        if isinstance(element, RawDataElement) and element.length not in (received, 0xFFFFFFFF):
            raise RecordingError(
                self.path, "truncated", f"Expected {element.length} bytes in {keyword}. Received {received}."
            )


@contextmanager
def parsing(path: str, part: str) -> Iterator[None]:
    """Turns whatever pydicom makes of a damaged file into `RecordingError`; keeps its warnings and log lines away."""
    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except RecordingError:
        raise
    except Exception as error:
        # pydicom wraps some exceptions in others. Their texts quote the file, so none of them goes along.
        kinds = {type(error), type(error.__context__)}
        if kinds & {TooManyElementsError, RecursionError, MemoryError}:
            raise RecordingError(
                path, "unsafe", f"Expected {part} with as many elements as an ECG has. Received far more, or too deep."
            ) from None
        raise RecordingError(
            path, "malformed", f"Expected {part} as DICOM elements. Received something else."
        ) from None
    finally:
        logger.disabled = was_disabled


def is_dicom(source: Source) -> bool:
    """Whether the file begins as PS3.10 has it, 128 bytes of anything, then DICM; or without these as a waveform."""
    return first_element(source.head[:FIRST_BYTES]) is not None


def first_element(head: bytes) -> int | None:
    """Where the elements of a file begin, or None where it holds none.

    Some archives store the elements alone, without what PS3.10 (7.1) puts in front of them.
    """
    if head[PREAMBLE_BYTES:][: len(PREFIX)] == PREFIX:
        return PREAMBLE_BYTES + len(PREFIX)
    return 0 if head.startswith(FIRST_GROUPS) and WAVEFORM_UIDS in head[:FIRST_BYTES] else None


def open_dicom(path: str, sop_classes: Collection[str], keywords: Collection[str]) -> Item:
    """The data set of a DICOM file.

    Args:
        path: a file in a transfer syntax without compression, or deflated. Where it has no meta information, the data
            set is little-endian, and explicit if the first element names its type.
        sop_classes: the classes to read. Of a file of another one only the meta information is read.
        keywords: the elements to read, undefined lengths aside; others are passed over.

    Raises:
        RecordingError: and nothing else.
    """
    reads = iter(range(MOST_READS))
    try:
        with open(path, "rb") as file:
            head = file.read(LARGEST_META_BYTES)
            begin, sop_class = first_element(head), ""
            if begin is None:
                raise RecordingError(
                    path, "unknown_format", "Expected DICM after 128 bytes, or a waveform. Received neither."
                )
            if head.startswith(FIRST_GROUPS[1], begin):
                named = head[begin + 4 : begin + 6].isalpha()
                transfer_syntax: str = ExplicitVRLittleEndian if named else ImplicitVRLittleEndian
            else:
                meta, begin = read_meta(path, head, begin, reads)
                sop_class, transfer_syntax = meta.text("MediaStorageSOPClassUID"), meta.text("TransferSyntaxUID")
            if sop_class:
                check_sop_class(path, sop_class, sop_classes)
            if transfer_syntax not in TRANSFER_SYNTAXES:
                raise RecordingError(
                    path,
                    "unknown_format",
                    f"Expected TransferSyntaxUID to be implicit, explicit or deflated. "
                    f"Received {uid_name(transfer_syntax)}.",
                )
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST_FILE_BYTES:
                raise RecordingError(
                    path, "too_long", f"Expected at most {LARGEST_FILE_BYTES} bytes of ECG. Received {size}."
                )
            file.seek(begin)
            content = file.read(LARGEST_FILE_BYTES)
    except RecordingError:
        raise
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable file. Received {error.strerror}.") from error
    except ValueError as error:  # a path with a null byte
        raise RecordingError(path, "missing", "Expected a file at this path. Received none.") from error
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        content = inflate(path, content)
    with parsing(path, "the data set"):
        dataset = read_dataset(
            Content(content, reads),
            is_implicit_VR=transfer_syntax == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax != ExplicitVRBigEndian,
            specific_tags=[tag for keyword in ("SOPClassUID", *keywords) if (tag := tag_for_keyword(keyword))],
        )
    item = Item(path, dataset, reads)
    check_sop_class(path, item.text("SOPClassUID") or sop_class, sop_classes)
    return item


def read_meta(path: str, head: bytes, begin: int, reads: Iterator[int]) -> tuple[Item, int]:
    """The file's meta information, always explicit and little-endian (PS3.10, 7.1), and where it ends."""

    def is_past_it(tag: BaseTag, _: str | None, __: int) -> bool:
        return tag.group != 2

    with parsing(path, "the meta information"):
        content = Content(head, reads)
        content.seek(begin)
        dataset = read_dataset(content, is_implicit_VR=False, is_little_endian=True, stop_when=is_past_it)
    return Item(path, dataset, reads), content.tell()


def check_sop_class(path: str, uid: str, sop_classes: Collection[str]) -> None:
    """Raises `RecordingError` `unknown_format`, naming the class that was received."""
    if uid not in sop_classes:
        names = ", ".join(UID(known).name for known in sop_classes)
        raise RecordingError(
            path, "unknown_format", f"Expected a DICOM SOP class among {names}. Received {uid_name(uid)}."
        )


def uid_name(uid: str) -> str:
    """A UID with its name in PS3.6, for messages; what is no UID is not quoted."""
    if not UID_PATTERN.fullmatch(uid):
        return "something else" if uid else "none"
    name = UID(uid, validation_mode=IGNORE).name
    return uid if name == uid else f"{uid} ({name})"


def inflate(path: str, content: bytes) -> bytes:
    """A data set from its deflated form (PS3.5, A.5), if it is no larger than a file may be."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(content, LARGEST_FILE_BYTES + 1)
    except zlib.error:
        raise RecordingError(path, "malformed", "Expected a deflated data set. Received other bytes.") from None
    if len(inflated) > LARGEST_FILE_BYTES:
        raise RecordingError(
            path, "unsafe", f"Expected at most {LARGEST_FILE_BYTES} bytes once inflated. Received more."
        )
    if not stream.eof:
        raise RecordingError(path, "truncated", "Expected a whole deflated data set. Received its beginning.")
    return inflated
