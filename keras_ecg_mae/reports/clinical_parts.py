"""The parts of a report on each run's evaluation: tables of `clinical`, and figures with what they show in words."""

from collections.abc import Sequence
from dataclasses import replace

from keras_ecg_mae.evaluation.across import Summary
from keras_ecg_mae.evaluation.calibration import (
    BAND_PATIENTS,
    CURVE_PATIENTS,
    calibration_curve,
    expected_calibration_error,
)
from keras_ecg_mae.evaluation.clinical_figures import (
    ForestRow,
    decision_figure,
    forest_figure,
    outcomes_figure,
    prevalence_figure,
    smooth_calibration_figure,
)
from keras_ecg_mae.evaluation.clustered import Estimate
from keras_ecg_mae.evaluation.decision import NetBenefit, decision_curve
from keras_ecg_mae.evaluation.thresholds import likelihood_ratios
from keras_ecg_mae.pages.tables import Row, Table
from keras_ecg_mae.reports.clinical import (
    Measured,
    measured_groups,
    measured_subgroups,
    measures_table,
    prevalence_table,
    summaries,
    threshold_table,
)
from keras_ecg_mae.reports.comparison import Column
from keras_ecg_mae.reports.document import Part, Picture

_TABLED_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4)


def clinical_parts(columns: Sequence[Column], subgroups: Sequence[str]) -> list[Part]:
    """A part a run.

    Raises:
        RunError: a run's predictions lack one of `subgroups`.
    """
    return [_part(number, column, subgroups) for number, column in enumerate(columns, start=1)]


def _part(number: int, column: Column, subgroups: Sequence[str]) -> Part:
    results = column.run.results
    groups, parts = measured_groups(column), measured_subgroups(column, subgroups)
    pools = [each for each in groups if _pooled(each) and not each.sample.missing]
    across = summaries(column, groups)
    caption = f"Discrimination, calibration and overall accuracy on test ECGs. {column.name}"
    table = measures_table(f"clinical_{number}", caption, groups, across, results.confidence)
    if pools:
        errors = "; ".join(f"{pool.name} {expected_calibration_error(pool.sample):.3f}" for pool in pools)
        note = f"Expected calibration error over ten bins, which depends on the bins: {errors}."
        table = replace(table, notes=(*table.notes, note))
    tables = [table]
    if parts:
        caption = f"By subgroup, all test ECGs. {column.name}"
        tables.append(measures_table(f"subgroups_{number}", caption, parts, {}, results.confidence))
    curves = [(pool.name, decision_curve(pool.sample, results.confidence)) for pool in pools]
    if curves:
        tables.append(_net_benefit_table(number, column, curves))
    tables.append(threshold_table(f"threshold_{number}", column, groups))
    # The paper's question is how a model does elsewhere.
    tables += [prevalence_table(f"per_thousand_{number}", column, pools[-1])] if pools else []
    pictures = _pictures(number, column, groups, parts, pools, across, curves) if pools else []
    return Part(f"Evaluation: {column.name}", (), tuple(tables), tuple(pictures))


def _net_benefit_table(number: int, column: Column, curves: Sequence[tuple[str, Sequence[NetBenefit]]]) -> Table:
    rows = []
    for name, points in curves:
        for point in points:
            if point.threshold in _TABLED_THRESHOLDS:
                cells = (f"{point.threshold:g}", str(point.model), f"{point.refer_all:.3f}", str(point.gain))
                rows.append(Row.of(name, cells))
    return Table(
        f"net_benefit_{number}",
        f"Net benefit, an ECG: true positives less false ones by the odds of the threshold. {column.name}",
        ("Threshold", "Model", "Refer all", "Model less the better of all and none"),
        tuple(rows),
        ("Refer none: 0. At a threshold of 0.1, nine needless echocardiograms weigh as much as one missed patient.",),
        head="Test ECGs",
    )


