"""A process of `prepare` that dies of a recording costs that recording."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_ecg_mae.dataset import read_manifest
from tests.dataset.conftest import write_record
from tests.planted import FAULTS, plant, planted_file

REPOSITORY = Path(__file__).resolve().parents[2]


def prepared(folder: Path, name: str, faults: list[str], workers: int) -> tuple[dict[str, bytes], dict[str, str]]:
    """The shards of a cohort of good and of planted recordings, and the reason of each that is rejected, by file."""
    recordings = folder / name
    for number in range(8):
        write_record(recordings, f"good_{number}", seed=number)
    for number, fault in enumerate(faults):
        planted_file(recordings / f"bad_{number}", fault)
    paths = [
        f"{kind}_{number}" for number in range(8) for kind in ("good", "bad") if kind == "good" or number < len(faults)
    ]
    (folder / f"{name}.csv").write_text("\n".join(["path,patient_id", *(f"{path},{path}" for path in paths)]))
    (folder / "secret").write_text("0123456789abcdef")
    command = [
        sys.executable,
        "-m",
        "keras_ecg_mae.prepare",
        f"--recordings={recordings}",
        f"--labels={folder}/{name}.csv",
    ]
    command += [f"--output={folder}/{name}_dataset", f"--workers={workers}"]
    command += [f"--patient_key_file={folder}/secret"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "planted"), str(REPOSITORY)])}
    answer = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr[-2000:]
    dataset = folder / f"{name}_dataset"
    assert read_manifest(str(dataset)).count() == 8
    with open(dataset / "rejected.csv", encoding="utf-8", newline="") as file:
        rejected = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    return {str(path.relative_to(dataset)): path.read_bytes() for path in dataset.rglob("*.tfrecord")}, rejected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_costs_its_own_recording(tmp_path: Path, workers: int) -> None:
    plant(tmp_path / "planted")
    refused, rejected = prepared(tmp_path, "refused", ["error"] * len(FAULTS), workers)
    assert set(rejected.values()) == {"malformed"}
    faulty, rejected = prepared(tmp_path, "faulty", list(FAULTS), workers)
    assert rejected == {f"bad_{number}": code for number, code in enumerate(FAULTS.values())}
    assert faulty == refused
