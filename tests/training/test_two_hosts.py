"""Two hosts with addresses of their own, a worker in each: two network namespaces of this machine and a cable.

Making them needs Linux, iproute2 and its rights; without these the tests are skipped.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.training.log import MetricsLog
from tests.training.conftest import MAKE_TINY_SMALLEST

HOSTS = {"ecg_host_0": "10.77.0.1", "ecg_host_1": "10.77.0.2"}
PORT = 41000
EPOCHS = 60
PREEMPTED = 75


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def cable() -> Iterator[Callable[[str], None]]:
    """Two hosts joined by a cable, whose first end is set `up` or `down` by what is given."""
    try:
        for host in HOSTS:
            ip("netns", "add", host)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {getattr(error, 'stderr', error)}")
    try:
        first, second = HOSTS
        ip("link", "add", "ecg0", "netns", first, "type", "veth", "peer", "name", "ecg1", "netns", second)
        for number, (host, address) in enumerate(HOSTS.items()):
            ip("-n", host, "addr", "add", f"{address}/24", "dev", f"ecg{number}")
            for device in ("lo", f"ecg{number}"):
                ip("-n", host, "link", "set", device, "up")
        yield lambda state: ip("-n", first, "link", "set", "ecg0", state)
    finally:
        for host in HOSTS:
            ip("netns", "delete", host)


def start(dataset: str, run: Path, host: str = "") -> "subprocess.Popen[str]":
    """Pretrains by the command, alone or as the worker of a host."""
    script = f"""{MAKE_TINY_SMALLEST}
import runpy, sys
sys.argv = ["train", "--dataset={dataset}", "--run={run}", "--size=tiny", "--stages=pretrain", "--checkpoint_minutes=0",
            "--pretrain_batch_size=8", "--pretrain_epochs={EPOCHS}", "--pretrain_warmup_epochs=1"]
runpy.run_module("keras_ecg_mae.train", run_name="__main__")
"""
    environment, command = dict(os.environ), [sys.executable, "-c", script]
    if host:
        cluster = {"worker": [f"{address}:{PORT}" for address in HOSTS.values()]}
        task = {"type": "worker", "index": list(HOSTS).index(host)}
        environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        command = ["ip", "netns", "exec", host, *command]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def statuses(workers: "list[subprocess.Popen[str]]") -> list[int]:
    for worker in workers:
        _, errors = worker.communicate(timeout=400)
        assert worker.returncode in (0, PREEMPTED), errors[-3000:]
    return [worker.returncode for worker in workers]


@pytest.mark.slow
def test_two_hosts_end_when_their_cable_is_cut_and_go_on_when_it_is_mended(
    cable: Callable[[str], None], simulated: Manifest, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    workers = [start(simulated.folder, two, host) for host in HOSTS]
    while len(MetricsLog(two / "pretrain", EPOCHS, writes=False).rows) < 2 and workers[0].poll() is None:
        time.sleep(0.1)
    cable("down")
    assert statuses(workers) == [PREEMPTED, PREEMPTED]
    assert 2 <= len(MetricsLog(two / "pretrain", EPOCHS, writes=False).rows) < EPOCHS
    cable("up")
    assert statuses([start(simulated.folder, two, host) for host in HOSTS]) == [0, 0]
    assert statuses([start(simulated.folder, one)]) == [0]
    alone, together = (MetricsLog(run / "pretrain", EPOCHS, writes=False).rows for run in (one, two))
    assert [row["step"] for row in together] == [row["step"] for row in alone]
    assert [row["loss"] for row in together] == pytest.approx([row["loss"] for row in alone], rel=1e-4)
