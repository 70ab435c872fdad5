"""Preparing a dataset: from files and a table to shards, whatever some of the files hold."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae.config import Quality, Signal
from keras_ecg_mae.dataset import evaluation_batches, prepare, read_manifest, verify
from keras_ecg_mae.dataset.shards import ShardTask, write_shard
from keras_ecg_mae.errors import ConfigError, DatasetError, FileError

if TYPE_CHECKING:
    from tests.conftest import Rows
    from tests.dataset.conftest import Contents, Hospital

SPLITS = ("train", "validation", "test")


def test_a_dataset_from_good_and_bad_recordings(hospital: Hospital, tmp_path: Path, secret: str) -> None:
    cohort = hospital.cohort(
        tmp_path / "dataset", external_institutions=("east",), patient_key_file=secret, records_per_shard=7
    )
    manifest = prepare(cohort)
    verify(manifest)
    assert read_manifest(cohort.output) == manifest
    assert sorted(os.listdir(cohort.output)) == [
        "cohort.html",
        "east",
        "findings.csv",
        "manifest.json",
        "north",
        "rejected.csv",
        "south",
        "table_problems.csv",
    ]
    assert manifest.institutions == ("north", "south", "east")
    assert manifest.label_name == "lvsd"
    assert manifest.count() == 40
    assert manifest.count("test", institution="east") == manifest.count(institution="east") == 8
    assert manifest.rejected == {"missing": 1, "outside_root": 1, "too_short": 1, "truncated": 1}
    with open(tmp_path / "dataset/rejected.csv", encoding="utf-8") as file:
        rejected = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert rejected == hospital.bad

    batches = list(evaluation_batches(manifest, SPLITS, batch_size=8, labelled=False).as_numpy_iterator())
    read = {
        name.decode(): (split.decode(), key.decode(), ecg)
        for batch in batches
        for name, split, key, ecg in zip(
            batch["record_id"], batch["split"], batch["patient_key"], batch["ecg"], strict=True
        )
    }
    table = pd.read_csv(hospital.labels, dtype=str).set_index("record_id")
    assert set(read) == set(table.index[~table["path"].isin(hospital.bad)])
    # Each patient has one key and is in one split.
    patients = pd.DataFrame(
        [(table.loc[name, "patient_id"], key, split) for name, (split, key, _) in read.items()],
        columns=["patient", "key", "split"],
    )
    assert (patients.groupby("patient")[["key", "split"]].nunique() == 1).all(axis=None)
    assert patients["key"].nunique() == patients["patient"].nunique()
    for number in (0, 17, 39):
        units = np.random.default_rng(number).integers(-500, 500, (5000, 12)).T
        np.testing.assert_allclose(read[f"r{number:02d}"][2], units * 1e-3, atol=1e-6)
    labels = {
        name: label
        for batch in evaluation_batches(manifest, SPLITS, batch_size=8, labelled=True).as_numpy_iterator()
        for name, label in zip(batch["record_id"].tolist(), batch["label"].tolist(), strict=True)
    }
    assert len(labels) == manifest.count(labelled=True) == 32
    assert sum(labels.values()) == manifest.positives() == 8
    assert labels[b"r05"] == 1
    assert labels[b"r10"] == 0


def test_no_patient_id_and_no_secret_in_the_dataset(
    hospital: Hospital, tmp_path: Path, secret: str, contents: Contents
) -> None:
    prepare(hospital.cohort(tmp_path / "dataset", patient_key_file=secret))
    for name, content in contents(tmp_path / "dataset").items():
        assert b"north-0" not in content, name
        assert b"0123456789abcdef" not in content, name


@pytest.mark.slow
def test_the_same_bytes_from_one_and_two_processes_and_any_order_of_rows(
    hospital: Hospital, tmp_path: Path, secret: str, contents: Contents
) -> None:
    shuffled = tmp_path / "shuffled.csv"
    pd.read_csv(hospital.labels, dtype=str).sample(frac=1, random_state=0).to_csv(shuffled, index=False)
    one, two, other = (
        hospital.cohort(tmp_path / name, patient_key_file=secret, workers=workers, records_per_shard=9)
        for name, workers in (("one", 1), ("two", 2), ("other", 1))
    )
    prepare(one)
    prepare(two)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    prepare(type(other)(**{**other.__dict__, "labels": str(shuffled)}))
    shards = {name: content for name, content in contents(tmp_path / "one").items() if name.endswith(".tfrecord")}
    assert len(shards) > 6
    assert shards.items() <= contents(tmp_path / "other").items()


def test_a_dataset_that_is_there_is_not_prepared_again(hospital: Hospital, tmp_path: Path) -> None:
    cohort = hospital.cohort(tmp_path / "dataset")
    manifest = prepare(cohort)
    assert os.stat(tmp_path / "dataset.key").st_mode & 0o777 == 0o600
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").rglob("*")}
    assert prepare(hospital.cohort(tmp_path / "dataset", workers=1)) == manifest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").rglob("*")} == before


def test_another_dataset_is_not_overwritten(hospital: Hospital, tmp_path: Path) -> None:
    prepare(hospital.cohort(tmp_path / "dataset"))
    with pytest.raises(DatasetError, match=r"differs: --split_seed 0 there, 1 now\. Remove it"):
        prepare(hospital.cohort(tmp_path / "dataset", split_seed=1))
    table = pd.read_csv(hospital.labels, dtype=str)
    table.iloc[1:].to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DatasetError, match="has changed"):
        prepare(type(hospital)(hospital.recordings, tmp_path / "labels.csv", {}).cohort(tmp_path / "dataset"))
    os.remove(tmp_path / "dataset.key")
    with pytest.raises(DatasetError, match=r"patient keys .* is another one or missing"):
        prepare(hospital.cohort(tmp_path / "dataset"))
    assert not (tmp_path / "dataset.key").exists()


def test_a_folder_with_something_else_is_left_alone(hospital: Hospital, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(
        DatasetError, match=r"Expected a new or an empty folder .* Received one that holds 'thesis.tex'"
    ):
        prepare(hospital.cohort(tmp_path / "mine"))


def test_no_usable_recording(tmp_path: Path, write_table: Callable[[Rows], Path], hospital: Hospital) -> None:
    labels = write_table([{"path": "north/absent"}, {"path": "north/short"}])
    cohort = type(hospital)(hospital.recordings, labels, {}).cohort(tmp_path / "dataset")
    with pytest.raises(DatasetError, match=r"all 2 were rejected \(missing 1, too_short 1\), the first, north/absent"):
        prepare(cohort)
    assert "north/short,too_short" in (tmp_path / "dataset/rejected.csv").read_text()
    assert not list((tmp_path / "dataset").rglob("*.tfrecord"))
    # Other settings may begin anew in what is left of it.
    manifest = prepare(hospital.cohort(tmp_path / "dataset", max_flat_leads=1))
    assert manifest.count() == 40


@pytest.mark.parametrize("how", ["absolute", "file link", "folder link"])
def test_paths_that_leave_the_recordings_are_rejected(
    hospital: Hospital, tmp_path: Path, write_table: Callable[[Rows], Path], how: str
) -> None:
    root = tmp_path / "files"
    root.mkdir()
    outside = hospital.recordings / "north/r00"
    path = {"absolute": str(outside), "file link": "linked", "folder link": "north/r00"}[how]
    (root / "linked.hea").symlink_to(f"{outside}.hea")
    (root / "linked.dat").symlink_to(f"{outside}.dat")
    (root / "north").symlink_to(hospital.recordings / "north")
    (root / "good.hea").write_bytes(Path(f"{outside}.hea").read_bytes())
    (root / "r00.dat").write_bytes(Path(f"{outside}.dat").read_bytes())
    labels = write_table([{"path": "good"}, {"path": path}])
    manifest = prepare(type(hospital)(root, labels, {}).cohort(tmp_path / "dataset"))
    assert manifest.count() == 1
    assert manifest.rejected == {"outside_root": 1}


@pytest.mark.parametrize(("name", "refused"), [("signal.json", 4), ("b.json", 1), ("c.npy.json", 1)])
def test_sidecars_that_leave_the_recordings(arrays: Hospital, tmp_path: Path, name: str, refused: int) -> None:
    (tmp_path / "said.json").write_text('{"sampling_rate_hz": 500}')
    sidecar = arrays.recordings / name
    sidecar.unlink(missing_ok=True)
    sidecar.symlink_to(tmp_path / "said.json")
    if refused == 4:
        with pytest.raises(DatasetError, match=r"all 4 were rejected \(outside_root 4\)"):
            prepare(arrays.cohort(tmp_path / "dataset"))
    else:
        assert prepare(arrays.cohort(tmp_path / "dataset")).rejected == {"outside_root": 1}


def test_settings_that_are_missing(hospital: Hospital, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected --output to be given\. Received ''"):
        prepare(type(hospital.cohort(tmp_path))(recordings=str(hospital.recordings), labels=str(hospital.labels)))
    with pytest.raises(ConfigError, match="Expected --recordings to be a folder that exists"):
        prepare(type(hospital)(tmp_path / "nowhere", hospital.labels, {}).cohort(tmp_path / "dataset"))


def test_a_shard_that_cannot_be_written(hospital: Hospital, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    task = ShardTask(str(tmp_path / "file"), "train.tfrecord", hospital.cohort(tmp_path), Signal(), Quality())
    with pytest.raises(FileError, match=r"file/train\.tfrecord"):
        write_shard(task, int)


def test_the_manifest_tells_what_the_dataset_is(hospital: Hospital, tmp_path: Path) -> None:
    prepare(hospital.cohort(tmp_path / "dataset", external_institutions=("east",)))
    content = json.loads((tmp_path / "dataset/manifest.json").read_text())
    assert content["signal"]["sampling_rate_hz"] == 500
    assert content["external_institutions"] == ["east"]
    assert content["settings"]["split_seed"] == 0
    assert content["versions"]["pydicom"] == metadata.version("pydicom")
    assert len(content["table_sha256"]) == 64
    east = next(count for count in content["counts"] if count["institution"] == "east")
    assert east == {
        "institution": "east",
        "split": "test",
        "patients": 2,
        "positive": 0,
        "negative": 6,
        "unlabelled": 2,
    }
