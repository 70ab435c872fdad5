"""Who is in datasets: tables 1, 2 and 4 of Sawano et al., and supplementary ones of age, sex and ejection fraction.

Tables 1 and 2 are about a dataset's own institutions, table 4 about each institution by itself. The paper heads the
columns of its external institutions the wrong way round in table 4, which would make 87% of the ECGs cases. Here a
column's head, its counts and its share come from the same entry of the manifest. The paper has no supplementary tables;
their captions follow the authors' study of 2024 (doi:10.1371/journal.pone.0307978).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from keras_ecg_mae.cohort.description import CohortDescription, Distribution, Summary
from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.pages.tables import NOTHING, Cell, Row, Table, percent

TRAIN, VALIDATION, TEST = SPLITS
LABELS: tuple[Literal["positive", "negative"], ...] = ("positive", "negative")
PER_ECG = "Age, sex and ejection fraction are counted per ECG, not per patient; SD is the sample standard deviation."


def cohort_tables(cohorts: Mapping[str, CohortDescription]) -> tuple[Table, ...]:
    """The paper's tables of all datasets of a report, by the datasets' names.

    A single dataset has tables 1 and 4. Of two that are split as the paper's, dataset 1 has table 1 and dataset 2 has
    tables 2 and 4, whatever their order. Any others have tables without a number, called after the dataset.
    """
    by_institution = "Data splits used for each institution"
    if len(cohorts) == 1:
        ((name, cohort),) = cohorts.items()
        return (
            details_table(cohort, "table_1", f"Table 1. Details of {name}"),
            institutions_table(cohort, "table_4", f"Table 4. {by_institution}"),
        )
    files = _file_names(cohorts)
    if pair := _datasets_1_and_2(cohorts):
        first, second = pair
        return (
            details_table(cohorts[first], "table_1", f"Table 1. Details of {first}", "1"),
            details_table(cohorts[second], "table_2", f"Table 2. Details of {second}", "2"),
            institutions_table(cohorts[second], "table_4", f"Table 4. {by_institution}, by {second}"),
            institutions_table(cohorts[first], f"institutions_{files[first]}", f"{by_institution}, by {first}"),
        )
    return tuple(
        table
        for name, cohort in cohorts.items()
        for table in (
            details_table(cohort, f"details_{files[name]}", f"Details of {name}"),
            institutions_table(cohort, f"institutions_{files[name]}", f"{by_institution}, by {name}"),
        )
    )


def supplementary_tables(cohorts: Mapping[str, CohortDescription]) -> tuple[Table, ...]:
    """Of each dataset: demographics; by split where there are labels, and by external institution where some are."""
    several, files = len(cohorts) > 1, _file_names(cohorts)
    tables = []
    for dataset, cohort in cohorts.items():
        file, caption = (f"_{files[dataset]}", f", {dataset}") if several else ("", "")
        tables.append(demographics_table(cohort, f"demographics{file}", caption))
        if cohort.label_name:
            tables.append(internal_table(cohort, f"internal_characteristics{file}", caption))
            if cohort.external_institutions:
                tables.append(external_table(cohort, f"external_characteristics{file}", caption))
    return tuple(tables)


def _file_names(names: Iterable[str]) -> dict[str, str]:
    """What tells the files of one dataset from those of another, by the datasets' names."""
    plain = {name: re.sub(r"[^\w.-]+", "_", name) for name in names}
    return {
        name: f"{file}_{place}" if list(plain.values()).count(file) > 1 else file
        for place, (name, file) in enumerate(plain.items(), start=1)
    }


def _datasets_1_and_2(cohorts: Mapping[str, CohortDescription]) -> tuple[str, str] | None:
    """The names of two datasets of one label and the same institutions, of which the second trains on more of them."""
    if len(cohorts) != 2:
        return None
    first, second = sorted(cohorts, key=lambda name: len(cohorts[name].internal_institutions))
    one, two = cohorts[first], cohorts[second]
    same_label = (one.label_name, one.lvef_threshold) == (two.label_name, two.lvef_threshold)
    alike = same_label and set(one.institutions) == set(two.institutions)
    more = set(one.internal_institutions) < set(two.internal_institutions)
    return (first, second) if alike and more else None


def details_table(cohort: CohortDescription, name: str, caption: str, number: str = "") -> Table:
    """ECGs by label and patients of a dataset's own institutions, by split: the paper's tables 1 and 2.

    Args:
        cohort: of the dataset.
        name: of the table's file.
        caption: of the table.
        number: the dataset's, behind the names of its splits: Train1 is train1 and valid1.
    """
    own = cohort.internal_institutions
    has_unlabelled = bool(cohort.label_name) and cohort.summary(own).unlabelled > 0
    columns = ["Case", "Control"] if cohort.label_name else []
    columns += [*(["Unlabelled"] if has_unlabelled else []), "Unique patients", "Over all"]
    rows = []
    for head, splits in {
        f"Train{number}: train{number}": (TRAIN,),
        f"Train{number}: valid{number}": (VALIDATION,),
        f"Test{number}": (TEST,),
        "Over all": SPLITS,
    }.items():
        group = cohort.summary(own, splits)
        # As in the paper, the last row has no shares.
        texts = _cases_and_controls(group, shares=splits != SPLITS) if cohort.label_name else []
        texts += [f"{group.unlabelled:,}"] if has_unlabelled else []
        texts += [f"{sum(cohort.patients.get(split, 0) for split in splits):,}", f"{group.recordings:,}"]
        rows.append(Row.of(head, texts))
    notes = ["A patient is in one split. One who was seen at two institutions counts once."]
    if cohort.label_name:
        notes.insert(0, f"ECGs. Case: {cohort.label_name}. In brackets the share of the split's labelled ECGs.")
    if cohort.external_institutions:
        notes.append("Without the external institutions.")
    return Table(name, caption, tuple(columns), tuple(rows), tuple(notes), head="Split")


