"""The client against a real gRPC and a real HTTP server, in good health and bad."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from keras_ecg_mae.config import Prediction
from keras_ecg_mae.errors import ServerError
from keras_ecg_mae.serving.client import ServedModel
from keras_ecg_mae.serving.exported_model import ExportedModel

Start = Callable[..., Any]  # the fixture `start_server`
HALF_A_REQUEST_BYTES = 100_000


class CutConnections:
    """Hands connections on to a server, and cuts them off within a request of two recordings or within its answer.

    Attributes:
        address: to ask instead of the server's.
        times: how many are still to be cut off.
    """

    def __init__(self, server: str, direction: str):
        host, _, port = server.rpartition(":")
        self._server, self._direction, self.times = (host, int(port)), direction, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "CutConnections":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                ends = (client, socket.create_connection(self._server))
                requested = [0]  # bytes
                for direction, (source, target) in {"request": ends, "answer": ends[::-1]}.items():
                    pump = (direction, source, target, requested)
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, direction: str, source: socket.socket, target: socket.socket, requested: list[int]) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(1 << 14):
                requested[0] += len(data) * (direction == "request")
                if self.times and direction == self._direction and requested[0] > HALF_A_REQUEST_BYTES:
                    self.times -= 1
                    target.sendall(data[: len(data) // 2])
                    for end in (source, target):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_server_answers_as_the_export_does(way: str, start_server: Start, exported: Path, ecgs: np.ndarray) -> None:
    broken = ecgs.copy()
    broken[3] = 0
    expected, served = (
        ExportedModel(exported).classify(broken),
        ServedModel(start_server(exported, "lvsd").settings(way)),
    )
    assert (served.label, served.output) == ("lvsd", "lvsd_probability")
    answer = served.classify(broken)
    assert answer.input_ok.tolist() == [row != 3 for row in range(16)]
    assert np.isnan(answer.probability[3])
    np.testing.assert_allclose(answer.probability, expected.probability, atol=1e-5)
    assert answer.positive.tolist() == expected.positive.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_busy_server_is_asked_again(
    way: str, start_server: Start, exported: Path, ecgs: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    served = ServedModel(start_server(exported, "lvsd").settings(way, model="busy", server_attempts=3))
    answer = served.classify(ecgs[:2])
    expected = ExportedModel(exported).classify(ecgs[:2]).probability
    np.testing.assert_allclose(answer.probability, expected, atol=1e-5)
    assert "asking again" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
@pytest.mark.parametrize("direction", ["request", "answer"])
def test_a_connection_that_is_cut_half_way_is_made_again(
    way: str,
    direction: str,
    start_server: Start,
    exported: Path,
    ecgs: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scheme, _, address = getattr(start_server(exported, "lvsd"), way).rpartition("//")
    with CutConnections(address, direction) as cut:
        server = f"{scheme}//{cut.address}" if scheme else cut.address
        served = ServedModel(Prediction(server=server, model="lvsd", server_timeout_s=20.0))
        cut.times = 2
        answer = served.classify(ecgs[:2])
        assert cut.times == 0
    expected = ExportedModel(exported).classify(ecgs[:2]).probability
    np.testing.assert_allclose(answer.probability, expected, atol=1e-5)
    assert "attempt 1 failed" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_slow_server_is_not_waited_for(way: str, start_server: Start, exported: Path) -> None:
    server = start_server(exported, "lvsd")
    with pytest.raises(ServerError, match=r"within 0.5 s, in 2 attempts. Received at last: (ReadTimeout|DEADLINE)"):
        ServedModel(server.settings(way, model="slow", server_timeout_s=0.5))


@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_server_that_is_down_is_named(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    address = f"127.0.0.1:{port}" if way == "grpc" else f"http://127.0.0.1:{port}"
    with pytest.raises(ServerError, match=rf"{address}, model lvsd: Expected an answer within 5 s, in 2 attempts"):
        ServedModel(Prediction(server=address, model="lvsd", server_timeout_s=5, server_attempts=2))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_one_version_answers_and_a_label_names_it(
    way: str, start_server: Start, exported: Path, ecgs: np.ndarray
) -> None:
    server = start_server(exported, "lvsd")
    served = ServedModel(server.settings(way, server_label="stable"))
    assert served.name == f"{getattr(server, way)} lvsd version {exported.name}"
    assert served.classify(ecgs[:2]).input_ok.all()
    with pytest.raises(ServerError, match="Servable not found"):
        ServedModel(server.settings(way, server_label="canary"))


@pytest.mark.slow
def test_a_request_that_is_too_large_on_the_way_is_not_repeated(exported: Path, ecgs: np.ndarray) -> None:
    class Small(PredictionServiceServicer):
        def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  # the servicer's name
            signatures = SignatureDefMap()
            for name in ("lvsd_probability", "lvsd_positive", "input_ok"):
                signatures.signature_def["serving_default"].outputs[name].name = name
            response = GetModelMetadataResponse()
            response.model_spec.version.value = 1
            response.metadata["signature_def"].Pack(signatures)
            return response

    server = grpc.server(ThreadPoolExecutor(2))  # takes 4 MB, as gRPC does of its own accord
    add_PredictionServiceServicer_to_server(Small(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        served = ServedModel(Prediction(server=f"127.0.0.1:{port}", model="lvsd", server_attempts=50))
        with pytest.raises(ServerError, match=r"larger than max.*Give a smaller --predict_batch_size"):
            served.classify(np.concatenate([ecgs, ecgs]))
    finally:
        server.stop(None).wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "form", "hint"),
    [
        ("rest", "{port}", "over gRPC without TLS: give --server=http://127.0.0.1:{port} where"),
        ("grpc", "http://{port}", "over http: give --server=127.0.0.1:{port} where"),
        ("rest", "https://{port}", "over https: .* or http://127.0.0.1:{port} where"),
    ],
)
def test_a_port_of_the_other_interface_is_said_to_be_one(
    way: str, form: str, hint: str, start_server: Start, exported: Path
) -> None:
    server = start_server(exported, "lvsd")
    address = getattr(server, way).removeprefix("http://")
    settings = server.settings(way, server_attempts=1)
    with pytest.raises(ServerError, match=hint.format(port=address.partition(":")[2])):
        ServedModel(replace(settings, server=form.format(port=address)))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_model_that_is_not_there_is_not_asked_for_again(
    way: str, start_server: Start, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", pytest.fail)
    with pytest.raises(ServerError, match=r"Received (NOT_FOUND|HTTP status 404): Servable not found"):
        ServedModel(start_server(exported, "lvsd").settings(way, model="other", server_attempts=10))


@pytest.mark.slow
def test_a_shape_that_the_model_does_not_take_is_an_error_at_once(start_server: Start, exported: Path) -> None:
    served = ServedModel(start_server(exported, "lvsd").settings("grpc", server_attempts=10))
    with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
        served.classify(np.zeros((2, 12, 4000), np.float32))


@pytest.mark.slow
def test_twenty_clients_at_once_each_get_their_own_answers(
    start_server: Start, exported: Path, ecgs: np.ndarray
) -> None:
    """Ten over gRPC and ten over REST, at once."""
    expected = ExportedModel(exported).classify(ecgs).probability
    server = start_server(exported, "lvsd")

    def ask(client: int) -> None:
        served = ServedModel(server.settings("grpc" if client % 2 else "rest", server_timeout_s=60.0))
        for number in range(len(ecgs)):
            row = (client + number) % len(ecgs)
            probability = served.classify(ecgs[row : row + 1]).probability
            np.testing.assert_allclose(probability, expected[row : row + 1], atol=1e-5)

    with ThreadPoolExecutor(20) as threads:
        for _ in threads.map(ask, range(20)):  # raises what a client raised
            pass
