"""The client against a real gRPC and a real HTTP server, in good health and bad."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.config import Prediction
from keras_ecg_mae.errors import ServerError
from keras_ecg_mae.serving.client import ServedModel
from keras_ecg_mae.serving.prediction import ExportedModel

SERVER = Path(__file__).with_name("model_server.py")
Start = Callable[..., "Server"]


@dataclass(frozen=True)
class Server:
    """A running server's two addresses."""

    grpc: str
    rest: str
    process: subprocess.Popen[str]

    def settings(self, way: str, **others: object) -> Prediction:
        values = {"model": "lvsd", "server_timeout_s": 20.0, "server_attempts": 2, **others}
        return Prediction(server=getattr(self, way), **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def start(exported: Path) -> Iterator[Start]:
    """Starts a server of the export `lvsd`, with a fault or without; once for each fault."""
    servers: dict[str, Server] = {}

    def begin(fault: str = "") -> Server:
        if fault not in servers:
            process = subprocess.Popen(
                [sys.executable, str(SERVER), str(exported), "lvsd", fault], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            ports = process.stdout.readline().split()
            servers[fault] = Server(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", process)
        return servers[fault]

    yield begin
    for server in servers.values():
        server.process.kill()
        server.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_server_answers_as_the_export_does(way: str, start: Start, exported: Path, ecgs: np.ndarray) -> None:
    broken = ecgs.copy()
    broken[3] = 0
    expected, served = ExportedModel(exported).classify(broken), ServedModel(start().settings(way))
    assert (served.label, served.output) == ("lvsd", "lvsd_probability")
    answer = served.classify(broken)
    assert answer.input_ok.tolist() == [row != 3 for row in range(16)]
    assert np.isnan(answer.probability[3])
    np.testing.assert_allclose(answer.probability, expected.probability, atol=1e-5)
    assert answer.positive.tolist() == expected.positive.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
@pytest.mark.parametrize("fault", ["busy", "drop"])
def test_what_fails_once_is_asked_again(
    way: str, fault: str, start: Start, exported: Path, ecgs: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    served = ServedModel(start(fault).settings(way, server_attempts=3))
    answer = served.classify(ecgs[:2])
    np.testing.assert_allclose(answer.probability, ExportedModel(exported).probability(ecgs[:2]), atol=1e-5)
    assert "asking again" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_slow_server_is_not_waited_for(way: str, start: Start) -> None:
    server = start("slow")
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"Expected an answer within 0.5 s, in 2 attempts. Received at last"):
        ServedModel(server.settings(way, server_timeout_s=0.5))
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_server_that_is_down_is_named(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    address = f"127.0.0.1:{port}" if way == "grpc" else f"http://127.0.0.1:{port}"
    with pytest.raises(ServerError, match=rf"{address}, model lvsd: Expected an answer within 5 s, in 2 attempts"):
        ServedModel(Prediction(server=address, model="lvsd", server_timeout_s=5, server_attempts=2))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_a_model_that_is_not_there_is_not_asked_for_again(way: str, start: Start) -> None:
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"Received (NOT_FOUND|HTTP status 404): Servable not found"):
        ServedModel(start().settings(way, model="other", server_attempts=10))
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_shape_that_the_model_does_not_take_is_an_error_at_once(start: Start) -> None:
    served = ServedModel(start().settings("grpc", server_attempts=10))
    with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
        served.classify(np.zeros((2, 12, 4000), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["grpc", "rest"])
def test_twenty_clients_at_once_each_get_their_own_answers(
    way: str, start: Start, exported: Path, ecgs: np.ndarray
) -> None:
    expected = ExportedModel(exported).probability(ecgs)
    settings = start().settings(way, server_timeout_s=60.0)
    wrong: list[str] = []
    answers = [0] * 20

    def ask(client: int) -> None:
        try:
            served, ends = ServedModel(settings), time.monotonic() + 5
            while time.monotonic() < ends:
                row = (client + answers[client]) % len(ecgs)
                probability = served.classify(ecgs[row : row + 1]).probability
                if abs(float(probability[0]) - float(expected[row])) > 1e-5:
                    wrong.append(f"client {client}, recording {row}: {probability}")
                answers[client] += 1
        except Exception as error:  # a thread's own would be lost
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(answers) >= 1