def institutions_table(cohort: CohortDescription, name: str, caption: str) -> Table:
    """ECGs by label of each institution, by split: the paper's table 4; all ECGs where there are no labels."""
    columns = ("Case", "Control") if cohort.label_name else ("ECGs",)
    rows = []
    for head, split in (("Train", TRAIN), ("Valid", VALIDATION), ("Test", TEST)):
        texts: list[str] = []
        for institution in cohort.institutions:
            group = cohort.summary([institution], [split])
            if not group.recordings:
                texts += [NOTHING] * len(columns)
            else:
                texts += _cases_and_controls(group) if cohort.label_name else [f"{group.recordings:,}"]
        rows.append(Row.of(head, texts))
    notes = []
    if cohort.label_name:
        notes.append(f"ECGs. Case: {cohort.label_name}. In brackets the share of the labelled ECGs: the prevalence.")
        notes += _not_shown(cohort.summary().unlabelled)
    if cohort.external_institutions:
        notes.append(f"External, tested on only: {', '.join(sorted(cohort.external_institutions))}.")
    groups = tuple(institution for institution in cohort.institutions for _ in columns)
    return Table(name, caption, columns * len(cohort.institutions), tuple(rows), tuple(notes), groups, head="Split")


def _cases_and_controls(group: Summary, *, shares: bool = True) -> list[str]:
    return [
        f"{count:,} ({count / group.labelled:.0%})" if shares and group.labelled else f"{count:,}"
        for count in (group.positive, group.negative)
    ]


def _not_shown(unlabelled: int) -> list[str]:
    return [f"{unlabelled:,} ECGs without a label are not shown."] if unlabelled else []


def demographics_table(cohort: CohortDescription, name: str, of: str = "") -> Table:
    """Demographic information, a column an institution, all its ECGs; `of` ends the caption."""
    groups = [cohort.summary([institution]) for institution in cohort.institutions]
    rows = [Row.of("ECGs", (f"{group.recordings:,}" for group in groups)), *_rows(groups)]
    notes = [PER_ECG, "A patient of two institutions counts at each."]
    if cohort.label_name:
        if any(group.unlabelled for group in groups):
            labelled = (_count(group.labelled, group.recordings) for group in groups)
            rows.append(Row.of("Labelled ECGs, n (%)", labelled))
        positive = (_count(group.positive, group.labelled) for group in groups)
        rows.append(Row.of(f"Positive ({cohort.label_name}), n (%)", positive))
        notes.append("Positive: as a share of the labelled ECGs.")
    roles = ("External" if at in cohort.external_institutions else "Internal" for at in cohort.institutions)
    caption = f"Study-level demographic information{of}"
    return Table(name, caption, cohort.institutions, tuple(rows), tuple(notes), tuple(roles))


def internal_table(cohort: CohortDescription, name: str, of: str = "") -> Table:
    """Characteristics in the internal cohort: each split, by label; `of` ends the caption."""
    own = cohort.internal_institutions
    caption = f"Characteristics in the internal cohort{of}"
    return _by_label(cohort, name, caption, "split", {split: (own, [split]) for split in SPLITS})


def external_table(cohort: CohortDescription, name: str, of: str = "") -> Table:
    """Characteristics in the external institutions: each of them, by label; `of` ends the caption."""
    groups = {at: ([at], SPLITS) for at in sorted(cohort.external_institutions)}
    return _by_label(cohort, name, f"Characteristics in the external institutions{of}", "institution", groups)


def _by_label(
    cohort: CohortDescription,
    name: str,
    caption: str,
    word: str,
    groups: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> Table:
    """A column a group and label; `groups` are institutions and splits by their heads, `word` is what one is called."""
    summaries = [cohort.summary(*chosen, label) for chosen in groups.values() for label in LABELS]
    notes = (
        f"Positive: {cohort.label_name}. ECGs: as a share of the {word}'s labelled ones.",
        PER_ECG,
        "A patient with ECGs of both labels counts in both columns, and one of two institutions at each.",
        *_not_shown(sum(cohort.summary(*chosen).unlabelled for chosen in groups.values())),
    )
    return Table(
        name,
        caption,
        columns=LABELS * len(groups),
        rows=(Row.of("ECGs, n (%)", (_count(s.recordings, s.labelled) for s in summaries)), *_rows(summaries)),
        notes=notes,
        groups=tuple(group for group in groups for _ in LABELS),
    )


def _rows(groups: Sequence[Summary]) -> list[Row]:
    """What all three supplementary tables tell of a column."""
    # Unknown, the empty word, comes last.
    words = sorted({word for group in groups for word in group.sex}, key=lambda word: (word == "", word))
    return [
        Row.of("Patients", (f"{group.patients:,}" for group in groups)),
        Row("Age in years, mean (SD)", tuple(_mean(group.age, group) for group in groups)),
        *(
            Row.of(f"Sex {word or 'unknown'}, n (%)", (_count(group.sex[word], group.recordings) for group in groups))
            for word in words
        ),
        Row("LVEF in %, mean (SD)", tuple(_mean(group.lvef, group) for group in groups)),
    ]


def _mean(values: Distribution, group: Summary) -> Cell:
    return Cell(str(values), f"of {values.known:,} known" if 0 < values.known < group.recordings else "")


def _count(count: int, total: int) -> str:
    return f"{count:,} ({percent(count, total)})" if total else NOTHING
