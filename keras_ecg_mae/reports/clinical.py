"""A run's evaluation as a reviewer asks for it: calibration, net benefit, subgroups, and whether the cases suffice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.across import Summary, across_institutions
from keras_ecg_mae.evaluation.calibration import Calibration, calibration
from keras_ecg_mae.evaluation.clustered import Estimate, Sample
from keras_ecg_mae.evaluation.metrics import auroc, operating_point
from keras_ecg_mae.evaluation.overall import average_precision, brier, scaled_brier
from keras_ecg_mae.evaluation.sample_size import Needed, needed_for
from keras_ecg_mae.evaluation.scoring import Group, patient_numbers
from keras_ecg_mae.evaluation.thresholds import PREVALENCES, likelihood_ratios, per_thousand
from keras_ecg_mae.evaluation.thresholds import negative_predictive_value as npv
from keras_ecg_mae.evaluation.thresholds import positive_predictive_value as ppv
from keras_ecg_mae.pages.tables import NOTHING, Cell, Row, Table
from keras_ecg_mae.reports.comparison import Column

AGE_BANDS = {"under 40 years": (0, 40), "40 to 59": (40, 60), "60 to 74": (60, 75), "75 and over": (75, np.inf)}
# With 20 positive patients, three ECGs each, 95% intervals of AUROC held the truth in 93% of simulated cohorts, those
# of slope too: the lowest that is claimed (tests/evaluation/test_coverage.py).
RELIABLE_PATIENTS = 30


@dataclass(frozen=True)
class Measured:
    """A part of the test ECGs, and what is measured on it; `group` is that of the results, None of a subgroup."""

    name: str
    sample: Sample
    confidence: float
    group: Group | None = None

    @cached_property
    def area(self) -> Estimate:
        found = auroc(self.sample.positive, self.sample.probabilities, self.sample.patients, self.confidence)
        return Estimate(found.value, found.low, found.high, found.standard_error, found.undefined)

    @cached_property
    def calibration(self) -> Calibration:
        return calibration(self.sample, self.confidence)

    @cached_property
    def needed(self) -> Needed:
        return needed_for(self.sample, self.area.value)

    @property
    def patients(self) -> int:
        return int(self.sample.patients.max()) + 1

    @property
    def unreliable(self) -> bool:
        return min(self.sample.class_patients) < RELIABLE_PATIENTS

    def cell(self, value: Estimate, needed: int | None = None) -> Cell:
        """With a dagger where its interval is unreliable; below it, how many patients would do where they are few."""
        few = needed is not None and self.patients < needed
        return Cell(str(value), f"too few: {needed:,} needed" if few else "", self.unreliable and value.low is not None)


def measured_groups(column: Column) -> list[Measured]:
    """The institutions and pools of a run that have test ECGs, in their order."""
    results = column.run.results
    return [
        _measured(group.name, column.run.rows_of(group), results.confidence, group)
        for group in results.groups
        if group.ecgs
    ]


def measured_subgroups(column: Column, names: Sequence[str]) -> list[Measured]:
    """The test ECGs by each column named: age in bands, of the others each value; what is not known is left out.

    Raises:
        RunError: the predictions have no such column.
    """
    rows, found = column.run.test, []
    for name in names:
        if name not in rows:
            kept = [each for each in rows.columns if each not in ("record_id", "patient_key", "label", "probability")]
            raise RunError(f"{column.run.folder}: Expected --subgroups among {', '.join(kept)}. Received {name!r}.")
        values = rows[name].astype(str)
        if name == "age":
            years = pd.to_numeric(values, errors="coerce")
            parts = {band: (years >= low) & (years < high) for band, (low, high) in AGE_BANDS.items()}
        else:
            parts = {value: values == value for value in sorted(set(values) - {""})}
        found += [
            _measured(f"{name}: {value}", rows[which], column.run.results.confidence)
            for value, which in parts.items()
            if which.any()
        ]
    return found


def _measured(name: str, rows: pd.DataFrame, confidence: float, group: Group | None = None) -> Measured:
    sample = Sample.of(rows["label"].to_numpy(), rows["probability"].to_numpy(), patient_numbers(rows))
    return Measured(name, sample, confidence, group)


def summaries(column: Column, groups: Sequence[Measured]) -> dict[str, dict[str, Summary]]:
    """By role, of those with two institutions: AUROC, O:E and slope across its institutions."""
    roles: dict[str, list[Measured]] = {}
    for each in groups:
        if each.group is not None and not each.group.pooled:
            roles.setdefault(each.group.role, []).append(each)
    of: dict[str, tuple[str, Callable[[Measured], Estimate]]] = {
        "AUROC": ("logit", lambda each: each.area),
        "O:E": ("log", lambda each: each.calibration.observed_to_expected),
        "Slope": ("identity", lambda each: each.calibration.slope),
    }
    return {
        role: {
            name: across_institutions([measure(each) for each in members], scale, column.run.results.confidence)
            for name, (scale, measure) in of.items()
        }
        for role, members in roles.items()
        if len(members) > 1
    }


def measures_table(
    name: str, caption: str, groups: Sequence[Measured], across: dict[str, dict[str, Summary]], confidence: float
) -> Table:
    """Discrimination, calibration and overall measures of each group, and across the institutions of a role."""
    heads = ("ECGs", "Patients", "Positive patients", "AUROC", "O:E", "In the large", "Intercept", "Slope")
    rows = []
    for each in groups:
        sample, at = each.sample, each.calibration
        rows.append(
            Row(
                each.name,
                (
                    *(Cell(f"{count:,}") for count in (len(sample), each.patients, sample.class_patients[0])),
                    each.cell(each.area, each.needed.auroc),
                    each.cell(at.observed_to_expected, each.needed.observed_to_expected),
                    *map(each.cell, (at.in_the_large, at.intercept)),
                    each.cell(at.slope, each.needed.slope),
                    *(each.cell(measure(sample, confidence)) for measure in (average_precision, brier, scaled_brier)),
                ),
            )
        )
    for role, by_measure in across.items():
        shown = {measure: _summary_cell(summary) for measure, summary in by_measure.items()}
        nothing = Cell(NOTHING)
        count = max(summary.institutions for summary in by_measure.values())
        cells = [shown.get(head, nothing) for head in heads]
        rows.append(Row(f"across {count} {role} institutions", (*cells, nothing, nothing, nothing)))
    level = f"{100 * confidence:g}%"
    notes = [
        f"{level} intervals, by patient: the infinitesimal jackknife; AUROC by DeLong's components (Obuchowski 1997).",
        "O:E: positive ECGs over the sum of the probabilities; 1 is right. In the large: what the logits lack; 0 is "
        "right. Intercept and slope: of the labels on the logits; 0 and 1 are right.",
        "Too few: under the number of patients, with one ECG each, that an interval of the width 0.2 (O:E, slope) or "
        "0.1 (AUROC) takes in a cohort with these probabilities (Riley et al. 2021).",
    ]
    if any(each.unreliable for each in groups):
        notes.append(f"† Interval unreliable: under {RELIABLE_PATIENTS} patients with, or without, a positive ECG.")
    if across:
        notes.append(
            "Across institutions: mean of random effects, below it the prediction interval for another institution."
        )
    columns = (*heads, "AUPRC", "Brier", "Scaled Brier")
    return Table(name, caption, columns, tuple(rows), tuple(notes), head="Test ECGs")


def _summary_cell(summary: Summary) -> Cell:
    if summary.prediction_low is None or summary.prediction_high is None:
        return Cell(str(summary.mean))
    separator = " to " if summary.prediction_low < 0 else "-"
    return Cell(str(summary.mean), f"predicted {summary.prediction_low:.3f}{separator}{summary.prediction_high:.3f}")


def threshold_table(name: str, column: Column, groups: Sequence[Measured]) -> Table:
    """What calling positive at the run's threshold does: it describes, and ranks no model."""
    results = column.run.results
    rows = []
    for each in groups:
        ratios = likelihood_ratios(each.sample, results.threshold, results.confidence)
        point = operating_point(
            each.sample.positive, each.sample.probabilities, each.sample.patients, results.threshold, results.confidence
        )
        shares = (point.sensitivity, point.specificity)
        predictive = (point.positive_predictive_value, point.negative_predictive_value)
        rows.append(Row.of(each.name, map(str, (*shares, *predictive, ratios.positive, ratios.negative))))
    return Table(
        name,
        f"At the threshold {results.threshold:.3g}: {results.threshold_rule}. {column.name}",
        ("Sensitivity", "Specificity", "PPV", "NPV", "LR+", "LR-"),
        tuple(rows),
        ("LR+, LR-: how the odds of a positive label change with a probability from the threshold on or under it.",),
        head="Test ECGs",
    )


