"""A dataset's tables from its counts: their layout, and which dataset gets which number."""

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keras_ecg_mae.cohort.description import Characteristics, CohortDescription, Count, Distribution
from keras_ecg_mae.pages.tables import Table
from keras_ecg_mae.reports.cohort_tables import (
    cohort_tables,
    demographics_table,
    details_table,
    external_table,
    institutions_table,
    internal_table,
    supplementary_tables,
)

LABELS = ("positive", "negative", "unlabelled")

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
SETTINGS = {"lvef_threshold": 40.0}
LARGE = CohortDescription("lvsd", ("x",), COUNTS, (), {"train": 45, "validation": 14, "test": 14}, settings=SETTINGS)
SMALL = CohortDescription(
    "lvsd",
    ("b", "x"),
    (*COUNTS[:3], Count("b", "test", 31, 14, 44, 0), COUNTS[-1]),
    (),
    {"train": 30, "validation": 8, "test": 9},
    settings=SETTINGS,
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
    [
        LARGE,
        replace(LARGE, label_name="female"),
        replace(LARGE, settings={"lvef_threshold": 50.0}),
        replace(LARGE, counts=COUNTS[:-1], external_institutions=()),
    ],
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


NOTHING_KNOWN = Distribution(0, None, None)


def part(institution: str, split: str, label: str, recordings: int, **known: Any) -> Characteristics:
    return Characteristics(
        institution,
        split,
        label,  # type: ignore[arg-type]  # one of the three words
        recordings,
        known.get("patients", recordings),
        known.get("age", NOTHING_KNOWN),
        known.get("lvef", NOTHING_KNOWN),
        known.get("sex", {}),
    )


def cohort(
    *parts: Characteristics, external: tuple[str, ...] = ("x", "y"), label_name: str = "lvsd"
) -> CohortDescription:
    """A cohort of these parts, each of them other patients."""
    counts = [
        Count(p.institution, p.split, p.patients, *(p.recordings * (p.label == word) for word in LABELS)) for p in parts
    ]
    return CohortDescription(label_name, external, tuple(counts), parts)


def column(table: Table, *head: str) -> dict[str, str]:
    """The cells below a head, by row."""
    heads = list(zip(table.groups, table.columns, strict=True))
    place = heads.index(head)  # type: ignore[arg-type]  # two words
    return {row.head: " ".join(filter(None, (row.cells[place].text, row.cells[place].detail))) for row in table.rows}


def test_externals_columns_are_headed_the_right_way_round() -> None:
    table = external_table(
        cohort(
            part("x", "test", "positive", 13, lvef=Distribution(13, 30.0, 5.0), patients=11),
            part("x", "test", "negative", 87, lvef=Distribution(87, 62.0, 7.0)),
            part("y", "test", "negative", 10),
            part("a", "test", "positive", 5),
        ),
        "",
    )
    assert table.groups == ("x", "x", "y", "y")
    positive, negative = column(table, "x", "positive"), column(table, "x", "negative")
    assert (positive["ECGs, n (%)"], negative["ECGs, n (%)"]) == ("13 (13.0%)", "87 (87.0%)")
    assert (positive["LVEF in %, mean (SD)"], negative["LVEF in %, mean (SD)"]) == ("30.0 (5.0)", "62.0 (7.0)")
    assert positive["Patients"] == "11"
    assert column(table, "y", "positive")["ECGs, n (%)"] == "0 (0.0%)"
    assert any(note.startswith("Positive: lvsd.") for note in table.notes)


def test_the_internal_cohort_is_split_by_label_and_holds_no_external_ecg() -> None:
    table = internal_table(
        cohort(
            part("a", "train", "positive", 20, sex={"M": 15, "F": 4, "": 1}, age=Distribution(20, 60.0, 10.0)),
            part("b", "train", "positive", 10, sex={"M": 5, "F": 5}, age=Distribution(5, 66.0, 4.0)),
            part("a", "train", "negative", 70),
            part("a", "validation", "negative", 3),
            part("a", "test", "unlabelled", 1234),
            part("x", "test", "positive", 999),
        ),
        "",
    )
    assert table.groups == ("train", "train", "validation", "validation", "test", "test")
    assert table.columns == ("positive", "negative") * 3
    positive = column(table, "train", "positive")
    assert positive["ECGs, n (%)"] == "30 (30.0%)"
    assert (positive["Sex M, n (%)"], positive["Sex F, n (%)"]) == ("20 (66.7%)", "9 (30.0%)")
    assert positive["Sex unknown, n (%)"] == "1 (3.3%)"
    assert list(positive)[-2:] == ["Sex unknown, n (%)", "LVEF in %, mean (SD)"]
    squares = 19 * 10**2 + 4 * 4**2 + 6**2 * 20 * 5 / 25
    assert positive["Age in years, mean (SD)"] == f"61.2 ({np.sqrt(squares / 24):.1f}) of 25 known"
    assert column(table, "test", "positive")["ECGs, n (%)"] == "-"
    assert "1,234 ECGs without a label are not shown." in table.notes
    assert "999" not in table.markdown()
    assert any("per ECG" in note for note in table.notes)


def test_institutions_beside_one_another_the_internal_ones_first() -> None:
    table = demographics_table(
        cohort(
            part("x", "test", "positive", 4, patients=3),
            part("x", "test", "negative", 12, patients=10),
            part("z", "train", "positive", 1000),
            part("z", "test", "unlabelled", 3000),
        ),
        "",
    )
    assert (table.groups, table.columns) == (("Internal", "External"), ("z", "x"))
    external, internal = column(table, "External", "x"), column(table, "Internal", "z")
    assert (external["ECGs"], external["Patients"], external["Positive (lvsd), n (%)"]) == ("16", "13", "4 (25.0%)")
    assert (internal["ECGs"], internal["Labelled ECGs, n (%)"]) == ("4,000", "1,000 (25.0%)")
    assert internal["Positive (lvsd), n (%)"] == "1,000 (100.0%)"
    assert internal["Age in years, mean (SD)"] == "-"


def test_patients_of_an_institution_are_those_counted_once() -> None:
    both = cohort(part("a", "test", "positive", 2, patients=1), part("a", "test", "negative", 3, patients=1))
    # One patient with ECGs of both labels.
    counted = replace(both, counts=(Count("a", "test", 1, 2, 3, 0),))
    assert column(demographics_table(counted, ""), "Internal", "a")["Patients"] == "1"


def test_which_supplementary_tables_a_dataset_has() -> None:
    labelled, unlabelled = part("a", "train", "positive", 4), part("a", "train", "unlabelled", 4)

    def names(**cohorts: CohortDescription) -> list[str]:
        return [table.name for table in supplementary_tables(cohorts)]

    assert names(d=cohort(labelled)) == ["demographics", "internal_characteristics", "external_characteristics"]
    assert names(d=cohort(labelled, external=())) == ["demographics", "internal_characteristics"]
    assert names(d=cohort(unlabelled, label_name="")) == ["demographics"]
    assert names(d=cohort(labelled, external=()), e=cohort(unlabelled, label_name="")) == [
        *("demographics_d", "internal_characteristics_d", "demographics_e"),
    ]
    (table,) = supplementary_tables({"d": cohort(unlabelled, label_name="")})
    assert not any("Positive" in row.head or "Labelled" in row.head for row in table.rows)


def test_captions_name_the_dataset_where_there_are_several() -> None:
    content = cohort(part("a", "train", "positive", 4))
    captions = [table.caption for table in supplementary_tables({"ds1": content, "ds2": content})]
    assert [caption[-5:] for caption in captions] == [", ds1"] * 3 + [", ds2"] * 3
    assert supplementary_tables({"ds1": content})[0].caption == "Study-level demographic information"
