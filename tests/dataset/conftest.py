"""Small cohorts of made-up WFDB records, and datasets of made-up signals."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import wfdb

from keras_ecg_mae import spec
from keras_ecg_mae.cohort.description import Count
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.dataset import Manifest, read_manifest, training_batches
from keras_ecg_mae.dataset.example import Metadata, encode_units, to_units
from keras_ecg_mae.dataset.manifest import Shard
from keras_ecg_mae.files import sha256

Contents = Callable[[Path], dict[str, bytes]]
Batches = list[dict[str, np.ndarray]]
SECRET = "0123456789abcdef"


def read(dataset: Manifest, **settings: Any) -> Batches:
    settings = {"batch_size": 16, "epochs": 2, "seed": 3, "labelled": False} | settings
    return list(training_batches(dataset, **settings).as_numpy_iterator())


def names(batches: Batches) -> list[bytes]:
    return [name for batch in batches for name in batch["record_id"].tolist()]


def assert_same(first: Batches, second: Batches) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture
def contents() -> Contents:
    """The content of every file in a folder and those below it, by its path there."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text(SECRET)
    return str(tmp_path / "secret")


def write_record(folder: Path, name: str, seed: int, samples: int = spec.SAMPLES) -> None:
    """A WFDB record of noise in twelve leads, 1 uV a unit."""
    write_units(folder, name, np.random.default_rng(seed).integers(-500, 500, (samples, 12)))


def write_units(folder: Path, name: str, units: np.ndarray) -> None:
    """A WFDB record of `units` `(samples, 12)`, 1 uV each."""
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name,
        fs=500,
        units=["mV"] * 12,
        sig_name=list(spec.LEADS),
        d_signal=units,
        fmt=["16"] * 12,
        adc_gain=[1000.0] * 12,
        baseline=[0] * 12,
        write_dir=str(folder),
    )


@dataclass(frozen=True)
class Hospital:
    """A folder of recordings, some of them bad, with their table.

    Attributes:
        recordings: the folder.
        labels: the table.
        bad: the reason by the path of each bad recording.
    """

    recordings: Path
    labels: Path
    bad: dict[str, str]

    def cohort(self, output: Path, **settings: Any) -> Cohort:
        return Cohort(recordings=str(self.recordings), labels=str(self.labels), output=str(output), **settings)


@pytest.fixture
def noisy(tmp_path: Path) -> Hospital:
    """`good`, noise; `hum`, with 2 mV of mains hum in lead V2; `clipped`, whose leads I and II stay at 3 mV."""
    noise = np.random.default_rng(0).integers(-500, 500, (3, spec.SAMPLES, 12))
    noise[1, :, 7] += np.rint(1000 * np.sin(2 * np.pi * 50 * np.arange(spec.SAMPLES) / 500)).astype(int)
    noise[2, 1000:1100, :2] = 3000
    for name, units in zip(("good", "hum", "clipped"), noise, strict=True):
        write_units(tmp_path / "files", name, units)
    (tmp_path / "noisy.csv").write_text("path\ngood\nhum\nclipped\n")
    return Hospital(tmp_path / "files", tmp_path / "noisy.csv", {})


