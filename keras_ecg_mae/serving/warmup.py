"""The requests that TF Serving answers before a version is available, so that no client's request is the first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from keras_ecg_mae.dataset.example import encode_units, to_units
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.serving.signatures import ECG_INPUT, EXAMPLES_INPUT, NOISE_INPUT, Signature
from keras_ecg_mae.simulation.device import Device
from keras_ecg_mae.simulation.ecg import simulate
from keras_ecg_mae.simulation.patients import draw_patients

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MOST_RECORDS = 1000  # with more, TF Serving does not load the version

# Numbers of the fields of TF Serving's messages (tensorflow_serving/apis, release 2.16), which never change. Its Python
# package, which holds the messages themselves, is an extra of this one.
_LOG_PREDICT, _PREDICT_REQUEST = 6, 1  # PredictionLog.predict_log, PredictLog.request
_REQUEST_MODEL, _REQUEST_INPUTS = 1, 2  # PredictRequest.model_spec, .inputs
_MODEL_NAME, _MODEL_SIGNATURE = 1, 3  # ModelSpec.name, .signature_name
_MAP_KEY, _MAP_VALUE = 1, 2  # an entry of a map


def write_warmup(folder: Path, name: str, signatures: Sequence[Signature], batch_sizes: Sequence[int]) -> None:
    """Writes one request for every signature and batch size.

    Args:
        folder: of the version.
        name: of the model.
        signatures: of the model.
        batch_sizes: those that the server's batching allows.

    Raises:
        ConfigError: they are more than a server takes.
    """
    records = len(signatures) * len(batch_sizes)
    if records > MOST_RECORDS:
        raise ConfigError(
            f"Expected --export_batch_sizes that make at most {MOST_RECORDS} requests to warm up with. "
            f"Received {records}."
        )
    path = folder / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in _records(name, signatures, batch_sizes):
            writer.write(record)


@lru_cache(maxsize=1)
def simulated_ecg() -> np.ndarray:
    """One recording, `(12, 5000)` float32 mV: no patient's, since it is handed on with the model."""
    patient = draw_patients(np.array([60.0]), np.array([60.0]), np.random.default_rng(0))
    return simulate(patient, Device(), seed=0)[0]


def _records(name: str, signatures: Iterable[Signature], batch_sizes: Sequence[int]) -> Iterator[bytes]:
    """Serialized PredictionLogs.

    A tensor's protobuf may end before the tensor is full: its last value then stands for the rest. So a batch is one
    simulated recording followed by flat ones (of tf.Examples: the same one again), and takes no more than one.
    """
    for signature in signatures:
        model = _field(_MODEL_NAME, name.encode()) + _field(_MODEL_SIGNATURE, signature.name.encode())
        for batch_size in batch_sizes:
            request = _field(_REQUEST_MODEL, model)
            for spec in signature.inputs:
                tensor = TensorProto(dtype=spec.dtype.as_datatype_enum)
                for size in (batch_size, *spec.shape[1:]):
                    tensor.tensor_shape.dim.add(size=size)
                _FILL[spec.name](tensor)
                value = tensor.SerializeToString(deterministic=True)
                entry = _field(_MAP_KEY, spec.name.encode()) + _field(_MAP_VALUE, value)
                request += _field(_REQUEST_INPUTS, entry)
            yield _field(_LOG_PREDICT, _field(_PREDICT_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message with a string or another message in it: tag, length, content."""
    length, digits = len(content), bytearray()
    while length > 0x7F:  # seven bits a byte, the lowest first
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + content


def _fill_ecg(tensor: Any) -> None:
    tensor.float_val.extend(simulated_ecg().ravel().tolist())


def _fill_examples(tensor: Any) -> None:
    tensor.string_val.append(encode_units(to_units("warm-up", simulated_ecg())))


def _fill_mask_noise(tensor: Any) -> None:
    tensor.float_val.append(0.5)


_FILL: dict[str, Callable[[Any], None]] = {
    ECG_INPUT.name: _fill_ecg,
    EXAMPLES_INPUT.name: _fill_examples,
    NOISE_INPUT.name: _fill_mask_noise,
}
