"""Supplementary tables: who the patients are whose ECGs a dataset holds, by age, sex and ejection fraction.

Sawano et al. have no such tables; the captions follow the authors' study of 2024 (doi:10.1371/journal.pone.0307978).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from keras_ecg_mae.cohort.description import Characteristics, CohortDescription, Distribution, pooled
from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.reports.tables import NOTHING, Cell, Row, Table

LABELS = ("positive", "negative")
PER_ECG = "Age, sex and ejection fraction are counted per ECG, not per patient; SD is the sample standard deviation."
BOTH_LABELS = "A patient with ECGs of both labels counts in both columns, and one of two institutions at each."


@dataclass(frozen=True)
class _Summary:
    """A column: some of a dataset's characteristics, taken together."""

    parts: tuple[Characteristics, ...]
    patients: int
    # What its ECGs are a share of: the labelled ones of the same split or institution.
    labelled: int

    @property
    def ecgs(self) -> int:
        return sum(part.recordings for part in self.parts)

    @property
    def positive(self) -> int:
        return sum(part.recordings for part in self.parts if part.label == "positive")


def demographics_table(cohort: CohortDescription, dataset: str = "") -> Table:
    """Demographic information, a column an institution, all its ECGs."""
    summaries = []
    for name in cohort.institutions:
        parts = tuple(part for part in cohort.characteristics if part.institution == name)
        # A patient is in one split, but may have ECGs of both labels.
        patients = sum(count.patients for count in cohort.counts if count.institution == name)
        summaries.append(_Summary(parts, patients, sum(part.recordings for part in parts if part.label in LABELS)))
    rows = [
        Row("ECGs", tuple(Cell(f"{s.ecgs:,}") for s in summaries)),
        *_rows(summaries),
    ]
    if cohort.label_name:
        if any(s.labelled < s.ecgs for s in summaries):
            rows.append(Row("Labelled ECGs, n (%)", tuple(_share(s.labelled, s.ecgs) for s in summaries)))
        rows.append(
            Row(f"Positive ({cohort.label_name}), n (%)", tuple(_share(s.positive, s.labelled) for s in summaries))
        )
    return Table(
        name="demographics",
        caption=f"Study-level demographic information{_of(dataset)}",
        groups=tuple(
            "External" if name in cohort.external_institutions else "Internal" for name in cohort.institutions
        ),
        columns=cohort.institutions,
        rows=tuple(rows),
        notes=(
            PER_ECG,
            "A patient of two institutions counts at each.",
            *(["Positive: as a share of the labelled ECGs."] if cohort.label_name else []),
        ),
    )


def internal_table(cohort: CohortDescription, dataset: str = "") -> Table:
    """Characteristics in the internal cohort: each split, by label."""
    internal = [part for part in cohort.characteristics if part.institution not in cohort.external_institutions]
    return _by_label(
        cohort,
        name="internal_characteristics",
        caption=f"Characteristics in the internal cohort{_of(dataset)}",
        parts=internal,
        groups=SPLITS,
        group_of=lambda part: part.split,
        word="split",
    )


def external_table(cohort: CohortDescription, dataset: str = "") -> Table:
    """Characteristics in the external institutions: each of them, by label."""
    external = [part for part in cohort.characteristics if part.institution in cohort.external_institutions]
    return _by_label(
        cohort,
        name="external_characteristics",
        caption=f"Characteristics in the external institutions{_of(dataset)}",
        parts=external,
        groups=sorted(cohort.external_institutions),
        group_of=lambda part: part.institution,
        word="institution",
    )


def supplementary_tables(cohort: CohortDescription, dataset: str = "") -> list[Table]:
    """Demographics; by split where there are labels; by external institution where there are some as well.

    Args:
        cohort: what `dataset.manifest.read_cohort` or `read_manifest` gives.
        dataset: a name for the captions, where a report is about several.
    """
    tables = [demographics_table(cohort, dataset)]
    if cohort.label_name:
        tables.append(internal_table(cohort, dataset))
        if cohort.external_institutions:
            tables.append(external_table(cohort, dataset))
    return tables


def _by_label(
    cohort: CohortDescription,
    *,
    name: str,
    caption: str,
    parts: Sequence[Characteristics],
    groups: Sequence[str],
    group_of: Callable[[Characteristics], str],
    word: str,
) -> Table:
    """A column a group and label; `word` is what a group is called."""
    summaries = []
    for group in groups:
        members = [part for part in parts if group_of(part) == group]
        labelled = sum(part.recordings for part in members if part.label in LABELS)
        for label in LABELS:
            chosen = tuple(part for part in members if part.label == label)
            summaries.append(_Summary(chosen, sum(part.patients for part in chosen), labelled))
    notes = [f"Positive: {cohort.label_name}. ECGs: as a share of the {word}'s labelled ones.", PER_ECG, BOTH_LABELS]
    if unlabelled := sum(part.recordings for part in parts if part.label not in LABELS):
        notes.append(f"{unlabelled:,} ECGs without a label are not shown.")
    return Table(
        name=name,
        caption=caption,
        groups=tuple(group for group in groups for _ in LABELS),
        columns=LABELS * len(groups),
        rows=(Row("ECGs, n (%)", tuple(_share(s.ecgs, s.labelled) for s in summaries)), *_rows(summaries)),
        notes=tuple(notes),
    )


def _rows(summaries: Sequence[_Summary]) -> list[Row]:
    """What all three tables tell of a column."""
    rows = [
        Row("Patients", tuple(Cell(f"{s.patients:,}") for s in summaries)),
        Row("Age in years, mean (SD)", tuple(_distribution(s, (p.age for p in s.parts)) for s in summaries)),
    ]
    words = {word for s in summaries for part in s.parts for word, count in part.sex.items() if count}
    # Unknown, the empty word, comes last.
    for word in sorted(words, key=lambda word: (word == "", word)):
        counts = (sum(part.sex.get(word, 0) for part in s.parts) for s in summaries)
        cells = (_share(count, s.ecgs) for count, s in zip(counts, summaries, strict=True))
        rows.append(Row(f"Sex {word or 'unknown'}, n (%)", tuple(cells)))
    rows.append(Row("LVEF in %, mean (SD)", tuple(_distribution(s, (p.lvef for p in s.parts)) for s in summaries)))
    return rows


def _share(count: int, total: int) -> Cell:
    return Cell(f"{count:,} ({count / total:.1%})" if total else NOTHING)


def _distribution(summary: _Summary, parts: Iterable[Distribution]) -> Cell:
    whole = pooled(parts)
    if whole.mean is None:
        return Cell(NOTHING)
    text = f"{whole.mean:.1f} ({NOTHING if whole.deviation is None else f'{whole.deviation:.1f}'})"
    return Cell(text, f"of {whole.known:,} known" if whole.known < summary.ecgs else "")


def _of(dataset: str) -> str:
    return f", {dataset}" if dataset else ""
