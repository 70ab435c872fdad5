"""A model that TF Serving serves, asked over gRPC or REST.

https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/apis/prediction_service.proto. Neither requests
nor answers are logged, and no message quotes a recording's samples.
"""

import base64
import json
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import requests
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import Prediction
from keras_ecg_mae.dataset.example import encode_units, to_units
from keras_ecg_mae.errors import ConfigError, ServerError
from keras_ecg_mae.serving.exported_model import Answer
from keras_ecg_mae.serving.signatures import (
    DEFAULT,
    ECG_INPUT,
    EXAMPLES,
    INPUT_OK,
    positive_output,
    probability_output,
)

_PROBABILITY = probability_output("")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_LONGEST_REASON = 300
# Servers that are starting, restarting or out of room: asked again. Any other status is an answer.
_RETRIED_HTTP = (429, 502, 503, 504)
_RETRIED_GRPC = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED")
# A batch of 32 takes 7.7 MB, and gRPC takes 4 MB of its own accord.
_GRPC_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_TOO_LARGE = "larger than max"  # gRPC's words for a message over a size limit: a retry would fail as well

Result = TypeVar("Result")


class _UnansweredError(Exception):
    """An attempt that another one may put right: what was received, in words."""


class ServedModel:
    """A classifier on a model server.

    What a server does not answer, or answers with 'unavailable', is asked again after a pause that doubles, drawn at
    random so that many clients do not come back at once. One version answers everything, even where another one is
    rolled out meanwhile.

    Args:
        settings: `server` is `HOST:PORT` for gRPC, or `http://HOST:PORT` for REST; `model` its name there.

    Attributes:
        name: server, model and version. label: what a positive label means. output: the probability's name among the
        outputs.

    Raises:
        ConfigError: the address is not of these forms, or gRPC's library is not installed.
        ServerError: the server does not answer in time, does not have the model, or it is not one of this package's.
    """

    def __init__(self, settings: Prediction):
        self._settings, self._where = settings, f"{settings.server}, model {settings.model}"
        rest = settings.server.startswith(("http://", "https://"))
        self._transport = _Rest(settings, self._where) if rest else _Grpc(settings, self._where)
        self._version, outputs = self._patiently(self._transport.served)
        self.name = f"{settings.server} {settings.model} version {self._version}"
        found = [name for name in outputs if name.endswith(_PROBABILITY)]
        if len(found) != 1 or INPUT_OK not in outputs:
            raise ServerError(
                f"{self._where}: Expected a classifier of this package, with outputs <label>{_PROBABILITY} and "
                f"{INPUT_OK}. Received the outputs {', '.join(sorted(outputs)) or 'none'}."
            )
        self.output = found[0]
        self.label = self.output.removesuffix(_PROBABILITY)

    def classify(self, ecg_mv: np.ndarray) -> Answer:
        """`(batch, 12, 5000)` float32 mV -> an answer a recording. Raises `ServerError`."""
        outputs = self._patiently(lambda: self._transport.predict(self._version, ecg_mv))
        try:
            answer = Answer(
                probability=np.array(outputs[self.output], np.float32),
                positive=np.array(outputs[positive_output(self.label)], bool),
                input_ok=np.array(outputs[INPUT_OK], bool),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ServerError(f"{self._where}: Expected numbers by output. Received others: {error}.") from error
        if not answer.probability.shape == answer.positive.shape == answer.input_ok.shape == (len(ecg_mv),):
            raise ServerError(
                f"{self._where}: Expected {len(ecg_mv)} answers. Received the shape {answer.probability.shape}."
            )
        return answer

    def _patiently(self, attempt: Callable[[], Result]) -> Result:
        pause_s, attempts = _FIRST_PAUSE_S, self._settings.server_attempts
        for number in range(1, attempts + 1):
            try:
                return attempt()
            except _UnansweredError as error:
                received = str(error)
            if number < attempts:
                logging.warning("%s: attempt %d failed (%s); asking again.", self._where, number, received)
                time.sleep(random.uniform(pause_s / 2, pause_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise ServerError(
            f"{self._where}: Expected an answer within {self._settings.server_timeout_s:g} s, in {attempts} attempts. "
            f"Received at last: {received}. {self._transport.way}"
        )


class _Rest:
    """TF Serving's REST interface. Recordings go as tf.Examples: a third of what their samples take in decimals.

    Its methods, and those of `_Grpc`, raise `_UnansweredError`, or `ServerError` where asking again is no use.
    `way` says which interface was asked, and what to give for the other one, for where nobody answers.
    """

    def __init__(self, settings: Prediction, where: str):
        self._where, self._timeout_s, self._session = where, settings.server_timeout_s, requests.Session()
        self._url = f"{settings.server.rstrip('/')}/v1/models/{settings.model}"
        self._label = f"/labels/{settings.server_label}" if settings.server_label else ""
        scheme, _, address = settings.server.partition("://")
        other, has = ("http", "no TLS") if scheme == "https" else ("https", "TLS")
        self.way = (
            f"It was asked over {scheme}: give --server={address.partition('/')[0]} where the port is gRPC's, or "
            f"{other}://{address} where it has {has}."
        )

    def served(self) -> tuple[int, Iterable[str]]:
        """The version that the settings' label names, without a label the newest; the default signature's outputs."""
        content = self._ask("GET", f"{self._label}/metadata")
        try:
            outputs = content["metadata"]["signature_def"]["signature_def"][DEFAULT]["outputs"]
            return int(content["model_spec"]["version"]), list(outputs)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(
                f"{self._where}: Expected a version with the signature {DEFAULT}. Received none."
            ) from error

    def predict(self, version: int, ecg_mv: np.ndarray) -> dict[str, Any]:
        """The default signature's outputs by name for `(batch, 12, 5000)` float32 mV."""
        examples = [{"b64": base64.b64encode(encode_units(to_units("", one))).decode()} for one in ecg_mv]
        request = {"signature_name": EXAMPLES, "inputs": {"examples": examples}}
        outputs = self._ask("POST", f"/versions/{version}:predict", request).get("outputs")
        if not isinstance(outputs, dict):
            raise ServerError(f"{self._where}: Expected outputs by name. Received none.")
        return outputs

    def _ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        try:
            response = self._session.request(method, self._url + path, json=content, timeout=self._timeout_s)
        except requests.RequestException as error:  # refused, too slow, or dropped half-way
            raise _UnansweredError(type(error).__name__) from error
        if response.status_code in _RETRIED_HTTP:
            raise _UnansweredError(f"HTTP status {response.status_code}")
        try:
            answer = json.loads(response.content)
        except ValueError as error:
            if response.ok:
                raise _UnansweredError("an answer that is no JSON") from error
            answer = None
        if response.status_code != requests.codes.ok or not isinstance(answer, dict):
            reason = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            raise ServerError(
                f"{self._where}: Expected an answer. Received HTTP status {response.status_code}: "
                f"{reason[:_LONGEST_REASON] or 'no reason'}."
            )
        return answer


class _Grpc:
    """As `_Rest`, for gRPC, by the extra `serving`. The channel is not encrypted, which is TF Serving's default."""

    def __init__(self, settings: Prediction, where: str):
        try:
            import grpc
            from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise ConfigError(
                f"Expected tensorflow-serving-api for --server={settings.server}: pip install "
                "'keras-ecg-mae[serving]', or give the server's REST address, http://HOST:PORT. "
                f"Received: {error}."
            ) from error
        self._where, self._settings, self._error = where, settings, grpc.RpcError
        self._metadata, self._request = get_model_metadata_pb2, predict_pb2.PredictRequest
        self.way = (
            f"It was asked over gRPC without TLS: give --server=http://{settings.server} where the port is REST's."
        )
        channel = grpc.insecure_channel(settings.server, options=_GRPC_OPTIONS)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def served(self) -> tuple[int, Iterable[str]]:
        request = self._metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        if self._settings.server_label:
            request.model_spec.version_label = self._settings.server_label
        response = self._ask(self._stub.GetModelMetadata, request)
        signatures = self._metadata.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        if DEFAULT not in signatures.signature_def:
            raise ServerError(f"{self._where}: Expected the signature {DEFAULT}. Received none.")
        return response.model_spec.version.value, list(signatures.signature_def[DEFAULT].outputs)

    def predict(self, version: int, ecg_mv: np.ndarray) -> dict[str, Any]:
        request = self._request()
        request.model_spec.version.value, request.model_spec.signature_name = version, DEFAULT
        request.inputs[ECG_INPUT.name].CopyFrom(tf.make_tensor_proto(ecg_mv, tf.float32))
        response = self._ask(self._stub.Predict, request)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _ask(self, method: Any, request: Any) -> Any:
        request.model_spec.name = self._settings.model
        try:
            return method(request, timeout=self._settings.server_timeout_s)
        except self._error as error:
            code, details = error.code().name, (error.details() or "no reason")[:_LONGEST_REASON]
            too_large = _TOO_LARGE in details
            if code in _RETRIED_GRPC and not too_large:
                raise _UnansweredError(f"{code}: {details}") from error
            remedy = " Give a smaller --predict_batch_size." if too_large else ""
            raise ServerError(f"{self._where}: Expected an answer. Received {code}: {details}.{remedy}") from error
