"""Splits that somebody has published: taken from the table, or refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from keras_ecg_mae.cohort.read import Table, read_table
from keras_ecg_mae.config import SPLITS, Cohort, Config
from keras_ecg_mae.dataset import split_table
from keras_ecg_mae.errors import ConfigError, DatasetError
from keras_ecg_mae.prepare import main

if TYPE_CHECKING:
    from tests.conftest import Rows


def read(labels: Path, **settings: Any) -> Table:
    return read_table(Cohort(labels=str(labels), split_column="part", **settings))


def rows_of(*splits: str, patients: str = "") -> list[dict[str, object]]:
    """A recording a split, each of another patient unless a letter a recording says whose it is."""
    return [
        {"path": str(place), "patient_id": patients[place] if patients else f"p{place}", "part": split}
        for place, split in enumerate(splits)
    ]


def test_usual_spellings_in_any_case(write_table: Callable[[Rows], Path]) -> None:
    words = ("train", "TRAINING", "Validation", "valid", "VAL", "dev", "Test", " testing ")
    table = read(write_table(rows_of(*words)))
    assert list(table.rows["split"]) == ["train"] * 2 + ["validation"] * 4 + ["test"] * 2


@pytest.mark.parametrize("written", ["{}", "{}.0"])
def test_numbers_by_a_mapping(write_table: Callable[[Rows], Path], written: str) -> None:
    labels = write_table(rows_of(*(written.format(fold) for fold in (1, 8, 9, 10))))
    values = ("1:train", "8:train", "9:validation", "10:test")
    assert list(read(labels, split_values=values).rows["split"]) == ["train", "train", "validation", "test"]


def test_a_mapping_is_believed_over_the_word(write_table: Callable[[Rows], Path]) -> None:
    labels = write_table(rows_of("train", "Held-out", "dev", "test"))
    values = ("held-out:test", "test:validation")
    assert list(read(labels, split_values=values).rows["split"]) == ["train", "test", "validation", "validation"]


@pytest.mark.parametrize("value", ["3", "holdout", ""])
def test_an_unknown_value_is_named_with_its_row_and_the_flag(write_table: Callable[[Rows], Path], value: str) -> None:
    with pytest.raises(DatasetError) as raised:
        read(write_table(rows_of("train", value, value)), split_values=("1:train",))
    assert 'row 3, column "part"' in str(raised.value)
    assert f"Received {value!r}" in str(raised.value)
    assert f"--split_values={value}:train" in str(raised.value)


def test_recordings_that_the_mapping_leaves_out_are_listed(write_table: Callable[[Rows], Path]) -> None:
    table = read(write_table(rows_of("train", "no_split", "test")), split_values=("no_split:none",))
    assert list(table.rows["path"]) == ["0", "2"]
    assert list(table.rejected[["path", "reason"]].itertuples(index=False, name=None)) == [("1", "split")]


def test_a_patient_in_two_splits_is_refused(write_table: Callable[[Rows], Path]) -> None:
    with pytest.raises(DatasetError, match=r"row 3, .*Received 2 in several.*--split_patients=reject"):
        read(write_table(rows_of("test", "train", "train", "val", "train", patients="aabba")))


def test_or_the_earlier_split_loses_them(write_table: Callable[[Rows], Path]) -> None:
    rows = rows_of("test", "train", "train", "val", "train", patients="aabbc")
    table = read(write_table(rows), split_patients="reject")
    assert list(table.rows["path"]) == ["0", "3", "4"]
    assert list(table.rejected["reason"]) == ["split", "split"]
    assert list(table.rejected["path"]) == ["1", "2"]
    assert table.problems.tally()["split"] == 2
    assert table.summary["not_chosen"] == 0


def test_recordings_without_a_patient_are_in_nobodys_way(write_table: Callable[[Rows], Path]) -> None:
    rows = [{"path": "a", "patient_id": "", "part": "train"}, {"path": "b", "patient_id": "", "part": "test"}]
    assert list(read(write_table(rows)).rows["split"]) == ["train", "test"]


def test_external_institutions_are_tested_on(write_table: Callable[[Rows], Path]) -> None:
    rows = [
        {"path": split + name, "patient_id": split + name, "institution": name, "part": split}
        for split in SPLITS
        for name in ("home", "away")
    ]
    table = read(write_table(rows), external_institutions=("away",))
    assert set(table.rows.loc[table.rows["institution"] == "away", "split"]) == {"test"}
    assert list(table.rows.loc[table.rows["institution"] == "home", "split"]) == list(SPLITS)
    (found,) = table.problems.counts()
    assert (found.column, found.rows, found.consequence) == ("part", 2, "tested on")


def test_nor_is_a_patient_trained_on_whom_an_external_institution_has_seen(
    write_table: Callable[[Rows], Path],
) -> None:
    rows = [
        {"path": "a", "patient_id": "p", "institution": "home", "part": "train"},
        {"path": "b", "patient_id": "p", "institution": "away", "part": "train"},
        {"path": "c", "patient_id": "q", "institution": "home", "part": "train"},
    ]
    with pytest.raises(DatasetError, match="Expected each patient in one split"):
        read(write_table(rows), external_institutions=("away",))
    table = read(write_table(rows), external_institutions=("away",), split_patients="reject")
    assert list(table.rows["path"]) == ["b", "c"]


def test_one_path_in_two_splits_is_a_contradiction(write_table: Callable[[Rows], Path]) -> None:
    rows = [{"path": "a", "patient_id": "p", "part": split} for split in ("train", "test")]
    table = read(write_table([*rows, {"path": "b", "patient_id": "q", "part": "train"}]))
    assert list(table.rejected["reason"]) == ["contradiction"] * 2


@pytest.mark.parametrize(
    "settings",
    [
        {"split_values": ("1:train",)},
        {"split_patients": "reject"},
        {"split_column": "part", "split_values": ("1:training",)},
        {"split_column": "part", "split_values": ("train",)},
        {"split_column": "part", "split_values": ("1:train", "1:test")},
        {"split_column": "part", "train_fraction": 0.8},
        {"split_column": "part", "validation_fraction": 0.1},
    ],
)
def test_settings_that_contradict_one_another(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Cohort(**settings)


def test_a_column_that_is_not_there(write_table: Callable[[Rows], Path]) -> None:
    with pytest.raises(DatasetError, match=r'Expected a column "part" \(--split_column\)'):
        read(write_table([{"path": "a"}]))


def test_what_is_left_out_is_in_the_summary(
    write_table: Callable[[Rows], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = write_table(rows_of("train", "test", "train", patients="aab"))
    cohort = Cohort(
        labels=str(labels),
        output=str(tmp_path / "dataset"),
        table_only=True,
        split_column="part",
        split_patients="reject",
    )
    assert main(Config(cohort=cohort), []) == 0
    assert "Left out 1:" in capsys.readouterr().out
    assert ",split," in (tmp_path / "dataset/rejected.csv").read_text()


def test_ptbxl_by_its_ten_folds(shared: Path, tmp_path: Path) -> None:
    source = pd.read_csv(shared / "data/ptbxl_labels/ptbxl_database.csv")
    table = pd.DataFrame(
        {
            "path": source["filename_hr"],
            "patient_id": source["patient_id"],
            "strat_fold": source["strat_fold"],
            "abnormal": [int("NORM" not in ast.literal_eval(codes)) for codes in source["scp_codes"]],
        }
    )
    table.to_csv(tmp_path / "ptbxl.csv", index=False)
    described = split_table(
        Cohort(
            labels=str(tmp_path / "ptbxl.csv"),
            output=str(tmp_path / "dataset"),
            label_column="abnormal",
            split_column="strat_fold",
            split_values=(*(f"{fold}:train" for fold in range(1, 9)), "9:validation", "10:test"),
            table_only=True,
        )
    )
    folds = source["strat_fold"].value_counts()
    assert described.count("validation") == folds[9]
    assert described.count("test") == folds[10]
    assert described.count("train") == folds.loc[range(1, 9)].sum()
    assert not described.rejected
