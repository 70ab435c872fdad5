"""A model that TF Serving serves, asked over gRPC or REST.

https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/apis/prediction_service.proto. Neither requests
nor answers are logged, and no message quotes a recording's samples.
"""

import base64
import json
import random
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
import requests
from absl import logging

from keras_ecg_mae.config import Prediction
from keras_ecg_mae.dataset.schema import encode_units, to_units
from keras_ecg_mae.errors import ConfigError, ServerError
from keras_ecg_mae.serving.answer import Answer
from keras_ecg_mae.serving.signatures import DEFAULT, EXAMPLES, INPUT_OK, positive_output, probability_output

_PROBABILITY = probability_output("")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_LONGEST_REASON = 300
# Servers that are starting, restarting or out of room: asked again. Any other status is an answer.
_RETRIED_HTTP = (429, 502, 503, 504)

Result = TypeVar("Result")


class UnansweredError(Exception):
    """An attempt that another one may put right: what was received, in words."""


class Transport(Protocol):
    """One way to a server. Its methods raise `UnansweredError`, or `ServerError` where asking again is no use."""

    def outputs(self, timeout_s: float) -> list[str]:
        """Names of the default signature's outputs."""

    def predict(self, ecg_mv: np.ndarray, timeout_s: float) -> dict[str, Any]:
        """The default signature's outputs by name for `(batch, 12, 5000)` float32 mV."""


class ServedModel:
    """A classifier on a model server.

    What a server does not answer, or answers with 'unavailable', is asked again after a pause that doubles, drawn at
    random so that many clients do not come back at once.

    Args:
        settings: `server` is `HOST:PORT` for gRPC, or `http://HOST:PORT` for REST; `model` its name there.

    Attributes:
        label: what a positive label means. output: the probability's name among the outputs.

    Raises:
        ConfigError: the address is not of these forms, or gRPC's library is not installed.
        ServerError: the server does not answer in time, does not have the model, or it is not one of this package's.
    """

    def __init__(self, settings: Prediction):
        self._settings = settings
        rest = settings.server.startswith(("http://", "https://"))
        self._transport = _Rest(settings) if rest else _grpc_transport(settings)
        names = self._patiently(self._transport.outputs)
        found = [name for name in names if name.endswith(_PROBABILITY)]
        if len(found) != 1 or INPUT_OK not in names:
            raise ServerError(
                f"{self._where}: Expected a classifier of this package, with outputs <label>{_PROBABILITY} and "
                f"{INPUT_OK}. Received the outputs {', '.join(sorted(names)) or 'none'}."
            )
        self.output = found[0]
        self.label = self.output.removesuffix(_PROBABILITY)

    @property
    def _where(self) -> str:
        return f"{self._settings.server}, model {self._settings.model}"

    def classify(self, ecg_mv: np.ndarray) -> Answer:
        """`(batch, 12, 5000)` float32 mV -> an answer a recording. Raises `ServerError`."""
        outputs = self._patiently(lambda timeout_s: self._transport.predict(ecg_mv, timeout_s))
        try:
            answer = Answer(
                probability=np.array(outputs[self.output], np.float32),
                positive=np.array(outputs[positive_output(self.label)], bool),
                input_ok=np.array(outputs[INPUT_OK], bool),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ServerError(f"{self._where}: Expected numbers by output. Received others: {error}.") from error
        expected = (len(ecg_mv),)
        if not answer.probability.shape == answer.positive.shape == answer.input_ok.shape == expected:
            raise ServerError(
                f"{self._where}: Expected {expected[0]} answers. Received the shape {answer.probability.shape}."
            )
        return answer

    def _patiently(self, attempt: Callable[[float], Result]) -> Result:
        pause_s = _FIRST_PAUSE_S
        for number in range(1, self._settings.server_attempts + 1):
            try:
                return attempt(self._settings.server_timeout_s)
            except UnansweredError as error:
                received = str(error)
            if number < self._settings.server_attempts:
                logging.warning("%s: attempt %d failed (%s); asking again.", self._where, number, received)
                time.sleep(random.uniform(pause_s / 2, pause_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise ServerError(
            f"{self._where}: Expected an answer within {self._settings.server_timeout_s:g} s, in "
            f"{self._settings.server_attempts} attempts. Received at last: {received}."
        )


class _Rest:
    """TF Serving's REST interface. Recordings go as tf.Examples: a third of what their samples take in decimals."""

    def __init__(self, settings: Prediction):
        self._url = f"{settings.server.rstrip('/')}/v1/models/{settings.model}"
        self._session = requests.Session()

    def outputs(self, timeout_s: float) -> list[str]:
        content = self._ask("GET", f"{self._url}/metadata", timeout_s)
        try:
            return list(content["metadata"]["signature_def"]["signature_def"][DEFAULT]["outputs"])
        except (KeyError, TypeError) as error:
            raise ServerError(f"{self._url}: Expected the signature {DEFAULT}. Received none.") from error

    def predict(self, ecg_mv: np.ndarray, timeout_s: float) -> dict[str, Any]:
        examples = [{"b64": base64.b64encode(encode_units(to_units("", one))).decode()} for one in ecg_mv]
        request = {"signature_name": EXAMPLES, "inputs": {"examples": examples}}
        outputs = self._ask("POST", f"{self._url}:predict", timeout_s, request).get("outputs")
        if not isinstance(outputs, dict):
            raise ServerError(f"{self._url}: Expected outputs by name. Received none.")
        return outputs

    def _ask(self, method: str, url: str, timeout_s: float, content: Any = None) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        try:
            with self._session.request(method, url, json=content, timeout=timeout_s, stream=True) as response:
                status, body = response.status_code, _read(response, deadline)
        except requests.RequestException as error:  # refused, too slow, or dropped half-way
            raise UnansweredError(type(error).__name__) from error
        try:
            answer = json.loads(body)
        except ValueError as error:
            if status == requests.codes.ok:
                raise UnansweredError("an answer that is no JSON") from error
            answer = None
        if status in _RETRIED_HTTP:
            raise UnansweredError(f"HTTP status {status}")
        if status != requests.codes.ok or not isinstance(answer, dict):
            reason = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            raise ServerError(
                f"{url}: Expected an answer. Received HTTP status {status}: {reason[:_LONGEST_REASON] or 'no reason'}."
            )
        return answer


def _read(response: requests.Response, deadline: float) -> bytes:
    """The body. requests' own timeout is one for each packet: a server that drips would hold a client for ever."""
    parts = []
    for part in response.iter_content(1 << 16):
        parts.append(part)
        if time.monotonic() > deadline:
            raise requests.Timeout("the answer is not complete")
    return b"".join(parts)


def _grpc_transport(settings: Prediction) -> Transport:
    try:
        from keras_ecg_mae.serving.grpc_transport import Grpc
    except ImportError as error:
        raise ConfigError(
            f"Expected tensorflow-serving-api for --server={settings.server}: pip install 'keras-ecg-mae[serving]', or "
            f"give the server's REST address, http://HOST:PORT. Received: {error}."
        ) from error
    return Grpc(settings)
