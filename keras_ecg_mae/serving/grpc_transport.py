"""TF Serving's gRPC interface, by tensorflow-serving-api, which comes with the extra `serving`."""

from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from keras_ecg_mae.config import Prediction
from keras_ecg_mae.errors import ServerError
from keras_ecg_mae.serving.client import Served, UnansweredError
from keras_ecg_mae.serving.signatures import DEFAULT, ECG_INPUT

# A batch of 32 takes 7.7 MB, and gRPC takes 4 MB of its own accord.
_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)
_TOO_LARGE = "larger than max"  # gRPC's words for a message over a size limit: a retry would fail as well
_LONGEST_REASON = 300


class Grpc:
    """See `client.Transport`. The channel is not encrypted, which is TF Serving's default."""

    def __init__(self, settings: Prediction):
        self._where, self._model, self._label = settings.server, settings.model, settings.server_label
        self.way = (
            f"It was asked over gRPC without TLS: give --server=http://{settings.server} where the port is REST's."
        )
        self._stub = PredictionServiceStub(grpc.insecure_channel(settings.server, options=_OPTIONS))

    def served(self, timeout_s: float) -> Served:
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self._model
        if self._label:
            request.model_spec.version_label = self._label
        response = self._ask(self._stub.GetModelMetadata, request, timeout_s)
        signatures = SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        if DEFAULT not in signatures.signature_def:
            raise ServerError(f"{self._where}: Expected the signature {DEFAULT}. Received none.")
        return Served(response.model_spec.version.value, tuple(signatures.signature_def[DEFAULT].outputs))

    def predict(self, version: int, ecg_mv: np.ndarray, timeout_s: float) -> dict[str, Any]:
        request = PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.version.value = version
        request.model_spec.signature_name = DEFAULT
        request.inputs[ECG_INPUT.name].CopyFrom(tf.make_tensor_proto(ecg_mv, tf.float32))
        response = self._ask(self._stub.Predict, request, timeout_s)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _ask(self, method: Any, request: Any, timeout_s: float) -> Any:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            code, details = error.code(), (error.details() or "no reason")[:_LONGEST_REASON]
            too_large = _TOO_LARGE in details
            if code in _RETRIED and not too_large:
                raise UnansweredError(f"{code.name}: {details}") from error
            remedy = " Give a smaller --predict_batch_size." if too_large else ""
            raise ServerError(
                f"{self._where}, model {self._model}: Expected an answer. Received {code.name}: {details}.{remedy}"
            ) from error
