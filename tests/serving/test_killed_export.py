"""Exports that are killed, and exports at once: real processes, and what a server would see of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from keras_ecg_mae.serving.versions import versions

# Importing takes longer than exporting: one process imports, and each export is a copy of it.
EXPORTER = """
import os, sys
from pathlib import Path
from keras_ecg_mae.cohort.description import CohortDescription
from keras_ecg_mae.models.build import Transformer, build_classifier
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.serving.model_json import Decision
from keras_ecg_mae.serving.saved_model import export_classifier
from keras_ecg_mae.serving.model_json import Provenance
from keras_ecg_mae.runs.training_data import TrainingData
for line in sys.stdin:
    word, argument = line.split()
    if word == "wait":
        print(os.waitpid(int(argument), 0)[1], flush=True)
    elif child := os.fork():
        print(child, flush=True)
    else:
        classifier = build_classifier(Transformer(16, 1, 2), normalization="record", pooling="mean")
        decision = Decision("lvsd", 0.4, "chosen before", 0.95, ())
        trained = TrainingData("runs/x", Dataset("d", "5d41", 9), "lvsd", 40.0, "", {})
        provenance = Provenance(trained, CohortDescription("lvsd", (), (), ()))
        export_classifier(classifier, Path(argument), decision=decision, provenance=provenance)
        os._exit(0)
"""

# What an export writes, in its order: it is killed as one of them appears.
MOMENTS = ["/variables/*", "/saved_model.pb", "/assets/SHA256SUMS"]


class Exporter:
    """Processes that export."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process

    def begin(self, folder: Path) -> int:
        return int(self._ask(f"export {folder}"))

    def wait(self, pid: int) -> int:
        """How a process ended, as `os.waitpid` tells it."""
        return int(self._ask(f"wait {pid}"))

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    command = [sys.executable, "-c", EXPORTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Exporter(process)
        assert process.stdin is not None
        process.stdin.close()


def expect_whole(version: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "assets/SHA256SUMS"], cwd=version, check=True)
    answer = tf.saved_model.load(str(version)).signatures["serving_default"](ecg=tf.zeros((1, 12, 5000)))
    assert not answer["input_ok"][0]


@pytest.mark.slow
def test_no_half_version_is_seen_however_an_export_ends(exporter: Exporter, tmp_path: Path) -> None:
    for moment in MOMENTS:
        before = {path.name for path in tmp_path.iterdir()}
        pid = exporter.begin(tmp_path)
        deadline = time.monotonic() + 120
        while not any(partial_of(path, tmp_path) not in before for path in tmp_path.glob(f".partial-*{moment}")):
            assert time.monotonic() < deadline, f"{moment} has not appeared"
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        assert exporter.wait(pid) == signal.SIGKILL, moment
        assert all(path.name.startswith(".partial-") for path in tmp_path.iterdir()), moment
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == len(MOMENTS)
    pids = [exporter.begin(tmp_path), exporter.begin(tmp_path)]
    seen: set[int] = set()
    deadline = time.monotonic() + 240
    while len(seen) < 2:
        assert time.monotonic() < deadline, f"{seen} alone"
        for number in set(versions(tmp_path)) - seen:
            expect_whole(tmp_path / str(number))
            seen.add(number)
        time.sleep(0.01)
    assert [exporter.wait(pid) for pid in pids] == [0, 0]
    assert seen == {1, 2}
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"} | left


def partial_of(path: Path, folder: Path) -> str:
    """The partial version that `path` lies in."""
    return path.relative_to(folder).parts[0]
