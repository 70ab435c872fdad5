"""One recording as a tf.Example: how it is written, in TFRecord files, and how batches of them are read.

Writing does without TensorFlow, whose import takes seconds and half a gigabyte a process. A tf.Example is a few nested
protobuf messages of one field each (tensorflow/core/example/{example,feature}.proto). In a TFRecord file a record is
framed by its length, the length's checksum and the data's checksum, all little-endian; a checksum is a CRC-32C, rotated
and shifted (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

import hashlib
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from google_crc32c import value as crc32c

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError

if TYPE_CHECKING:
    import tensorflow as tf

_UNITS = np.iinfo(np.int16)
_ECG_BYTES = len(spec.LEADS) * spec.SAMPLES * 2
# Numbers of protobuf fields: of a Feature's three kinds, and of the entries of the map in Features.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_KEY, _VALUE = 1, 2
_ONLY = 1  # the field of each of the other messages
_DELIMITED = 2  # the wire type of what has a length
_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4  # of a record's frame


@dataclass(frozen=True)
class Metadata:
    """What a dataset says of a recording besides its samples.

    Attributes:
        record_id: unique in the dataset.
        patient_key: keyed hash of the patient's id, see `patient_key.py`.
        institution: where it was recorded.
        label: 0, 1, or None where unknown.
        lvef: left ventricular ejection fraction in percent, or None.
        age: years, or None.
        sex: as the table says it, or empty.
    """

    record_id: str
    patient_key: str
    institution: str
    label: int | None = None
    lvef: float | None = None
    age: float | None = None
    sex: str = ""


def to_units(name: str, ecg_mv: np.ndarray) -> np.ndarray:
    """`(12, 5000)` millivolts to little-endian int16 microvolts, the nearest ones.

    Raises:
        RecordingError: of the recording `name`, code `"amplitude"`: a sample is no number or beyond what int16 holds.
    """
    units = np.divide(ecg_mv, spec.MILLIVOLTS_PER_UNIT, dtype=np.float64)
    np.rint(units, out=units)
    if not (units.min() >= _UNITS.min and units.max() <= _UNITS.max):  # so written, NaN is refused too
        raise RecordingError(
            name,
            "amplitude",
            f"Expected samples within +-{_UNITS.max * spec.MILLIVOLTS_PER_UNIT:g} mV. "
            f"Received {np.abs(ecg_mv).max():g} mV.",
        )
    return units.astype("<i2")


def encode_units(units: np.ndarray, metadata: Metadata | None = None) -> bytes:
    """A serialized tf.Example of what `to_units` returned; what is unknown is absent from it.

    With the samples alone it is what `serve_examples` reads of one.
    """
    values: dict[str, str | int | float | None] = vars(metadata) if metadata else {}
    features = {"ecg": _feature(units.tobytes())}
    features |= {name: _feature(value) for name, value in values.items() if value is not None}
    if not values.get("sex"):
        features.pop("sex", None)
    # Sorted, as TensorFlow writes maps deterministically.
    entries = (
        _field(_ONLY, _field(_KEY, name.encode()) + _field(_VALUE, feature))
        for name, feature in sorted(features.items())
    )
    return _field(_ONLY, b"".join(entries))


def _feature(value: bytes | str | int | float) -> bytes:
    if isinstance(value, int):
        return _field(_INT64_LIST, _field(_ONLY, _varint(value)))
    if isinstance(value, float):
        return _field(_FLOAT_LIST, _field(_ONLY, struct.pack("<f", value)))
    return _field(_BYTES_LIST, _field(_ONLY, value.encode() if isinstance(value, str) else value))


def _field(number: int, payload: bytes) -> bytes:
    return b"".join((_varint(number << 3 | _DELIMITED), _varint(len(payload)), payload))


def _varint(value: int) -> bytes:
    """A number, 0 or more, in groups of seven bits, the lowest first; each but the last has the highest bit set."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