def _pictures(
    number: int,
    column: Column,
    groups: Sequence[Measured],
    parts: Sequence[Measured],
    pools: Sequence[Measured],
    across: dict[str, dict[str, Summary]],
    curves: Sequence[tuple[str, Sequence[NetBenefit]]],
) -> list[Picture]:
    results, pool = column.run.results, pools[-1]
    pictures = []
    smooth = [(each.name, calibration_curve(each.sample, results.confidence)) for each in pools]
    drawn = [(name, curve) for name, curve in smooth if curve is not None]
    if drawn:
        left_out = [name for name, curve in smooth if curve is None]
        few = f" Not drawn, with under {CURVE_PATIENTS} patients of a label: {', '.join(left_out)}." if left_out else ""
        short = [each.name for each in pools if each.sample.class_patients[0] < BAND_PATIENTS]
        narrow = (
            f" Under {BAND_PATIENTS} positive patients the band is too narrow at its lower end: {', '.join(short)}."
            if short
            else ""
        )
        slopes = "; ".join(f"{each.name} slope {each.calibration.slope}" for each in pools)
        pictures.append(
            Picture(
                f"smooth_calibration_{number}",
                f"Calibration: logistic regression on a restricted cubic spline of the logits, with band.{narrow}{few}",
                smooth_calibration_figure(drawn),
                f"Observed share of positives over predicted probability. {slopes}.",
            )
        )
    gains = "; ".join(
        f"{name} at 0.1: model {points[9].model.value:.3f}, all {points[9].refer_all:.3f}" for name, points in curves
    )
    positive = sum(each.sample.positives for each in pools)
    pictures += [
        Picture(
            f"decision_{number}",
            "Decision curves: net benefit of referring by the model, of referring all and none",
            decision_figure(curves),
            f"Net benefit over threshold probabilities of 0.01 to 0.5. {gains}.",
        ),
        Picture(
            f"outcomes_{number}",
            "Probabilities by outcome",
            outcomes_figure([(each.name, each.sample) for each in pools], results.threshold),
            f"Histograms of the predicted probabilities of {positive:,} positive and of the negative ECGs.",
        ),
        _forest(number, groups, parts, across),
        Picture(
            f"prevalence_{number}",
            f"PPV and NPV by share of positives, with the accuracy of {pool.name}; dots: each institution's own share",
            prevalence_figure(
                likelihood_ratios(pool.sample, results.threshold, results.confidence),
                [(each.name, each.sample.prevalence) for each in groups if each not in pools],
            ),
            "PPV rises and NPV falls with the share of positives; the table per 1,000 examined has the numbers.",
        ),
    ]
    return pictures


def _pooled(each: Measured) -> bool:
    return each.group is not None and each.group.pooled


def _forest(
    number: int, groups: Sequence[Measured], parts: Sequence[Measured], across: dict[str, dict[str, Summary]]
) -> Picture:
    panels = []
    for measure, right in (("AUROC", None), ("O:E", 1.0), ("Slope", 1.0)):
        rows = []
        for each in (*groups, *parts):
            value: Estimate = {
                "AUROC": each.area,
                "O:E": each.calibration.observed_to_expected,
                "Slope": each.calibration.slope,
            }[measure]
            rows.append(ForestRow(each.name, value.value, value.low, value.high, _pooled(each)))
        for role, by_measure in across.items():
            summary = by_measure[measure]
            low, high = summary.prediction_low, summary.prediction_high
            prediction = None if low is None or high is None else (low, high)
            name, mean = f"across {role}", summary.mean
            rows.append(ForestRow(name, mean.value, mean.low, mean.high, True, prediction))
        panels.append((measure, right, rows))
    areas = "; ".join(f"{each.name} {each.area}" for each in groups)
    return Picture(
        f"forest_{number}",
        "By institution and subgroup; diamonds: pools and random effects, thin lines: prediction intervals",
        forest_figure(panels),
        f"Forest plot of AUROC, O:E and calibration slope. AUROC: {areas}.",
    )
