"""Tables 1, 2 and 4 from a dataset's counts: their layout, and which dataset gets which number."""

import csv
import io
from dataclasses import replace

import pytest

from keras_ecg_mae.cohort.description import CohortDescription, Count
from keras_ecg_mae.reports.cohort_tables import cohort_tables, details_table, institutions_table
from keras_ecg_mae.reports.tables import Table

COUNTS = (
    Count("a", "train", 30, 10, 40, 0),
    Count("a", "validation", 8, 2, 10, 0),
    Count("a", "test", 9, 3, 9, 0),
    Count("b", "train", 20, 10, 30, 0),
    Count("b", "validation", 6, 1, 9, 0),
    Count("b", "test", 5, 3, 5, 0),
    Count("x", "test", 90, 13, 87, 0),
)
# Five train patients were seen at a and at b.
LARGE = CohortDescription("lvsd", ("x",), COUNTS, (), {"train": 45, "validation": 14, "test": 14})
SMALL = CohortDescription(
    "lvsd",
    ("b", "x"),
    (*COUNTS[:3], Count("b", "test", 31, 14, 44, 0), COUNTS[-1]),
    (),
    {"train": 30, "validation": 8, "test": 9},
)


def cells(table: Table) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.csv())))


def test_the_papers_layout_of_tables_1_and_2() -> None:
    assert cells(details_table(SMALL, "table_1", "", "1")) == [
        ["Split", "Case", "Control", "Unique patients", "Over all"],
        ["Train1: train1", "10 (20%)", "40 (80%)", "30", "50"],
        ["Train1: valid1", "2 (17%)", "10 (83%)", "8", "12"],
        ["Test1", "3 (25%)", "9 (75%)", "9", "12"],
        ["Over all", "15", "59", "47", "74"],
    ]


def test_a_patient_of_two_institutions_counts_once() -> None:
    patients = [row[3] for row in cells(details_table(LARGE, "table_2", ""))]
    assert patients == ["Unique patients", "45", "14", "14", "73"]


def test_patients_that_an_earlier_version_did_not_count_are_not_guessed() -> None:
    table = details_table(replace(LARGE, patients={}), "table_2", "")
    assert [row[3] for row in cells(table)[1:]] == ["-"] * 4
    assert any("prepare it again" in note for note in table.notes)


def test_ecgs_without_a_label_have_a_column_of_their_own() -> None:
    counts = (Count("a", "train", 3, 1, 3, 6),)
    table = details_table(CohortDescription("lvsd", (), counts, (), {"train": 3}), "table_1", "")
    assert cells(table)[:2] == [
        ["Split", "Case", "Control", "Unlabelled", "Unique patients", "Over all"],
        ["Train: train", "1 (25%)", "3 (75%)", "6", "3", "10"],
    ]


def test_a_dataset_without_labels_has_no_cases() -> None:
    content = CohortDescription("", (), (Count("a", "train", 3, 0, 0, 10),), (), {"train": 3})
    assert cells(details_table(content, "table_1", ""))[:2] == [
        ["Split", "Unique patients", "Over all"],
        ["Train: train", "3", "10"],
    ]
    assert cells(institutions_table(content, "table_4", ""))[:2] == [["Split", "a: ECGs"], ["Train", "10"]]


def test_the_papers_layout_of_table_4_with_the_columns_the_right_way_round() -> None:
    # The paper's heads would make 87% of the external ECGs cases.
    table = institutions_table(LARGE, "table_4", "")
    assert cells(table) == [
        ["Split", *(f"{name}: {label}" for name in "abx" for label in ("Case", "Control"))],
        ["Train", "10 (20%)", "40 (80%)", "10 (25%)", "30 (75%)", "-", "-"],
        ["Valid", "2 (17%)", "10 (83%)", "1 (10%)", "9 (90%)", "-", "-"],
        ["Test", "3 (25%)", "9 (75%)", "3 (38%)", "5 (62%)", "13 (13%)", "87 (87%)"],
    ]
    assert "External, tested on only: x." in table.notes


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_datasets_1_and_2_are_known_by_their_institutions(order: tuple[str, str]) -> None:
    cohorts = {"one": SMALL, "two": LARGE}
    tables = {table.name: table for table in cohort_tables({name: cohorts[name] for name in order})}
    assert list(tables) == ["table_1", "table_2", "table_4", "institutions_one"]
    assert tables["table_1"].caption == "Table 1. Details of one"
    assert tables["table_2"].caption == "Table 2. Details of two"
    assert tables["table_1"].rows[0].head == "Train1: train1"
    assert tables["table_2"].rows[2].head == "Test2"
    assert tables["table_4"].rows == institutions_table(LARGE, "", "").rows


@pytest.mark.parametrize(
    "other",
    [LARGE, replace(LARGE, label_name="female"), replace(LARGE, counts=COUNTS[:-1], external_institutions=())],
)
def test_other_datasets_have_no_numbers(other: CohortDescription) -> None:
    first = SMALL if other != LARGE else LARGE
    tables = cohort_tables({"a b": first, "a/b": other})
    assert [table.name for table in tables] == [
        "details_a_b_1",
        "institutions_a_b_1",
        "details_a_b_2",
        "institutions_a_b_2",
    ]
    assert not any(table.caption.startswith("Table") for table in tables)


def test_one_dataset_has_tables_1_and_4() -> None:
    assert [table.name for table in cohort_tables({"ds": LARGE})] == ["table_1", "table_4"]
