"""tf.Examples and TFRecord files written without TensorFlow: they are what TensorFlow writes, and come back."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from keras_ecg_mae import spec
from keras_ecg_mae.dataset.example import (
    Metadata,
    TFRecordFile,
    decode,
    encode_units,
    framed_records,
    is_labelled,
    to_units,
)
from keras_ecg_mae.errors import RecordingError

ALL = ("ecg", "record_id", "patient_key", "institution", "label", "lvef", "age", "sex")
UNKNOWN = Metadata("r", "k", "i")
SILENCE = np.zeros((12, spec.SAMPLES), "<i2")
RECORDS = [b"", b"one", bytes(range(256)) * 500]


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
def test_examples_have_the_same_bytes_as_tensorflows(samples: bytes, metadata: Metadata) -> None:
    assert encode_units(np.frombuffer(samples, np.uint8), metadata) == tensorflows(samples, metadata)


def test_the_layout_on_disk() -> None:
    """Little-endian int16, 1 uV a unit, lead after lead, rounded to the nearest; what is unknown is absent."""
    ecg_mv = np.zeros((12, spec.SAMPLES), np.float32)
    ecg_mv[0, :3] = [0.0016, -0.0016, 1.0]
    ecg_mv[1, 0] = -0.001
    example = encode_units(to_units("r", ecg_mv), UNKNOWN)
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
    with pytest.raises(RecordingError, match="north/r1") as raised:
        to_units("north/r1", ecg_mv)
    assert raised.value.code == "amplitude"


@settings(max_examples=30)
@given(
    arrays.arrays(np.float64, 40, elements=st.floats(-32.768, 32.767)),
    st.text(max_size=20),
    st.sampled_from([None, 0, 1]),
    st.none() | st.floats(0, 100, width=32),
)
def test_what_is_written_comes_back(values: np.ndarray, name: str, label: int | None, lvef: float | None) -> None:
    ecg_mv = np.zeros((12, spec.SAMPLES))
    ecg_mv.flat[: len(values)] = values
    metadata = Metadata(name, "key", "institution", label, lvef, None, "F")
    decoded = decode(tf.constant([encode_units(to_units(name, ecg_mv), metadata)]), ALL)
    assert decoded["ecg"].shape == (1, 12, spec.SAMPLES)
    assert decoded["ecg"].dtype == tf.float32
    # Half a unit, and what float32 leaves of 32 mV.
    assert np.abs(decoded["ecg"][0].numpy() - ecg_mv).max() <= 0.0005 + 3e-6
    assert decoded["record_id"][0].numpy().decode() == name
    np.testing.assert_array_equal(decoded["label"], [np.nan if label is None else label])
    np.testing.assert_array_equal(decoded["lvef"], np.array([np.nan if lvef is None else lvef], np.float32))
    np.testing.assert_array_equal(decoded["age"], [np.nan])
    assert decoded["sex"][0] == b"F"


def test_is_labelled() -> None:
    assert is_labelled(tf.constant(encode_units(SILENCE, Metadata("r", "k", "i", label=0))))
    assert not is_labelled(tf.constant(encode_units(SILENCE, UNKNOWN)))


@pytest.fixture
def tfrecord(tmp_path: Path) -> Path:
    with open(tmp_path / "ours.tfrecord", "wb") as file:
        records = TFRecordFile(file)
        for record in RECORDS:
            records.write(record)
    content = (tmp_path / "ours.tfrecord").read_bytes()
    assert records.size_bytes == len(content)
    assert records.sha256 == hashlib.sha256(content).hexdigest()
    return tmp_path / "ours.tfrecord"


def test_files_have_the_same_bytes_as_tensorflows(tfrecord: Path) -> None:
    with tf.io.TFRecordWriter(str(tfrecord.with_name("theirs"))) as writer:
        for record in RECORDS:
            writer.write(record)
    assert tfrecord.read_bytes() == tfrecord.with_name("theirs").read_bytes()


def test_records_are_copied_with_their_frames(tfrecord: Path) -> None:
    with open(tfrecord, "rb") as file:
        framed = list(framed_records(file))
    copy = io.BytesIO()
    records = TFRecordFile(copy)
    for record in framed[1:]:
        records.write_framed(record)
    tfrecord.write_bytes(copy.getvalue())
    read = [record.numpy() for record in tf.data.TFRecordDataset(str(tfrecord))]
    assert read == RECORDS[1:]


@pytest.mark.parametrize("end", [3, 10, 14, 18])
def test_a_file_that_ends_within_a_record(tfrecord: Path, end: int) -> None:
    with pytest.raises(ValueError, match="Expected"):
        list(framed_records(io.BytesIO(tfrecord.read_bytes()[:end])))


@pytest.mark.parametrize("place", [6, 9, 12, 14, 29])
def test_a_byte_that_was_flipped(tfrecord: Path, place: int) -> None:
    content = bytearray(tfrecord.read_bytes())
    content[place] ^= 1
    with pytest.raises(ValueError, match="Expected"):
        list(framed_records(io.BytesIO(content)))