def prevalence_table(name: str, column: Column, pool: Measured) -> Table:
    """Predictive values, and what an examination of 1,000 leads to, over shares of positives of 0.5 to 20%."""
    results = column.run.results
    called = pool.sample.probabilities >= results.threshold
    sensitivity, specificity = called[pool.sample.positive].mean(), (~called[~pool.sample.positive]).mean()
    ratios = likelihood_ratios(pool.sample, results.threshold, results.confidence)
    rows = []
    for share in PREVALENCES:
        thousand = per_thousand(float(sensitivity), float(specificity), share)
        per_case = thousand.echocardiograms_per_case
        rows.append(
            Row.of(
                f"{100 * share:g}%",
                (
                    *(str(value(ratios, share)) for value in (ppv, npv)),
                    *(f"{number:.1f}" for number in (thousand.flagged, thousand.found, thousand.missed)),
                    NOTHING if per_case is None else f"{per_case:.1f}",
                ),
            )
        )
    return Table(
        name,
        f"Of 1,000 examined at the threshold {results.threshold:.3g}, with the accuracy of {pool.name}. {column.name}",
        ("PPV", "NPV", "Flagged", "Found", "Missed", "Echocardiograms per case found"),
        tuple(rows),
        ("It assumes sensitivity and specificity to be the same elsewhere; they change with the patients examined.",),
        head="Share of positives",
    )
