"""Tables 1, 2 and 4 of Sawano et al.: ECGs and patients of datasets, by split and by institution.

Tables 1 and 2 are about a dataset's own institutions, table 4 about each institution by itself. The paper heads the
columns of its external institutions the wrong way round in table 4, which would make 87% of the ECGs cases. Here a
column's head, its counts and its share come from the same entry of the manifest.
"""

import re
from collections.abc import Mapping, Sequence

from keras_ecg_mae.cohort.description import CohortDescription, Count
from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.reports.tables import NOTHING, Cell, Row, Table

TRAIN, VALIDATION, TEST = SPLITS


def cohort_tables(cohorts: Mapping[str, CohortDescription]) -> list[Table]:
    """The tables of all datasets of a report, by the datasets' names.

    A single dataset has tables 1 and 4. Of two that are split as the paper's, dataset 1 has table 1 and dataset 2 has
    tables 2 and 4, whatever their order. Any others have tables without a number, called after the dataset.
    """
    suffixes = file_suffixes(list(cohorts))
    if len(cohorts) == 1:
        ((name, cohort),) = cohorts.items()
        return [
            details_table(cohort, "table_1", f"Table 1. Details of {name}"),
            institutions_table(cohort, "table_4", "Table 4. Data splits used for each institution"),
        ]
    if pair := _datasets_1_and_2(cohorts):
        first, second = pair
        return [
            details_table(cohorts[first], "table_1", f"Table 1. Details of {first}", "1"),
            details_table(cohorts[second], "table_2", f"Table 2. Details of {second}", "2"),
            institutions_table(
                cohorts[second], "table_4", f"Table 4. Data splits used for each institution, by {second}"
            ),
            institutions_table(
                cohorts[first],
                f"institutions_{suffixes[first]}",
                f"Data splits used for each institution, by {first}",
            ),
        ]
    return [
        table
        for name, cohort in cohorts.items()
        for table in (
            details_table(cohort, f"details_{suffixes[name]}", f"Details of {name}"),
            institutions_table(
                cohort, f"institutions_{suffixes[name]}", f"Data splits used for each institution, by {name}"
            ),
        )
    ]


def file_suffixes(names: Sequence[str]) -> dict[str, str]:
    """What tells the files of one dataset from those of another, by the datasets' names."""
    plain = [re.sub(r"[^\w.-]+", "_", name) for name in names]
    return {
        name: f"{suffix}_{place}" if plain.count(suffix) > 1 else suffix
        for place, (name, suffix) in enumerate(zip(names, plain, strict=True), start=1)
    }


def _datasets_1_and_2(cohorts: Mapping[str, CohortDescription]) -> tuple[str, str] | None:
    """The names of two datasets of one label and the same institutions, of which the second trains on more of them."""
    if len(cohorts) != 2:
        return None
    first, second = sorted(cohorts, key=lambda name: len(_own(cohorts[name])))
    one, two = cohorts[first], cohorts[second]
    alike = one.label_name == two.label_name and set(one.institutions) == set(two.institutions)
    return (first, second) if alike and set(_own(one)) < set(_own(two)) else None


def _own(cohort: CohortDescription) -> list[str]:
    return [name for name in cohort.institutions if name not in cohort.external_institutions]


def details_table(cohort: CohortDescription, name: str, caption: str, number: str = "") -> Table:
    """ECGs by label and patients of a dataset's own institutions, by split: the paper's tables 1 and 2.

    Args:
        cohort: what `dataset.manifest.read_cohort` or `read_manifest` gives.
        name: of the table's file.
        caption: of the table.
        number: the dataset's, behind the names of its splits: Train1 is train1 and valid1.
    """
    heads = {
        f"Train{number}: train{number}": (TRAIN,),
        f"Train{number}: valid{number}": (VALIDATION,),
        f"Test{number}": (TEST,),
        "Over all": SPLITS,
    }
    own = [count for count in cohort.counts if count.institution not in cohort.external_institutions]
    has_unlabelled = bool(cohort.label_name) and any(count.unlabelled for count in own)
    columns = ["Unique patients", "Over all"]
    if cohort.label_name:
        columns = ["Case", "Control", *(["Unlabelled"] if has_unlabelled else []), *columns]
    rows = []
    for head, splits in heads.items():
        counts = [count for count in own if count.split in splits]
        ecgs = sum(count.positive + count.negative + count.unlabelled for count in counts)
        cells = []
        if cohort.label_name:
            # As in the paper, the last row has no shares.
            cells += _cases_and_controls(counts, shares=splits != SPLITS)
        if has_unlabelled:
            cells.append(Cell(f"{sum(count.unlabelled for count in counts):,}"))
        patients = sum(cohort.patients.get(split, 0) for split in splits)
        cells += [Cell(f"{patients:,}" if cohort.patients else NOTHING), Cell(f"{ecgs:,}")]
        rows.append(Row(head, tuple(cells)))
    notes = []
    if cohort.label_name:
        notes.append(f"ECGs. Case: {cohort.label_name}. In brackets the share of the split's labelled ECGs.")
    notes.append("A patient is in one split. One who was seen at two institutions counts once.")
    if cohort.external_institutions:
        notes.append("Without the external institutions.")
    if not cohort.patients:
        notes.append("Prepared by a version that did not count patients over institutions: prepare it again.")
    return Table(name, caption, ("",) * len(columns), tuple(columns), tuple(rows), tuple(notes), head="Split")


def institutions_table(cohort: CohortDescription, name: str, caption: str) -> Table:
    """ECGs by label of each institution, by split: the paper's table 4; all ECGs where there are no labels."""
    columns = ("Case", "Control") if cohort.label_name else ("ECGs",)
    rows = []
    for head, split in (("Train", TRAIN), ("Valid", VALIDATION), ("Test", TEST)):
        cells: list[Cell] = []
        for institution in cohort.institutions:
            counts = [count for count in cohort.counts if (count.institution, count.split) == (institution, split)]
            if not counts:
                cells += [Cell(NOTHING)] * len(columns)
            elif cohort.label_name:
                cells += _cases_and_controls(counts)
            else:
                cells.append(Cell(f"{sum(count.unlabelled for count in counts):,}"))
        rows.append(Row(head, tuple(cells)))
    notes = []
    if cohort.label_name:
        notes.append(f"ECGs. Case: {cohort.label_name}. In brackets the share of the labelled ECGs: the prevalence.")
        if unlabelled := sum(count.unlabelled for count in cohort.counts):
            notes.append(f"{unlabelled:,} ECGs without a label are not shown.")
    if cohort.external_institutions:
        notes.append(f"External, tested on only: {', '.join(sorted(cohort.external_institutions))}.")
    groups = tuple(institution for institution in cohort.institutions for _ in columns)
    heads = columns * len(cohort.institutions)
    return Table(name, caption, groups, heads, tuple(rows), tuple(notes), head="Split")


def _cases_and_controls(counts: Sequence[Count], *, shares: bool = True) -> list[Cell]:
    numbers = sum(count.positive for count in counts), sum(count.negative for count in counts)
    labelled = sum(numbers)
    return [
        Cell(f"{number:,} ({number / labelled:.0%})" if shares and labelled else f"{number:,}") for number in numbers
    ]
