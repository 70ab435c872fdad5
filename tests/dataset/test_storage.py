"""Where datasets lie: on a disk that may lose power, and in cloud storage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keras_ecg_mae.dataset import Manifest, prepare
from keras_ecg_mae.files import write_whole

if TYPE_CHECKING:
    from tests.dataset.conftest import Contents, Hospital

REPOSITORY = Path(__file__).resolve().parents[2]

READ = """
import sys
from keras_ecg_mae.dataset import evaluation_batches, read_manifest, verify
manifest = read_manifest(sys.argv[1])
verify(manifest)
batches = evaluation_batches(manifest, ["test"], batch_size=16, labelled=False)
for batch in batches.as_numpy_iterator():
    for record_id, ecg in zip(batch["record_id"], batch["ecg"]):
        print(record_id.decode(), f"{abs(ecg).sum():.3f}", flush=True)
import os
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
    answers = [
        subprocess.run(
            [sys.executable, "-c", READ, address],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **s3.environment},
        ).stdout
        for address in (simulated.folder, s3.upload(Path(simulated.folder), "read"))
    ]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == simulated.count("test")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        done.append((os.fstat(descriptor).st_size, os.listdir(tmp_path)))

    monkeypatch.setattr(os, "fsync", note)
    write_whole(f"{tmp_path}/manifest.json", "content")
    (size, before), (_, after) = done  # the file, then its folder
    assert size == len("content")
    assert before != ["manifest.json"]
    assert after == ["manifest.json"]
