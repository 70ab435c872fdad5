"""tf.Examples written without TensorFlow are what TensorFlow writes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae import spec
from keras_ecg_mae.dataset.tf_example import Metadata, encode, encode_units, to_units
from keras_ecg_mae.errors import RecordingError


def tensorflows(samples: bytes, metadata: Metadata) -> bytes:
    """The same by TensorFlow's own classes."""
    features = {name: tf.train.Feature(bytes_list={"value": [value]}) for name, value in (("ecg", samples),)}
    for name, text in vars(metadata).items():
        if isinstance(text, str) and (text or name != "sex"):
            features[name] = tf.train.Feature(bytes_list={"value": [text.encode()]})
    if metadata.label is not None:
        features["label"] = tf.train.Feature(int64_list={"value": [metadata.label]})
    for name, number in (("lvef", metadata.lvef), ("age", metadata.age)):
        if number is not None:
            features[name] = tf.train.Feature(float_list={"value": [number]})
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


@given(
    st.binary(max_size=300),
    st.builds(
        Metadata,
        record_id=st.text(max_size=150),
        patient_key=st.text(max_size=10),
        institution=st.text(max_size=10),
        label=st.sampled_from([None, 0, 1]),
        lvef=st.none() | st.floats(0, 100, width=32),
        age=st.none() | st.floats(0, 130, width=32),
        sex=st.text(max_size=3),
    ),
)
def test_the_same_bytes_as_tensorflows(samples: bytes, metadata: Metadata) -> None:
    assert encode_units(np.frombuffer(samples, np.uint8), metadata) == tensorflows(samples, metadata)


def test_the_layout_on_disk() -> None:
    """Little-endian int16, 1 uV a unit, lead after lead, rounded to the nearest; what is unknown is absent."""
    ecg_mv = np.zeros((12, spec.SAMPLES), np.float32)
    ecg_mv[0, :3] = [0.0016, -0.0016, 1.0]
    ecg_mv[1, 0] = -0.001
    example = encode(ecg_mv, Metadata("r", "k", "i", None, None, None, ""))
    features = tf.train.Example.FromString(example).features.feature
    assert set(features) == {"ecg", "record_id", "patient_key", "institution"}
    stored = features["ecg"].bytes_list.value[0]
    assert len(stored) == 2 * 12 * 5000
    assert stored[:6] == b"\x02\x00\xfe\xff\xe8\x03"
    assert stored[10000:10002] == b"\xff\xff"


@pytest.mark.parametrize("value", [32.7676, -32.769, np.nan, np.inf])
def test_what_int16_cannot_hold(value: float) -> None:
    ecg_mv = np.zeros((12, spec.SAMPLES))
    ecg_mv[3, 7] = value
    with pytest.raises(RecordingError, match=r"north/r1: Expected samples within \+-32\.767 mV") as raised:
        to_units("north/r1", ecg_mv)
    assert raised.value.code == "amplitude"
