"""Cohorts of given sizes: by institution alone, or exactly by institution, split and label."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.config import Simulation
from keras_ecg_mae.errors import ConfigError
from keras_ecg_mae.simulation.cohort import write_simulated_cohort
from keras_ecg_mae.simulation.counts import Counts, read_counts

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
BY_LABEL = """institution,split,patients,case,control
north,train,30,10,40
north,test,12,7,5
south,test,3,0,9
east,test,4,4,0
"""


def simulated(folder: Path, counts: str) -> list[dict[str, str]]:
    (folder / "counts.csv").write_text(counts)
    count = write_simulated_cohort(
        folder / "recordings",
        folder / "table.csv",
        patients=1,
        institutions=1,
        prevalence=0.2,
        seed=0,
        counts=read_counts(str(folder / "counts.csv")),
        table_only=True,
    )
    assert not (folder / "recordings").exists()
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert count == len(rows)
    return rows


def test_sizes_alone(tmp_path: Path) -> None:
    rows = simulated(tmp_path, "institution,patients,ecgs\nnorth,30,50\nsouth,20,20\n")
    assert "split" not in rows[0]
    for name, patients, ecgs in (("north", 30, 50), ("south", 20, 20)):
        own = [row["patient_id"] for row in rows if row["institution"] == name]
        assert (len(set(own)), len(own)) == (patients, ecgs)


def test_every_count_by_institution_split_and_label(tmp_path: Path) -> None:
    rows = simulated(tmp_path, BY_LABEL)
    assert tuple(rows[0])[-1] == "split"
    ecgs = Counter((row["institution"], row["split"], float(row["lvef"]) < 40) for row in rows)
    assert ecgs == {
        ("north", "train", True): 10,
        ("north", "train", False): 40,
        ("north", "test", True): 7,
        ("north", "test", False): 5,
        ("south", "test", False): 9,
        ("east", "test", True): 4,
    }
    patients = {(row["institution"], row["split"], row["patient_id"], float(row["lvef"]) < 40) for row in rows}
    assert len({patient for _, _, patient, _ in patients}) == len(patients)  # nobody in two splits or of both labels
    assert Counter((institution, split) for institution, split, _, _ in patients) == {
        ("north", "train"): 30,
        ("north", "test"): 12,
        ("south", "test"): 3,
        ("east", "test"): 4,
    }


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 100))
def test_patients_are_divided_so_that_each_has_an_ecg(cases: int, controls: int, patients: int) -> None:
    patients = min(max(patients, (cases > 0) + (controls > 0)), cases + controls)
    if cases + controls:
        parts = Counts("a", patients, cases + controls, "train", cases).by_label()
        assert sum(part[1] for part in parts) == patients
        assert all(min(ecgs, 1) <= persons <= ecgs for _, persons, ecgs in parts)


@pytest.mark.parametrize(
    "counts",
    [
        "institution,patients\nnorth,3\n",
        "institution,patients,ecgs\nnorth,3,2\n",
        "institution,patients,ecgs\nnorth,0,2\n",
        "institution,patients,ecgs\nnorth,3,many\n",
        "institution,patients,ecgs\nnorth,3\n",
        "institution,patients,ecgs\nnorth,3,5\nnorth,3,5\n",
        "institution,split,patients,case,control\nnorth,train,1,3,3\n",
        "institution,split,patients,case,control\nnorth,train,3,-1,5\n",
    ],
)
def test_counts_that_fit_no_cohort(tmp_path: Path, counts: str) -> None:
    (tmp_path / "counts.csv").write_text(counts)
    with pytest.raises(ConfigError, match=r"counts\.csv"):
        read_counts(str(tmp_path / "counts.csv"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--simulate_counts"):
        read_counts(str(tmp_path / "counts.csv"))


def test_two_ways_at_once() -> None:
    with pytest.raises(ConfigError, match="--simulate_counts"):
        Simulation(counts="counts.csv", institutions=8)


def test_the_files_in_pipelines_are_read() -> None:
    assert sum(count.patients for count in read_counts(str(PIPELINES / "label_efficiency.csv"))) == 2200
    assert sum(count.ecgs for count in read_counts(str(PIPELINES / "paper_cohort.csv"))) == 227_353
