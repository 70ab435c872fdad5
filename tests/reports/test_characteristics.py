"""Supplementary tables from a dataset's counts."""

from dataclasses import replace
from typing import Any

import numpy as np

from keras_ecg_mae.cohort.description import Characteristics, CohortDescription, Count, Distribution
from keras_ecg_mae.reports.characteristics import (
    demographics_table,
    external_table,
    internal_table,
    supplementary_tables,
)
from keras_ecg_mae.reports.tables import Table

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


LABELS = ("positive", "negative", "unlabelled")


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
        )
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
        )
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
        )
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
    assert column(demographics_table(counted), "Internal", "a")["Patients"] == "1"


def test_which_tables_a_dataset_has() -> None:
    labelled = part("a", "train", "positive", 4)

    def names(content: CohortDescription) -> list[str]:
        return [table.name for table in supplementary_tables(content)]

    assert names(cohort(labelled)) == ["demographics", "internal_characteristics", "external_characteristics"]
    assert names(cohort(labelled, external=())) == ["demographics", "internal_characteristics"]
    assert names(cohort(part("a", "train", "unlabelled", 4), label_name="")) == ["demographics"]
    (table,) = supplementary_tables(cohort(part("a", "train", "unlabelled", 4), label_name=""))
    assert not any("Positive" in row.head or "Labelled" in row.head for row in table.rows)


def test_captions_name_the_dataset_where_there_are_several() -> None:
    content = cohort(part("a", "train", "positive", 4))
    assert all(table.caption.endswith(", ds1") for table in supplementary_tables(content, "ds1"))
    assert demographics_table(content).caption == "Study-level demographic information"
