"""A model that TF Serving serves, asked over gRPC or REST.

https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/apis/prediction_service.proto. Neither requests
nor answers are logged, and no message quotes a recording's samples.
"""

import base64
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import requests
from absl import logging

from keras_ecg_mae.config import Prediction
from keras_ecg_mae.dataset.schema import encode_units, to_units
from keras_ecg_mae.errors import ConfigError, ServerError
from keras_ecg_mae.serving.exported_model import Answer
from keras_ecg_mae.serving.signatures import DEFAULT, EXAMPLES, INPUT_OK, positive_output, probability_output

_PROBABILITY = probability_output("")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_LONGEST_REASON = 300
# Servers that are starting, restarting or out of room: asked again. Any other status is an answer.
_RETRIED_HTTP = (429, 502, 503, 504)

Result = TypeVar("Result")


class UnansweredError(Exception):
    """An attempt that another one may put right: what was received, in words."""


@dataclass(frozen=True)
class Served:
    """What a server says of a model: which version it is, and the names of the default signature's outputs."""

    version: int
    outputs: tuple[str, ...]


class Transport(Protocol):
    """One way to a server. Its methods raise `UnansweredError`, or `ServerError` where asking again is no use.

    Attributes:
        way: which it is, and what to give for another, for where nobody answers.
    """

    way: str

    def served(self, timeout_s: float) -> Served:
        """The version that the settings' label names; without a label, the newest."""

    def predict(self, version: int, ecg_mv: np.ndarray, timeout_s: float) -> dict[str, Any]:
        """The default signature's outputs by name for `(batch, 12, 5000)` float32 mV."""


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
        self._settings = settings
        rest = settings.server.startswith(("http://", "https://"))
        self._transport = _Rest(settings) if rest else _grpc_transport(settings)
        served = self._patiently(self._transport.served)
        self._version, names = served.version, served.outputs
        self.name = f"{settings.server} {settings.model} version {served.version}"
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
        outputs = self._patiently(lambda timeout_s: self._transport.predict(self._version, ecg_mv, timeout_s))
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
            f"{self._settings.server_attempts} attempts. Received at last: {received}. {self._transport.way}"
        )


class _Rest:
    """TF Serving's REST interface. Recordings go as tf.Examples: a third of what their samples take in decimals."""

    def __init__(self, settings: Prediction):
        self._url = f"{settings.server.rstrip('/')}/v1/models/{settings.model}"
        self._label = f"/labels/{settings.server_label}" if settings.server_label else ""
        self._session = requests.Session()
        scheme, _, address = settings.server.partition("://")
        self.way = (
            f"It was asked over {scheme}: give --server={address.partition('/')[0]} where the port is gRPC's, or "
            + (
                f"http://{address} where it has no TLS."
                if scheme == "https"
                else f"https://{address} where it has TLS."
            )
        )

    def served(self, timeout_s: float) -> Served:
        content = self._ask("GET", f"{self._url}{self._label}/metadata", timeout_s)
        try:
            outputs = content["metadata"]["signature_def"]["signature_def"][DEFAULT]["outputs"]
            return Served(int(content["model_spec"]["version"]), tuple(outputs))
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(
                f"{self._url}: Expected a version with the signature {DEFAULT}. Received none."
            ) from error

    def predict(self, version: int, ecg_mv: np.ndarray, timeout_s: float) -> dict[str, Any]:
        examples = [{"b64": base64.b64encode(encode_units(to_units("", one))).decode()} for one in ecg_mv]
        request = {"signature_name": EXAMPLES, "inputs": {"examples": examples}}
        outputs = self._ask("POST", f"{self._url}/versions/{version}:predict", timeout_s, request).get("outputs")
        if not isinstance(outputs, dict):
            raise ServerError(f"{self._url}: Expected outputs by name. Received none.")
        return outputs

    def _ask(self, method: str, url: str, timeout_s: float, content: Any = None) -> dict[str, Any]:
        session = self._session

        def answered() -> tuple[int, bytes]:
            with session.request(method, url, json=content, timeout=timeout_s) as response:
                return response.status_code, response.content

        try:
            status, body = _within(timeout_s, answered)
        except requests.RequestException as error:  # refused, too slow, or dropped half-way
            raise UnansweredError(type(error).__name__) from error
        except TimeoutError as error:
            self._session = requests.Session()  # the old one is in use until the server is done
            raise UnansweredError("too slow an answer") from error
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


def _within(timeout_s: float, work: Callable[[], Result]) -> Result:
    """What `work` returns or raises; `TimeoutError` where it takes longer, and it then goes on by itself.

    requests' own timeout is one for each packet: a server that drips would hold a client for ever.
    """
    outcomes: SimpleQueue[tuple[Result | None, Exception | None]] = SimpleQueue()

    def work_aside() -> None:
        try:
            outcomes.put((work(), None))
        except Exception as error:  # raised where it is waited for
            outcomes.put((None, error))

    Thread(target=work_aside, daemon=True).start()
    try:
        result, error = outcomes.get(timeout=timeout_s)
    except Empty as empty:
        raise TimeoutError from empty
    if error is not None:
        raise error
    return cast(Result, result)


def _grpc_transport(settings: Prediction) -> Transport:
    try:
        from keras_ecg_mae.serving.grpc_transport import Grpc
    except ImportError as error:
        raise ConfigError(
            f"Expected tensorflow-serving-api for --server={settings.server}: pip install 'keras-ecg-mae[serving]', or "
            f"give the server's REST address, http://HOST:PORT. Received: {error}."
        ) from error
    return Grpc(settings)
