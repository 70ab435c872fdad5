"""Cohorts of the paper's size, by their tables alone: the split, and what `prepare --table_only` leaves."""

import ast
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae.cohort.read import read_table
from keras_ecg_mae.cohort.split import assign_splits
from keras_ecg_mae.config import SPLITS, Cohort, Config
from keras_ecg_mae.dataset import Manifest, prepare, read_cohort, split_table
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.prepare import main
from keras_ecg_mae.simulation.cohort import write_simulated_cohort
from keras_ecg_mae.simulation.counts import Counts

PATIENTS = (23_154, 26_151, 20_000, 6_000, 6_000, 6_000, 6_000, 6_000)
RECORDINGS = (37_456, 48_747, 40_000, 10_000, 10_000, 10_000, 10_000, 10_000)
COUNTS = tuple(
    Counts(f"institution_{number}", patients, ecgs)
    for number, (patients, ecgs) in enumerate(zip(PATIENTS, RECORDINGS, strict=True), start=1)
)
FRACTIONS = dict(zip(SPLITS, (0.70, 0.15, 0.15), strict=True))
EXTERNAL = {
    "dataset 1": tuple(f"institution_{number}" for number in range(2, 9)),
    "dataset 2": tuple(f"institution_{number}" for number in range(4, 9)),
}


@pytest.fixture(scope="module")
def paper_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    count = write_simulated_cohort(
        folder / "recordings",
        folder / "table.csv",
        patients=sum(PATIENTS),
        institutions=len(PATIENTS),
        prevalence=0.13,
        seed=0,
        counts=COUNTS,
        table_only=True,
    )
    assert count == sum(RECORDINGS)
    assert sorted(os.listdir(folder)) == ["table.csv"]
    return folder / "table.csv"


@pytest.fixture(scope="module")
def paper_rows(paper_table: Path) -> pd.DataFrame:
    begin = time.process_time()
    rows = read_table(Cohort(labels=str(paper_table))).rows
    assert time.process_time() - begin < 30
    return rows


def split(rows: pd.DataFrame, external: tuple[str, ...]) -> pd.Series:
    return assign_splits(rows, external_institutions=external, train_fraction=0.70, validation_fraction=0.15, seed=0)


def assert_split_well(rows: pd.DataFrame, splits: pd.Series) -> None:
    """No patient in two splits; recordings, patients and prevalence within half a percent."""
    assert (splits.groupby(rows["patient_id"]).nunique() == 1).all()
    for name, fraction in FRACTIONS.items():
        chosen = rows[splits == name]
        assert abs(len(chosen) / len(rows) - fraction) < 0.005
        assert abs(chosen["patient_id"].nunique() / rows["patient_id"].nunique() - fraction) < 0.005
        assert abs(chosen["label"].mean() - rows["label"].mean()) < 0.005


def test_the_table_has_the_papers_counts(paper_rows: pd.DataFrame) -> None:
    rows = paper_rows
    sizes = rows.groupby("institution").agg(patients=("patient_id", "nunique"), recordings=("record_id", "size"))
    assert tuple(sizes["patients"]) == PATIENTS
    assert tuple(sizes["recordings"]) == RECORDINGS
    first = rows[rows["institution"].isin([f"institution_{number}" for number in (1, 2, 3)])]
    assert (len(first), first["patient_id"].nunique()) == (126_203, 69_305)


@pytest.mark.parametrize("dataset", EXTERNAL)
def test_the_papers_datasets_are_split_by_patient_in_seconds(paper_rows: pd.DataFrame, dataset: str) -> None:
    rows = paper_rows
    begin = time.process_time()
    splits = split(rows, EXTERNAL[dataset])
    assert time.process_time() - begin < 30
    external = rows["institution"].isin(EXTERNAL[dataset])
    assert (splits[external] == "test").all()
    assert_split_well(rows[~external], splits[~external])
    for name in rows.loc[~external, "institution"].unique():
        assert_split_well(rows[rows["institution"] == name], splits[rows["institution"] == name])


@pytest.mark.parametrize("shared_patients", [0, 200])
def test_institution_1_is_split_alike_in_both_datasets(paper_rows: pd.DataFrame, shared_patients: int) -> None:
    """Else pretraining on dataset 2 would see test patients of dataset 1; patients of two institutions aside."""
    rows = paper_rows.copy()
    first = rows["institution"] == "institution_1"
    second = rows["institution"] == "institution_2"
    same = dict(
        zip(
            rows.loc[second, "patient_id"].unique()[:shared_patients],
            np.random.default_rng(0).choice(rows.loc[first, "patient_id"].unique(), shared_patients, replace=False),
            strict=True,
        )
    )
    rows["patient_id"] = rows["patient_id"].replace(same)
    one, two = (split(rows, external) for external in EXTERNAL.values())
    assert (one.groupby(rows["patient_id"]).nunique() == 1).all()
    assert (two.groupby(rows["patient_id"]).nunique() == 1).all()
    shared = rows["patient_id"].isin(same.values())
    assert (one[shared] == "test").all()
    assert (one[first & ~shared] == two[first & ~shared]).all()


