"""Whole commands on a local S3 server give what they give on local files.

`gs://` is reached by the same code through TensorFlow's own file system; there is no server of it to test against.
"""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from keras_ecg_mae.dataset import Manifest

REPOSITORY = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow

TINY = [
    "--size=tiny",
    "--pretrain_epochs=3",
    "--pretrain_warmup_epochs=1",
    "--pretrain_batch_size=16",
    "--pretrain_validation_epochs=2",
    "--finetune_epochs=1",
    "--finetune_batch_size=16",
    "--finetune_learning_rates=1e-3",
    "--checkpoint_minutes=0",
    "--name=test",
    "--export_despite_gate",
]
# Measured, not computed.
OF_THIS_MACHINE = ("records_per_second", "input_wait_share", "host_memory_gib", "device_memory_gib")
# Checkpoints of this size are then uploaded in several parts, as larger ones are by default.
IN_PARTS = {"S3_MULTI_PART_UPLOAD_CHUNK_SIZE": str(5 * 2**20)}
# Says whether a command loaded tensorflow-io.
WATCHED = """
import atexit, runpy, sys
atexit.register(lambda: print("tensorflow-io was loaded:", "tensorflow_io" in sys.modules))
runpy.run_module("keras_ecg_mae." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
READ_DONE = """
import os, sys
from keras_ecg_mae.errors import FileError
from keras_ecg_mae.runs.folder import read_done
from keras_ecg_mae.files import storage_path
try:
    print(read_done(storage_path("s3://ecg/run")), flush=True)
except FileError as error:
    print(error, flush=True)
os._exit(0)
"""


@pytest.fixture
def start(s3: Any) -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **s3.environment, **IN_PARTS, "PYTHONPATH": str(REPOSITORY)},
        )

    return start


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[str, str]]:
    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        process = start(*arguments)
        output, errors = process.communicate(timeout=500)
        assert process.returncode == status, errors[-3000:]
        return output, errors

    return run


def computed(table: bytes) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(table.decode()))
    return [{name: value for name, value in row.items() if name not in OF_THIS_MACHINE} for row in rows]


def without_dates(done: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(done).items() if name != "made"}


def test_a_killed_run_on_s3_ends_as_the_local_one(
    simulated: Manifest, s3: Any, start: Callable[..., Any], run: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    local, remote = tmp_path / "run", "s3://ecg/runs/a"
    output, _ = run(
        "-c", WATCHED, "train", f"--dataset={simulated.folder}", f"--run={local}", f"--saved_models={tmp_path}", *TINY
    )
    assert "tensorflow-io was loaded: False" in output

    dataset = s3.upload(Path(simulated.folder), "dataset")
    train = ["-m", "keras_ecg_mae.train", f"--dataset={dataset}", f"--run={remote}", "--saved_models=s3://ecg/saved"]
    first = start(*train, *TINY)
    while not s3.keys("runs/a/pretrain/checkpoints/last.json") and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    _, errors = first.communicate()
    assert first.returncode == -signal.SIGKILL, errors[-3000:]
    assert "runs/a/pretrain/done.json" not in s3.keys("runs/a")
    output, errors = run(*train, *TINY)
    assert "pretrain goes on after step" in errors
    assert f"Run {remote}" in output

    def as_local(content: bytes) -> bytes:
        """With the addresses of run and dataset as those of the local ones."""
        text = content.decode().replace(remote, str(local))
        return text.replace("s3://ecg/dataset", simulated.folder).encode()

    for name in ("pretrain", "finetune/0.001"):
        assert computed(s3.read(f"runs/a/{name}/metrics.csv")) == computed((local / name / "metrics.csv").read_bytes())
    for name in ("pretrain", "finetune", "finetune/0.001", "evaluation"):
        ours = without_dates(as_local(s3.read(f"runs/a/{name}/done.json")))
        assert ours == without_dates((local / name / "done.json").read_bytes())
    for name in ("results.json", "predictions.csv"):
        assert as_local(s3.read(f"runs/a/evaluation/{name}")) == (local / "evaluation" / name).read_bytes()
    assert len(json.loads(s3.read("runs/a/run.json"))["commands"]) == 2
    assert len(s3.keys("runs/a/pretrain/best/")) <= 2
    assert [key for key in s3.keys("") if "partial" in key or key.endswith(".tmp")] == []

    recordings = sorted((Path(simulated.folder).parent / "recordings").rglob("*.hea"))[:5]
    answers = [
        run("-m", "keras_ecg_mae.predict", f"--model={model}", "--format=json", *recordings)[0]
        for model in (tmp_path / "test", "s3://ecg/saved/test")
    ]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 5
    run("-m", "keras_ecg_mae.report", f"--report_output={tmp_path / 'report'}", remote)
    assert remote in (tmp_path / "report" / "report.md").read_text()


def test_a_bucket_that_does_not_exist_is_named(simulated: Manifest, run: Callable[..., tuple[str, str]]) -> None:
    _, errors = run(
        "-m",
        "keras_ecg_mae.train",
        f"--dataset={simulated.folder}",
        "--run=s3://missing/runs/a",
        "--stages=pretrain",
        *TINY,
        status=1,
    )
    (error,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "s3://missing/runs/a/run.json: Expected to write this file." in error
    assert re.search("Received: (FileNotFound|NotFound)Error", error)
    _, errors = run("-m", "keras_ecg_mae.predict", "--model=s3://missing/test", "recording", status=1)
    assert "error: s3://missing/test: Expected an export" in errors


class Refusing(BaseHTTPRequestHandler):
    """An S3 server that denies everything."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_a_finished_stage_out_of_reach_is_not_taken_for_one_to_do(s3: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    answer = subprocess.run(
        [sys.executable, "-c", READ_DONE],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **s3.environment, "S3_ENDPOINT": f"http://127.0.0.1:{server.server_port}"},
    )
    server.shutdown()
    server.server_close()
    expected = r"s3://ecg/run/done.json: Expected to read this file. Received: Permission(Denied)?Error"
    assert re.match(expected, answer.stdout)
