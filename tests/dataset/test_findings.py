"""What is found in the recordings of a dataset."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from keras_ecg_mae.config import Quality
from keras_ecg_mae.dataset import prepare, read_manifest

if TYPE_CHECKING:
    from tests.dataset.conftest import Hospital

# Noise keeps no law of limb leads: that threshold is out of its reach.
LOOSE = Quality(mains_hum_mv=0.5, einthoven_mv=100.0)


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_findings_are_listed_and_counted_by_recording(noisy: Hospital, tmp_path: Path) -> None:
    manifest = prepare(noisy.cohort(tmp_path / "dataset", records_per_shard=1), quality=LOOSE)
    assert manifest.count() == 3
    rows = read(tmp_path / "dataset/findings.csv")
    assert sorted((row["file"], row["finding"], row["lead"]) for row in rows) == [
        ("clipped", "clipping", "I"),
        ("clipped", "clipping", "II"),
        ("hum", "mains_hum", "V2"),
    ]
    assert 1.8 < float(next(row["value"] for row in rows if row["file"] == "hum")) < 2.2
    assert all(row["detail"] for row in rows)
    assert read_manifest(str(tmp_path / "dataset")).findings == {"clipping": 1, "mains_hum": 1}
    assert manifest.settings["quality_mains_hum_mv"] == 0.5


def test_only_those_configured_reject(noisy: Hospital, tmp_path: Path) -> None:
    quality = replace(LOOSE, reject=("clipping",))
    manifest = prepare(noisy.cohort(tmp_path / "dataset"), quality=quality)
    assert manifest.rejected == {"quality": 1}
    (rejected,) = read(tmp_path / "dataset/rejected.csv")
    assert rejected["file"] == "clipped"
    assert rejected["detail"].startswith("Expected none of --quality_reject. Received clipping in lead I: ")
    assert {row["file"] for row in read(tmp_path / "dataset/findings.csv")} == {"hum"}
