"""What TF Serving replays before a version is available."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.serving.signatures import ECG_INPUT, Signature
from keras_ecg_mae.serving.warmup import simulated_ecg, write_warmup


def read(version: Path) -> list[PredictionLog]:
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    return [PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]


def test_every_record_is_a_request_that_its_signature_answers(exported: Path, exported_autoencoder: Path) -> None:
    for version, batch_sizes, signatures in (
        (exported, [1, 3], {"serving_default", "serve_examples", "encode"}),
        (exported_autoencoder, [2], {"serving_default", "serve_examples", "encode", "reconstruct"}),
    ):
        loaded = tf.saved_model.load(str(version))
        asked = set()
        for log in read(version):
            assert log.WhichOneof("log_type") == "predict_log"
            assert log.FindInitializationErrors() == []
            request = log.predict_log.request
            assert request.model_spec.name == version.parent.name
            signature = loaded.signatures[request.model_spec.signature_name]
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            assert set(inputs) == set(signature.structured_input_signature[1])
            answer = signature(**{name: tf.constant(value) for name, value in inputs.items()})
            (batch_size,) = {len(value) for value in [*inputs.values(), *answer.values()]}
            numbers = [value.numpy() for value in answer.values() if value.dtype == tf.float32]
            assert answer["input_ok"][0]  # as a client's request is, in most cases
            assert all(np.isfinite(value[0]).all() for value in numbers)
            asked.add((request.model_spec.signature_name, batch_size))
        assert asked == {(signature, size) for signature in signatures for size in batch_sizes}
        assert len(read(version)) == len(asked) <= 1000


def test_a_big_batch_takes_no_more_room_than_one_recording(tmp_path: Path) -> None:
    signature = Signature("serving_default", (ECG_INPUT,), lambda ecg: {"ecg": ecg})
    write_warmup(tmp_path, "lvsd", [signature], [1, 1024])
    one, many = (log.predict_log.request.inputs["ecg"] for log in read(tmp_path))
    assert many.ByteSize() - one.ByteSize() < 10
    assert tf.make_ndarray(many).shape == (1024, 12, 5000)
    assert np.array_equal(tf.make_ndarray(many)[0], simulated_ecg())
    assert (tmp_path / "assets.extra" / "tf_serving_warmup_requests").stat().st_size < 500_000


def test_more_requests_than_a_server_takes_are_refused(tmp_path: Path) -> None:
    signature = Signature("serving_default", (ECG_INPUT,), lambda ecg: {"ecg": ecg})
    with pytest.raises(ConfigError, match=r"Expected --export_batch_sizes that make at most 1000.*Received 1001"):
        write_warmup(tmp_path, "lvsd", [signature], range(1, 1002))
    assert list(tmp_path.iterdir()) == []
