"""One recording as a serialized tf.Example, without TensorFlow.

TensorFlow's generated classes cannot be had without importing all of it, and a tf.Example is a few nested protobuf
messages of one field each (tensorflow/core/example/{example,feature}.proto). `schema.py` reads them.
"""

import struct
from dataclasses import dataclass

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError

_UNITS = np.iinfo(np.int16)
# Numbers of protobuf fields: of a Feature's three kinds, and of the entries of the map in Features.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
_KEY, _VALUE = 1, 2
_ONLY = 1  # the field of each of the other messages
_DELIMITED = 2  # the wire type of what has a length


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
    label: int | None
    lvef: float | None
    age: float | None
    sex: str


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
    features = {"ecg": _bytes(units.tobytes())}
    if metadata is not None:
        features |= _metadata(metadata)
    # The order of a protobuf map is free: this is the one that TensorFlow writes when asked for a deterministic one.
    entries = (
        _field(_ONLY, _field(_KEY, name.encode()) + _field(_VALUE, feature))
        for name, feature in sorted(features.items())
    )
    return _field(_ONLY, b"".join(entries))


def encode(ecg_mv: np.ndarray, metadata: Metadata) -> bytes:
    """A serialized tf.Example of a recording.

    Args:
        ecg_mv: `(12, 5000)` millivolts, in the order of `spec.LEADS`; kept to the nearest microvolt.
        metadata: the rest; what is unknown is absent from the tf.Example.

    Raises:
        RecordingError: code `"amplitude"`, a sample is no number or beyond what int16 microvolts hold.
    """
    return encode_units(to_units(metadata.record_id, ecg_mv), metadata)


def _metadata(metadata: Metadata) -> dict[str, bytes]:
    features = {
        "record_id": _bytes(metadata.record_id.encode()),
        "patient_key": _bytes(metadata.patient_key.encode()),
        "institution": _bytes(metadata.institution.encode()),
    }
    if metadata.label is not None:
        features["label"] = _field(_INT64_LIST, _field(_ONLY, _varint(metadata.label)))
    if metadata.lvef is not None:
        features["lvef"] = _float(metadata.lvef)
    if metadata.age is not None:
        features["age"] = _float(metadata.age)
    if metadata.sex:
        features["sex"] = _bytes(metadata.sex.encode())
    return features


def _bytes(value: bytes) -> bytes:
    return _field(_BYTES_LIST, _field(_ONLY, value))


def _float(value: float) -> bytes:
    return _field(_FLOAT_LIST, _field(_ONLY, struct.pack("<f", value)))


def _field(number: int, payload: bytes) -> bytes:
    return b"".join((_varint(number << 3 | _DELIMITED), _varint(len(payload)), payload))


def _varint(value: int) -> bytes:
    """A number, 0 or more, in groups of seven bits, the lowest first; each but the last has the highest bit set."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
