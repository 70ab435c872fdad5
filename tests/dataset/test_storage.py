"""Datasets in cloud storage."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keras_ecg_mae.dataset import Manifest, evaluation_batches, prepare, read_manifest

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents, Hospital

REPOSITORY = Path(__file__).resolve().parents[2]


def sums(folder: str) -> list[str]:
    """Each test recording's id and the sum of its samples."""
    batches = evaluation_batches(read_manifest(folder), ["test"], batch_size=16, labelled=False)
    return [
        f"{record_id.decode()} {abs(ecg).sum():.3f}"
        for batch in batches.as_numpy_iterator()
        for record_id, ecg in zip(batch["record_id"], batch["ecg"], strict=True)
    ]


READ = f"""
import os, sys
from keras_ecg_mae.dataset import evaluation_batches, read_manifest, verify
{inspect.getsource(sums)}
verify(read_manifest(sys.argv[1]))
print(*sums(sys.argv[1]), sep="\\n", flush=True)
os._exit(0)  # S3's client aborts while the interpreter ends
"""

STOP_CHANGE_AND_GO_ON = """
import os, sys
from pathlib import Path
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.dataset import writing

recordings, labels, output, secret = sys.argv[1:]
cohort = Cohort(
    recordings=recordings, labels=labels, output=output, patient_key_file=secret, workers=1, records_per_shard=1
)
find_duplicates = writing.find_duplicates

def interrupt(*_):
    raise KeyboardInterrupt

writing.find_duplicates = interrupt
try:
    writing.prepare(cohort)
except KeyboardInterrupt:
    writing.find_duplicates = find_duplicates
Path(recordings, "b.json").write_text('{"sampling_rate_hz": 1000}')  # of 5 s
assert writing.prepare(cohort).rejected == {"too_short": 1}
os._exit(0)  # S3's client aborts while the interpreter ends
"""


@pytest.mark.slow
def test_a_prepare_that_was_stopped_goes_on_in_s3_as_on_a_disk(
    arrays: Hospital, tmp_path: Path, secret: str, contents: Contents, s3: Any
) -> None:
    paths = [str(arrays.recordings), str(arrays.labels), "s3://ecg/stopped", secret]
    command = [sys.executable, "-c", STOP_CHANGE_AND_GO_ON, *paths]
    subprocess.run(command, check=True, env={**os.environ, **s3.environment, "PYTHONPATH": str(REPOSITORY)})
    prepare(arrays.cohort(tmp_path / "disk", patient_key_file=secret, records_per_shard=1))
    stored = {key.removeprefix("stopped/"): s3.read(key) for key in s3.keys("stopped/")}
    assert stored == contents(tmp_path / "disk")


def test_a_dataset_on_s3_reads_as_the_local_one(simulated: Manifest, s3: Any) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", READ, s3.upload(Path(simulated.folder), "read")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **s3.environment, "PYTHONPATH": str(REPOSITORY)},
    )
    assert answer.stdout.splitlines() == sums(simulated.folder)
    assert len(answer.stdout.splitlines()) == simulated.count("test")
