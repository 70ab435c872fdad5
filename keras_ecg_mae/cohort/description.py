"""Who is in a cohort, counted from its table: by institution, split and label."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import pandas as pd

from keras_ecg_mae.errors import DatasetError

Label = Literal["positive", "negative", "unlabelled"]
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True)
class Count:
    """How many of one institution are in one split.

    Attributes:
        institution: the institution.
        split: the split.
        patients: patients with a recording here.
        positive: recordings with label 1.
        negative: recordings with label 0.
        unlabelled: recordings without a label.
    """

    institution: str
    split: str
    patients: int
    positive: int
    negative: int
    unlabelled: int


@dataclass(frozen=True)
class Distribution:
    """A number of each recording: of how many it is known, their mean and sample deviation (None where undefined)."""

    known: int
    mean: float | None
    deviation: float | None

    def __str__(self) -> str:
        """Mean, and in brackets the deviation, with one digit; a dash for what is undefined."""
        mean, deviation = ("-" if value is None else f"{value:.1f}" for value in (self.mean, self.deviation))
        return mean if self.mean is None else f"{mean} ({deviation})"


@dataclass(frozen=True)
class Characteristics:
    """Who is in a split of an institution, by label.

    Attributes:
        institution: the institution.
        split: the split.
        label: `"positive"`, `"negative"` or `"unlabelled"`.
        recordings: how many.
        patients: of how many patients; one with recordings of both labels counts with each.
        age: in years, a recording.
        lvef: ejection fraction in percent, a recording.
        sex: recordings under each word that the table uses, `""` where it has none.
    """

    institution: str
    split: str
    label: Label
    recordings: int
    patients: int
    age: Distribution
    lvef: Distribution
    sex: Mapping[str, int]


@dataclass(frozen=True)
class Summary:
    """Some of a cohort's recordings, taken together.

    Attributes:
        recordings: how many.
        patients: of how many, as counted at each institution; a patient is in one split.
        positive: recordings of the same institutions and splits with label 1, whichever label the summary is of.
        negative: those with label 0.
        unlabelled: those without a label.
        age, lvef, sex: as in `Characteristics`.
    """

    recordings: int
    patients: int
    positive: int
    negative: int
    unlabelled: int
    age: Distribution
    lvef: Distribution
    sex: Mapping[str, int]

    @property
    def labelled(self) -> int:
        return self.positive + self.negative


@dataclass(frozen=True)
class CohortDescription:
    """Who is in a cohort: of a dataset, or of a table that was split without opening a recording.

    Attributes:
        label_name: what label 1 means: `"lvsd"`, or the name of the table's label column; empty without labels.
        external_institutions: institutions that are tested on only.
        counts: by institution and split.
        characteristics: by institution, split and label.
        patients: of all internal institutions together, by split: one of two institutions counts once.
        rejected: how many recordings were left out, by reason; one by one they are in `rejected.csv`.
        findings: how many recordings that are in have one or more findings of each code; one by one the findings are
            in `findings.csv`.
        table: what was found in its table, see `read.Table.summary`.
        settings: those that decide what it holds, by their flags.
    """

    label_name: str
    external_institutions: tuple[str, ...]
    counts: tuple[Count, ...]
    characteristics: tuple[Characteristics, ...]
    patients: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    table: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lvef_threshold(self) -> float | None:
        """An ejection fraction under this percentage is a positive label; None with another label."""
        by_ejection_fraction = self.label_name and not self.settings.get("label_column")
        return self.settings.get("lvef_threshold") if by_ejection_fraction else None

    @property
    def institutions(self) -> tuple[str, ...]:
        """In alphabetical order, the internal ones first."""
        names = {count.institution for count in self.counts}
        return tuple(sorted(names, key=lambda name: (name in self.external_institutions, name)))

    def count(self, split: str | None = None, *, labelled: bool | None = None, institution: str | None = None) -> int:
        """Recordings of a split and an institution (each: all of them by default), labelled, unlabelled or both."""
        chosen = self._chosen(split, institution)
        with_label = sum(count.positive + count.negative for count in chosen)
        without = sum(count.unlabelled for count in chosen)
        return with_label + without if labelled is None else with_label if labelled else without

    def positives(self, split: str | None = None, *, institution: str | None = None) -> int:
        """Recordings with label 1."""
        return sum(count.positive for count in self._chosen(split, institution))

    @property
    def internal_institutions(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(name for name in self.institutions if name not in self.external_institutions)

    def summary(
        self,
        institutions: Collection[str] | None = None,
        splits: Collection[str] | None = None,
        label: Label | None = None,
    ) -> Summary:
        """The recordings of some institutions, splits and one label (each: all of them by default), together."""

        def chosen(item: Count | Characteristics) -> bool:
            return (institutions is None or item.institution in institutions) and (
                splits is None or item.split in splits
            )

        counts = [count for count in self.counts if chosen(count)]
        parts = [part for part in self.characteristics if chosen(part) and label in (None, part.label)]
        numbers = {word: sum(getattr(count, word) for count in counts) for word in LABELS}
        sex: Counter[str] = Counter()
        for part in parts:
            sex.update(part.sex)
        return Summary(
            recordings=sum(numbers.values()) if label is None else numbers[label],
            # One with recordings of both labels counts with each.
            patients=sum(item.patients for item in (counts if label is None else parts)),
            positive=numbers["positive"],
            negative=numbers["negative"],
            unlabelled=numbers["unlabelled"],
            age=pooled(part.age for part in parts),
            lvef=pooled(part.lvef for part in parts),
            sex=sex,
        )

    def _chosen(self, split: str | None, institution: str | None) -> list[Count]:
        return [
            count for count in self.counts if split in (None, count.split) and institution in (None, count.institution)
        ]


def describe(rows: pd.DataFrame, label_name: str, external_institutions: tuple[str, ...]) -> CohortDescription:
    """Counts a cohort.

    Args:
        rows: `read.Table.rows` with their `split`, those that count.
        label_name, external_institutions: as in `CohortDescription`.
    """
    rows = rows.assign(kind=rows["label"].map({1.0: "positive", 0.0: "negative"}).fillna("unlabelled"))
    groups = list(rows.groupby(["institution", "split"], sort=True))
    internal = rows[~rows["institution"].isin(external_institutions)]
    return CohortDescription(
        label_name=label_name,
        external_institutions=tuple(sorted(external_institutions)),
        counts=tuple(
            Count(
                institution=institution,
                split=split,
                patients=int(group["patient_id"].nunique()),
                **{label: int((group["kind"] == label).sum()) for label in LABELS},
            )
            for (institution, split), group in groups
        ),
        characteristics=tuple(
            _characteristics(institution, split, label, chosen)
            for (institution, split), group in groups
            for label in LABELS
            if not (chosen := group[group["kind"] == label]).empty
        ),
        patients={str(split): int(count) for split, count in internal.groupby("split")["patient_id"].nunique().items()},
    )


def _characteristics(institution: str, split: str, label: Label, rows: pd.DataFrame) -> Characteristics:
    return Characteristics(
        institution=institution,
        split=split,
        label=label,
        recordings=len(rows),
        patients=int(rows["patient_id"].nunique()),
        age=_distribution(rows["age"]),
        lvef=_distribution(rows["lvef"]),
        sex={str(word): int(count) for word, count in sorted(rows["sex"].value_counts().items())},
    )


def _distribution(values: pd.Series) -> Distribution:
    known = values.dropna().to_numpy()
    return Distribution(
        known=len(known),
        mean=float(known.mean()) if len(known) else None,
        deviation=float(known.std(ddof=1)) if len(known) > 1 else None,
    )


def pooled(parts: Iterable[Distribution]) -> Distribution:
    """All parts together.

    The sums of squares about the parts' means and of the means about their own add up (Chan, Golub & LeVeque, The
    American Statistician 37, 1983).
    """
    known, mean, squares = 0, 0.0, 0.0
    for part in parts:
        if part.mean is None or part.known == 0:
            continue
        gap = part.mean - mean
        squares += (part.known - 1) * (part.deviation or 0.0) ** 2 + gap**2 * known * part.known / (known + part.known)
        known += part.known
        mean += gap * part.known / known
    return Distribution(known, mean if known else None, math.sqrt(squares / (known - 1)) if known > 1 else None)


# Fields that JSON has as they are.
_PLAIN = ("label_name", "patients", "rejected", "findings", "table", "settings")


def parse_description(path: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `CohortDescription` from JSON. Raises `DatasetError` where one is missing or another."""
    try:
        return {
            "external_institutions": tuple(content["external_institutions"]),
            "counts": tuple(Count(**count) for count in content["counts"]),
            "characteristics": tuple(
                Characteristics(**{**part, "age": Distribution(**part["age"]), "lvef": Distribution(**part["lvef"])})
                for part in content["characteristics"]
            ),
            **{name: content[name] for name in _PLAIN},
        }
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: Expected the description of a cohort. Received other fields: {error}.") from error
