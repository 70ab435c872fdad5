"""From a predictions table to the accuracy of each institution, of the pools, and at one threshold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.evaluation.figures import Curve, calibration_figure, roc_figure
from keras_ecg_mae.evaluation.metrics import (
    Auroc,
    OperatingPoint,
    auprc,
    auroc,
    brier_score,
    operating_point,
    youden_threshold,
)
from keras_ecg_mae.evaluation.thresholds import choose_threshold, describe_rule
from keras_ecg_mae.runs.record import Dataset

FALLBACK_THRESHOLD = 0.5


@dataclass(frozen=True)
class Group:
    """The scores of one institution's test ECGs, of a pool of institutions, or of the validation ECGs.

    Attributes:
        name: the institution, or `all internal`, `all external`, `validation`.
        role: `"internal"`, `"external"` or `"validation"`.
        pooled: whether several institutions may be in it, i.e. `name` is not an institution's.
        auprc: average precision, None without a positive ECG.
        brier: mean squared error of the probabilities, None without ECGs.
    """

    name: str
    role: str
    pooled: bool
    ecgs: int
    patients: int
    positive_ecgs: int
    positive_patients: int
    auroc: Auroc
    operating_point: OperatingPoint
    auprc: float | None
    brier: float | None


@dataclass(frozen=True)
class Results:
    """What `results.json` holds.

    Attributes:
        label_name: what a positive label means, e.g. `lvsd`.
        confidence: level of every interval.
        threshold: a probability of at least this is called positive.
        threshold_rule: how it was chosen, in words.
        validation: where the threshold was chosen here, these are the ECGs it was chosen on, and their sensitivity and
            specificity are therefore optimistic.
        groups: internal institutions by name, `all internal`, external institutions by name, `all external`.
        notes: what a reader has to know beside the figures, a sentence each.
        run: folder of the run that was evaluated; empty where nobody said it.
        dataset: what it was evaluated on; None where nobody said it.
    """

    label_name: str
    confidence: float
    threshold: float
    threshold_rule: str
    validation: Group
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    run: str = ""
    dataset: Dataset | None = None


def score(
    table: pd.DataFrame,
    external_institutions: Sequence[str],
    label_name: str,
    confidence: float,
    threshold: float | None,
    threshold_rule: str = "youden",
) -> tuple[Results, list[Curve]]:
    """The scores of every institution and pool, and what the figures draw of them, in the same order.

    Args:
        table: columns `predictions.COLUMNS`, the splits validation and test.
        external_institutions, label_name, confidence, threshold, threshold_rule: as `evaluate.evaluate` takes them.
    """
    validation, test = table[table["split"] == "validation"], table[table["split"] == "test"]
    rule = "chosen before, on other ECGs"
    if threshold is None:
        labels, probabilities = validation["label"].to_numpy(), validation["probability"].to_numpy()
        threshold = choose_threshold(threshold_rule, labels, probabilities)
        rule = f"{describe_rule(threshold_rule)} on {len(validation)} validation ECGs"
    if threshold is None:
        threshold = FALLBACK_THRESHOLD
        rule = f"set to {threshold:g}, since the {len(validation)} validation ECGs do not hold both labels"
        logging.warning("The threshold is %s.", rule)

    groups: list[Group] = []
    curves: list[Curve] = []
    external = test["institution"].isin(external_institutions)
    for role, chosen in (("internal", test[~external]), ("external", test[external])):
        names = set(chosen["institution"]) | (set(external_institutions) if role == "external" else set())
        members = [(name, False, chosen[chosen["institution"] == name]) for name in sorted(names)]
        pool = [(f"all {role}", True, chosen)] if names else []
        for name, pooled, rows in members + pool:
            curves.append(_curve(name, role == "external", rows, threshold, confidence))
            groups.append(_group(curves[-1], role, pooled))
            if rows.empty and not pooled:
                logging.warning("The external institution %r has no labelled test ECG.", name)
    scored = _group(_curve("validation", False, validation, threshold, confidence), "validation", True)
    return Results(label_name, confidence, threshold, rule, scored, tuple(groups)), curves


def validation_figures(
    labels: np.ndarray, probabilities: np.ndarray, patient_keys: np.ndarray, confidence: float
) -> dict[str, bytes]:
    """ROC and calibration of a training's validation ECGs, arrays of `(ecgs,)`; PNG files by name.

    The dot on the ROC is at the threshold of the largest sensitivity + specificity - 1 on these very ECGs.
    """
    chosen = youden_threshold(labels, probabilities)
    threshold = FALLBACK_THRESHOLD if chosen is None else chosen
    rows = pd.DataFrame({"label": labels, "probability": probabilities, "patient_key": patient_keys})
    curve = _curve("validation", False, rows, threshold, confidence)
    return {
        "roc": roc_figure([curve], "Validation ECGs", confidence),
        "calibration": calibration_figure([curve], "Validation ECGs", confidence),
    }


def patient_numbers(rows: pd.DataFrame) -> np.ndarray:
    """A number a patient: a key at two institutions is one patient, as it is for the dataset's split."""
    return pd.factorize(rows["patient_key"], sort=True)[0]


def _curve(name: str, external: bool, rows: pd.DataFrame, threshold: float, confidence: float) -> Curve:
    labels, probabilities, patients = rows["label"].to_numpy(), rows["probability"].to_numpy(), patient_numbers(rows)
    return Curve(
        name=name,
        external=external,
        labels=labels,
        probabilities=probabilities,
        patients=patients,
        auroc=auroc(labels, probabilities, patients, confidence),
        operating_point=operating_point(labels, probabilities, patients, threshold, confidence),
    )


def _group(curve: Curve, role: str, pooled: bool) -> Group:
    return Group(
        name=curve.name,
        role=role,
        pooled=pooled,
        ecgs=len(curve.labels),
        patients=len(np.unique(curve.patients)),
        positive_ecgs=int(curve.labels.sum()),
        positive_patients=len(np.unique(curve.patients[curve.labels == 1])),
        auroc=curve.auroc,
        operating_point=curve.operating_point,
        auprc=auprc(curve.labels, curve.probabilities),
        brier=brier_score(curve.labels, curve.probabilities),
    )