class TFRecordFile:
    """Writes records to an open file, and knows the size and SHA-256 of what was written.

    Args:
        file: open for writing in binary; its owner closes it.
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


def decode(
    serialized: "tf.Tensor",
    names: Collection[str],
    shifts: Callable[["tf.Tensor"], "tf.Tensor"] | None = None,
) -> dict[str, "tf.Tensor"]:
    """Decodes a batch of serialized tf.Examples, inside tf.data or eagerly.

    Args:
        serialized: `(batch,)` strings.
        names: the features wanted.
        shifts: record ids `(batch,)` -> by how many samples each recording is rotated to the right, int32 `(batch,)`.

    Returns:
        By name: `ecg` `(batch, 12, 5000)` float32 mV; each other one `(batch,)`: `label` float32, NaN where absent;
        `lvef` and `age` float32, NaN where absent; `record_id`, `patient_key`, `institution`, `sex` strings.
    """
    import tensorflow as tf

    absent = {
        "label": (tf.int64, -1),
        "lvef": (tf.float32, np.nan),
        "age": (tf.float32, np.nan),
        "sex": (tf.string, ""),
    }
    required = tf.io.FixedLenFeature([], tf.string)
    kinds = {name: tf.io.FixedLenFeature([], *absent[name]) if name in absent else required for name in names}
    features: dict[str, tf.Tensor] = tf.io.parse_example(serialized, kinds)
    if "ecg" in features:
        features["ecg"] = _millivolts(features["ecg"], None if shifts is None else shifts(features["record_id"]))
    if "label" in features:
        label = tf.cast(features["label"], tf.float32)
        features["label"] = tf.where(label < 0, np.nan, label)
    return features


def decode_ecg(serialized: "tf.Tensor") -> "tf.Tensor":
    """The recordings of `(batch,)` tf.Examples, `(batch, 12, 5000)` float32 mV: zero where one holds no whole one.

    For a server, which puts several clients' requests together: none of them is to fail for another's.
    """
    import tensorflow as tf

    none = tf.io.FixedLenFeature([], tf.string, default_value="")
    content = tf.io.parse_example(serialized, {"ecg": none})["ecg"]
    return _millivolts(tf.where(tf.strings.length(content) == _ECG_BYTES, content, bytes(_ECG_BYTES)))


def is_labelled(serialized: "tf.Tensor") -> "tf.Tensor":
    """Whether one serialized tf.Example, a scalar string, has a label."""
    import tensorflow as tf

    absent = tf.io.FixedLenFeature([], tf.int64, default_value=-1)
    return tf.io.parse_single_example(serialized, {"label": absent})["label"] >= 0


def _millivolts(samples: "tf.Tensor", shift: "tf.Tensor | None" = None) -> "tf.Tensor":
    """`(batch,)` strings of int16, rotated by `shift`, to `(batch, 12, 5000)` float32 mV."""
    import tensorflow as tf

    units = tf.io.decode_raw(samples, tf.int16, little_endian=True)
    # By the number of records: else two halves of a recording would pass for one.
    shape = (tf.size(samples), len(spec.LEADS), spec.SAMPLES)
    units = tf.reshape(units, shape)
    if shift is not None:
        units = tf.reshape(_rotated(tf.reshape(units, [-1]), shift), shape)
    units = tf.ensure_shape(units, (samples.shape[0], len(spec.LEADS), spec.SAMPLES))
    return tf.cast(units, tf.float32) * spec.MILLIVOLTS_PER_UNIT


def _rotated(units: "tf.Tensor", shift: "tf.Tensor") -> "tf.Tensor":
    """The samples of a batch, one after the other, with the two parts of each lead in each other's place.

    One operation for the whole batch: a loop of rolls would go recording by recording, a plain gather sample by sample.
    """
    import tensorflow as tf

    starts = tf.range(tf.size(shift) * len(spec.LEADS)) * spec.SAMPLES
    cuts = starts + spec.SAMPLES - tf.repeat(shift, len(spec.LEADS))
    splits = tf.concat([tf.reshape(tf.stack([starts, cuts], axis=1), [-1]), [tf.size(units)]], axis=0)
    parts = tf.RaggedTensor.from_row_splits(units, splits, validate=False)
    swapped = tf.bitwise.bitwise_xor(tf.range(tf.size(splits) - 1), 1)
    return tf.gather(parts, swapped).flat_values