@pytest.fixture
def arrays(tmp_path: Path) -> Hospital:
    """`a.npy` to `d.npy`, in uV, the folder's `signal.json`, and `b.json` for one of them."""
    folder = tmp_path / "arrays"
    folder.mkdir()
    for seed, name in enumerate("abcd"):
        np.save(folder / name, np.random.default_rng(seed).integers(-500, 500, (12, spec.SAMPLES), dtype=np.int16))
    said = {"sampling_rate_hz": 500, "unit": "uV", "leads": spec.LEADS}
    (folder / "signal.json").write_text(json.dumps(said))
    (folder / "b.json").write_text(json.dumps({"unit": "uV"}))
    (tmp_path / "arrays.csv").write_text("path,patient_id\n" + "".join(f"{name}.npy,{name}\n" for name in "abcd"))
    return Hospital(folder, tmp_path / "arrays.csv", {})


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """44 recordings of 22 patients in the institutions north, south and east, four of them bad."""
    root = tmp_path_factory.mktemp("hospital")
    rows = []
    for number in range(40):
        institution = ("north", "south")[number % 2] if number < 32 else "east"
        name = f"r{number:02d}"
        write_record(root / "files" / institution, name, seed=number)
        rows.append(
            {
                "path": f"{institution}/{name}",
                "record_id": name,
                "patient_id": f"{institution}-{number // 4}",
                "institution": institution,
                "lvef": "" if number % 5 == 4 else 30 + number,
                "age": 50 + number,
                "sex": "FM"[number % 2],
            }
        )
    write_record(root / "files/north", "short", seed=100, samples=4000)
    write_record(root / "files/north", "cut", seed=101)
    with open(root / "files/north/cut.dat", "r+b") as file:
        file.truncate(1000)
    bad = {
        "north/short": "too_short",
        "north/cut": "truncated",
        "north/absent": "missing",
        "../elsewhere/secret": "outside_root",
    }
    write_record(root / "elsewhere", "secret", seed=102)
    rows[3:3] = [{"path": path, "record_id": path, "institution": "north", "lvef": 50} for path in bad]
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return Hospital(root / "files", root / "labels.csv", bad)


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """Twelve recordings of one institution: `a` to `f`; `a2`, `b2` and `b3` with the samples of `a` and `b`; others.

    `a2` is of a patient of its own, `b2` and `b3` are of the patient of `b`.
    """
    root = tmp_path_factory.mktemp("twins")
    names = ("a", "b", "c", "a2", "d", "b2", "e", "b3", "f", "g", "h", "i")
    for name in names:
        write_record(root / "files", name, seed=ord(name[0]))
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "patient_id"))
        writer.writerows((name, "b" if name[0] == "b" else name) for name in names)
    return Hospital(root / "files", root / "labels.csv", {})


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """150 training records in three shards, every third unlabelled, and 20 validation records in one.

    Sample 0 of lead I is the record's number in uV, and the signal rises by 1 uV a sample from there.
    """
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "north").mkdir()
    shards: list[Shard] = []
    for split, numbers in (
        *(("train", range(first, first + 50)) for first in (0, 50, 100)),
        ("validation", range(150, 170)),
    ):
        file = f"north/{split}-{len(shards):05d}.tfrecord"
        with tf.io.TFRecordWriter(str(folder / file)) as writer:
            for number in numbers:
                ecg_mv = (number + np.arange(spec.SAMPLES) + np.zeros((12, 1))) * 1e-3
                label = None if number % 3 == 2 else number % 3
                name = f"record-{number}"
                metadata = Metadata(name, f"key-{number}", "north", label)
                writer.write(encode_units(to_units(name, ecg_mv), metadata))
        labelled = sum(number % 3 != 2 for number in numbers)
        path = str(folder / file)
        shards.append(Shard(file, "north", split, len(numbers), labelled, (folder / file).stat().st_size, sha256(path)))
    Manifest(
        folder=str(folder),
        label_name="lvsd",
        external_institutions=(),
        characteristics=(),
        counts=(Count("north", "train", 150, 50, 50, 50), Count("north", "validation", 20, 7, 7, 6)),
        shards=tuple(shards),
        rejected={},
        findings={},
        settings={},
        table_sha256="",
        patient_keys="",
        versions={},
    ).write()
    return read_manifest(str(folder))


@pytest.fixture
def edit_manifest(dataset: Manifest, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], str]:
    """Copies the dataset's manifest into a folder of its own, changed; returns the folder."""

    def edit(change: Callable[[dict[str, Any]], object]) -> str:
        content = json.loads(Path(dataset.path).read_text())
        change(content)
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        return str(tmp_path)

    return edit
