"""One recording as a tf.Example: how it is written and how batches of them are read."""

from collections.abc import Collection

import numpy as np
import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.dataset.tf_example import Metadata, encode, encode_units, to_units

__all__ = ["Metadata", "decode", "decode_ecg", "encode", "encode_units", "is_labelled", "to_units"]

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

_ECG_BYTES = len(spec.LEADS) * spec.SAMPLES * 2


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
        features["ecg"] = _millivolts(units, serialized)
    if "label" in features:
        label = tf.cast(features["label"], tf.float32)
        features["label"] = tf.where(label < 0, np.nan, label)
    return features


def decode_ecg(serialized: tf.Tensor) -> tf.Tensor:
    """The recordings of `(batch,)` tf.Examples, `(batch, 12, 5000)` float32 mV: zero where one holds no whole one.

    For a server, which puts several clients' requests together: none of them is to fail for another's.
    """
    none = tf.io.FixedLenFeature([], tf.string, default_value="")
    content = tf.io.parse_example(serialized, {"ecg": none})["ecg"]
    whole = tf.strings.length(content) == _ECG_BYTES
    units = tf.io.decode_raw(tf.where(whole, content, bytes(_ECG_BYTES)), tf.int16, little_endian=True)
    return _millivolts(units, serialized)


def is_labelled(serialized: tf.Tensor) -> tf.Tensor:
    """Whether one serialized tf.Example, a scalar string, has a label."""
    return tf.io.parse_single_example(serialized, {"label": _FEATURES["label"]})["label"] >= 0


def _millivolts(units: tf.Tensor, serialized: tf.Tensor) -> tf.Tensor:
    # By the number of records: else two halves of a recording would pass for one.
    units = tf.reshape(units, (tf.size(serialized), len(spec.LEADS), spec.SAMPLES))
    units = tf.ensure_shape(units, (serialized.shape[0], len(spec.LEADS), spec.SAMPLES))
    return tf.cast(units, tf.float32) * spec.MILLIVOLTS_PER_UNIT
