"""TFRecord files written without TensorFlow."""

import hashlib
import io
from pathlib import Path

import pytest
import tensorflow as tf

from keras_ecg_mae.dataset.tfrecord import TFRecordFile, framed_records

RECORDS = [b"", b"one", bytes(range(256)) * 500]


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


def test_the_same_bytes_as_tensorflows(tfrecord: Path) -> None:
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
