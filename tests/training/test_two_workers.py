"""Two worker processes over loopback train as one process does."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.training.distribution import make_strategy
from keras_ecg_mae.training.log import MetricsLog
from tests.training.conftest import MAKE_TINY_SMALLEST, Pretrained

WORKER = """{make_tiny_smallest}
from pathlib import Path
from keras_ecg_mae.training.distribution import make_strategy
from keras_ecg_mae.config import *
make_strategy("auto")
from keras_ecg_mae.dataset import read_manifest
from keras_ecg_mae.training.pretrain import pretrain
pretrain({config!r}, read_manifest({dataset!r}), Path({folder!r}))
"""


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def start_worker(addresses: list[str], index: int, script: str) -> "subprocess.Popen[str]":
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {**os.environ, "TF_CONFIG": json.dumps(cluster)}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_workers_pretrain_as_one_does(whole: Pretrained, simulated: Manifest, tmp_path: Path) -> None:
    script = WORKER.format(
        make_tiny_smallest=MAKE_TINY_SMALLEST, config=whole.config, dataset=simulated.folder, folder=str(tmp_path)
    )
    addresses = free_addresses(2)
    workers = [start_worker(addresses, index, script) for index in (0, 1)]
    for worker in workers:
        _, errors = worker.communicate(timeout=600)
        assert worker.returncode == 0, errors
    one, two = (MetricsLog(folder, 1000).rows for folder in (whole.folder, tmp_path))
    assert [row["step"] for row in two] == [row["step"] for row in one]
    for column, rel in (("loss", 1e-5), ("gradient_norm", 1e-5), ("validation_error", 1e-4)):
        assert [row[column] for row in two] == pytest.approx([row[column] for row in one], rel=rel)


@pytest.mark.slow
def test_when_a_worker_is_killed_the_other_ends_to_be_started_again(simulated: Manifest, tmp_path: Path) -> None:
    # Profiled: that must not let the workers take different numbers of steps a call.
    script = f"""
import runpy, sys
sys.argv = ["train", "--dataset={simulated.folder}", "--run={tmp_path / "run"}", "--size=tiny", "--stages=pretrain",
            "--pretrain_batch_size=8", "--pretrain_epochs=1000", "--profile_steps=5"]
runpy.run_module("keras_ecg_mae.train", run_name="__main__")
"""
    addresses = free_addresses(2)
    workers = [start_worker(addresses, index, script) for index in (0, 1)]
    while len(MetricsLog(tmp_path / "run" / "pretrain", 1000, writes=False).rows) < 3 and workers[0].poll() is None:
        time.sleep(0.5)
    workers[1].kill()
    _, errors = workers[0].communicate(timeout=300)
    assert workers[0].returncode == 75, errors[-3000:]
    assert "preempted: Another worker does not answer; the same command goes on." in errors
    workers[1].communicate()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_a_cluster_that_is_not_described_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=r"Expected .*TF_CONFIG"):
        make_strategy("multi_worker")
