"""One recording as a tf.Example: how it is written and how batches of them are read."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError

_UNITS = np.iinfo(np.int16)
_FEATURES = {
    "ecg": tf.io.FixedLenFeature([], tf.string),
    "record_id": tf.io.FixedLenFeature([], tf.string),
    "patient_key": tf.io.FixedLenFeature([], tf.string),
    "institution": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
    "lvef": tf.io.FixedLenFeature([], tf.float32, default_value=float("nan")),
    "age": tf.io.FixedLenFeature([], tf.float32, default_value=float("nan")),
    "sex": tf.io.FixedLenFeature([], tf.string, default_value=""),
}


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


def encode(ecg_mv: np.ndarray, metadata: Metadata) -> bytes:
    """A serialized tf.Example; what is unknown is absent from it.

    Args:
        ecg_mv: `(12, 5000)` millivolts, in the order of `spec.LEADS`; kept to the nearest microvolt.
        metadata: the rest.

    Raises:
        RecordingError: code `"amplitude"`, a sample is no number or beyond what int16 microvolts hold.
    """
    units = np.rint(ecg_mv.astype(np.float64) / spec.MILLIVOLTS_PER_UNIT)
    if not np.all((units >= _UNITS.min) & (units <= _UNITS.max)):
        raise RecordingError(
            metadata.record_id,
            "amplitude",
            f"Expected samples within +-{_UNITS.max * spec.MILLIVOLTS_PER_UNIT:g} mV. "
            f"Received {np.abs(ecg_mv).max():g} mV.",
        )
    features = {
        "ecg": _bytes(units.astype("<i2").tobytes()),
        "record_id": _bytes(metadata.record_id.encode()),
        "patient_key": _bytes(metadata.patient_key.encode()),
        "institution": _bytes(metadata.institution.encode()),
    }
    if metadata.label is not None:
        features["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[metadata.label]))
    if metadata.lvef is not None:
        features["lvef"] = tf.train.Feature(float_list=tf.train.FloatList(value=[metadata.lvef]))
    if metadata.age is not None:
        features["age"] = tf.train.Feature(float_list=tf.train.FloatList(value=[metadata.age]))
    if metadata.sex:
        features["sex"] = _bytes(metadata.sex.encode())
    example = tf.train.Example(features=tf.train.Features(feature=features))
    # The order of a protobuf map is free otherwise, and shards would differ from run to run.
    return example.SerializeToString(deterministic=True)


def decode(serialized: tf.Tensor, names: Collection[str]) -> dict[str, tf.Tensor]:
    """Decodes a batch of serialized tf.Examples, inside tf.data or eagerly.

    Args:
        serialized: `(batch,)` strings.
        names: the features wanted.

    Returns:
        By name: `ecg` `(batch, 12, 5000)` float32 mV; each other one `(batch,)`: `label` float32, NaN where absent;
        `lvef` and `age` float32, NaN where absent; `record_id`, `patient_key`, `institution`, `sex` strings.
    """
    features = tf.io.parse_example(serialized, {name: _FEATURES[name] for name in names})
    if "ecg" in features:
        units = tf.io.decode_raw(features["ecg"], tf.int16, little_endian=True)
        units = tf.reshape(units, (-1, len(spec.LEADS), spec.SAMPLES))
        units = tf.ensure_shape(units, (serialized.shape[0], len(spec.LEADS), spec.SAMPLES))
        features["ecg"] = tf.cast(units, tf.float32) * spec.MILLIVOLTS_PER_UNIT
    if "label" in features:
        label = tf.cast(features["label"], tf.float32)
        features["label"] = tf.where(label < 0, np.nan, label)
    return features


def is_labelled(serialized: tf.Tensor) -> tf.Tensor:
    """Whether one serialized tf.Example, a scalar string, has a label."""
    return tf.io.parse_single_example(serialized, {"label": _FEATURES["label"]})["label"] >= 0


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