@pytest.mark.parametrize("name", ["institution_3", "institution_8"])
def test_an_institution_is_split_alike_alone_and_after_others(paper_rows: pd.DataFrame, name: str) -> None:
    rows = paper_rows
    own = rows["institution"] == name
    alone, after_others = split(rows, tuple(rows.loc[~own, "institution"].unique())), split(rows, ())
    assert (alone[own] == after_others[own]).all()


def test_ptbxl(shared: Path, tmp_path: Path) -> None:
    """PTB-XL's whole label table, through the command's own reader."""
    source = pd.read_csv(shared / "data/ptbxl_labels/ptbxl_database.csv")
    table = pd.DataFrame(
        {
            "path": source["filename_hr"],
            "patient_id": source["patient_id"].astype(int),
            "age": source["age"],
            "sex": source["sex"],
            "abnormal": [int("NORM" not in ast.literal_eval(codes)) for codes in source["scp_codes"]],
        }
    )
    table.to_csv(tmp_path / "ptbxl.csv", index=False)
    cohort = Cohort(labels=str(tmp_path / "ptbxl.csv"), output=str(tmp_path / "dataset"), label_column="abnormal")
    rows = read_table(cohort).rows
    assert len(rows) > 21_000
    assert_split_well(rows, split(rows, ()))

    described = split_table(replace(cohort, table_only=True))
    assert described.count() == len(rows)
    assert described.label_name == "abnormal"
    assert sum(sum(part.sex.values()) for part in described.characteristics) == len(rows)
    assert {word for part in described.characteristics for word in part.sex} == set(rows["sex"])


HOSPITAL = """path,patient_id,institution,lvef,age,sex
a,p,north,30,50,F
b,p,north,35,60,F
c,p,north,60,,M
d,q,east,55,70,
e,r,east,,80,weiblich
"""


def hospital(folder: Path, **settings: Any) -> Config:
    (folder / "table.csv").write_text(HOSPITAL)
    cohort = Cohort(labels=str(folder / "table.csv"), output=str(folder / "dataset"), table_only=True)
    return Config(cohort=replace(cohort, external_institutions=("east",), **settings))


def test_table_only_shows_the_split_without_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(hospital(tmp_path), []) == 0
    assert "east (external)" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["dataset", "table.csv"]
    assert sorted(os.listdir(tmp_path / "dataset")) == [
        *("cohort.html", "cohort.json", "rejected.csv", "table_problems.csv"),
    ]
    described = read_cohort(str(tmp_path / "dataset"))
    parts = {(part.institution, part.label): part for part in described.characteristics}
    assert set(parts) == {
        ("north", "positive"),
        ("north", "negative"),
        ("east", "negative"),
        ("east", "unlabelled"),
    }
    positive = parts["north", "positive"]
    assert (positive.recordings, positive.patients, dict(positive.sex)) == (2, 1, {"F": 2})
    assert (positive.age.known, positive.age.mean) == (2, 55.0)
    assert positive.age.deviation == pytest.approx(50**0.5)
    assert positive.lvef.mean == 32.5
    negative = parts["north", "negative"]
    assert (negative.age.known, negative.age.mean, negative.age.deviation) == (0, None, None)
    assert (negative.lvef.known, negative.lvef.mean, negative.lvef.deviation) == (1, 60.0, None)
    assert dict(parts["east", "negative"].sex) == {"": 1}
    assert dict(parts["east", "unlabelled"].sex) == {"weiblich": 1}


def test_cohort_json_says_of_which_table_and_settings(tmp_path: Path) -> None:
    main(hospital(tmp_path, split_seed=7), [])
    content = json.loads((tmp_path / "dataset/cohort.json").read_text())
    assert len(content["table_sha256"]) == 64
    assert content["settings"]["split_seed"] == 7
    assert content["external_institutions"] == ["east"]


def test_table_only_is_replaced_by_another_and_by_the_dataset(simulated: Manifest, tmp_path: Path) -> None:
    recordings = Path(simulated.folder).parent / "recordings"
    cohort = Cohort(
        recordings=str(recordings), labels=str(recordings / "labels.csv"), output=str(tmp_path / "dataset"), workers=1
    )
    first = split_table(replace(cohort, table_only=True, split_seed=1))
    second = split_table(replace(cohort, table_only=True))
    assert first != second
    manifest = prepare(cohort)
    # Every simulated recording is accepted.
    assert manifest.counts == second.counts
    assert manifest.characteristics == second.characteristics
    assert not (tmp_path / "dataset/cohort.json").exists()
    assert read_cohort(cohort.output).characteristics == second.characteristics


def test_table_only_leaves_a_folder_with_something_else_alone(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/thesis.tex").write_text("")
    with pytest.raises(DatasetError, match=r"Expected a new or an empty folder .* holds 'thesis\.tex'"):
        main(hospital(tmp_path), [])
    assert os.listdir(tmp_path / "dataset") == ["thesis.tex"]


def test_no_cohort(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing: Expected manifest.json or cohort.json"):
        read_cohort(str(tmp_path / "nothing"))
    (tmp_path / "cohort.json").write_text('{"format": 1}')
    with pytest.raises(DatasetError, match=r"Received 1: prepare it again"):
        read_cohort(str(tmp_path))
    (tmp_path / "cohort.json").write_text('{"format": 2}')
    with pytest.raises(DatasetError, match=r"cohort\.json: Expected"):
        read_cohort(str(tmp_path))
