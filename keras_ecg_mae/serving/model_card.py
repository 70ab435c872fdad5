"""An export's model card, `assets/model_card.md`: for the people who decide whether to use a model."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.quality import FLAT_PEAK_TO_PEAK_MV, LARGEST_PEAK_MV, SMALLEST_PEAK_TO_PEAK_MV
from keras_ecg_mae.serving.description import ASSETS, Decision
from keras_ecg_mae.serving.origin import Origin

CARD_FILE = "model_card.md"
LVSD = "lvsd"  # the label that `prepare` makes of an ejection fraction

_LARGEST_MV = np.iinfo(np.int16).max * spec.MILLIVOLTS_PER_UNIT
_INTENDED_USE = (
    "**Intended use: research. Not a medical device.** It has been examined by no authority, and must not be used to "
    "diagnose, to treat, or to decide who is examined."
)


def write_classifier_card(
    folder: Path, name: str, origin: Origin, decision: Decision, facts: Mapping[str, Any]
) -> None:
    """Writes the card of a classifier; `facts` are lines about the model itself, by their heads."""
    confidence, threshold = f"{100 * decision.confidence:g}%", f"{decision.threshold:.6g}"
    sections = [
        f"# Model card: {name}",
        "A classifier of ten-second 12-lead ECGs. It gives the probability of " + _meaning(origin, decision.label),
        _INTENDED_USE,
        *_limits(origin, decision.label),
        *_refused(decision),
        "## How well it does",
        "AUROC, and sensitivity and specificity at the threshold, on test ECGs of patients whose labels neither "
        f"fine-tuning nor the choice of the threshold has seen. Intervals, at {confidence}, respect several ECGs of "
        "one patient. An external institution took no part in fine-tuning.",
        _accuracy_table(decision.evaluation),
        f"Positive is a probability of at least {threshold}: {decision.threshold_rule}. Where the condition is rarer "
        "or more frequent than it was there, another threshold may be right; the probability is served beside it.",
        *_data(origin),
        *_input(origin),
        *_facts(facts),
    ]
    _write(folder, sections)


def write_autoencoder_card(
    folder: Path, name: str, origin: Origin, validation: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Writes the card of an autoencoder; `validation` are its errors, as shares of a variance, and what they are on."""
    shown = {
        "validation_error": "the model, on hidden patches",
        "validation_record_mean": "predicting each recording's mean",
        "validation_lead_visible_mean": "predicting the mean of the lead's visible patches",
    }
    rows = [(words, f"{validation[key]:.3f}") for key, words in shown.items() if key in validation]
    sections = [
        f"# Model card: {name}",
        "A masked autoencoder of ten-second 12-lead ECGs. It gives features of an ECG, and reconstructs hidden parts "
        "of one. It was trained without labels and makes no statement about a disease.",
        _INTENDED_USE,
        *_limits(origin, ""),
        "## How well it does",
        f"Squared error, as a share of the recordings' variance, on {validation['validated_on']}:",
        _table(("predictor", "error"), rows),
        *_data(origin),
        *_input(origin),
        *_facts(facts),
    ]
    _write(folder, sections)


def _meaning(origin: Origin, label: str) -> str:
    if label != LVSD:
        return (
            f"`{_cell(label)}`, a label of the dataset's table. That label stands for itself alone: nothing here is "
            "about left ventricular systolic dysfunction."
        )
    threshold = origin.trained.lvef_threshold
    under = "" if threshold is None else f" (ejection fraction under {threshold:g}%)"
    return f"left ventricular systolic dysfunction{under}."


def _limits(origin: Origin, label: str) -> list[str]:
    institutions = len(origin.trained.recordings)
    limits = [
        f"It was trained on {institutions} institution{'s' if institutions != 1 else ''}, with their devices, "
        "patients and years. What it does elsewhere is not known before it was tried there.",
        "Whether the recordings behind it were patients' or simulated, it cannot tell: ask who prepared the dataset.",
        "Its probabilities need not be calibrated where it was not trained.",
        "It reads ten seconds at rest. Paced, paediatric and exercise ECGs were not looked at apart.",
    ]
    if label and label != LVSD:
        limits.append(f"`{_cell(label)}` is what the table's column says, however it came about.")
    return ["## Limits", "\n".join(f"* {limit}" for limit in limits)]


def _refused(decision: Decision) -> list[str]:
    if not decision.refused:
        return []
    reasons = "\n".join(f"* {_line(reason)}" for reason in decision.refused)
    return ["## Exported although it was to be refused", reasons]


def _accuracy_table(groups: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for group in groups:
        point = group["operating_point"]
        counts = [f"{group[key]:,}" for key in ("ecgs", "patients", "positive_ecgs")]
        intervals = [_interval(part) for part in (group["auroc"], point["sensitivity"], point["specificity"])]
        rows.append((_cell(group["name"]), group["role"], *counts, *intervals))
    head = ("institution", "role", "ECGs", "patients", "positive ECGs", "AUROC", "sensitivity", "specificity")
    return _table(head, rows)


def _interval(item: Mapping[str, Any]) -> str:
    if item["value"] is None:
        return "undefined"
    return f"{item['value']:.3f} ({item['low']:.3f} to {item['high']:.3f})"


def _data(origin: Origin) -> list[str]:
    rows = []
    for count in origin.cohort.counts:
        numbers = (count.patients, count.positive, count.negative, count.unlabelled)
        rows.append((_cell(count.institution), count.split, *(f"{number:,}" for number in numbers)))
    head = ("institution", "split", "patients", "positive ECGs", "negative ECGs", "unlabelled ECGs")
    external = ", ".join(_cell(name) for name in origin.cohort.external_institutions) or "none"
    seen = "\n".join(f"* {_cell(sentence)}" for sentence in origin.trained.sentences())
    text = f"External to this dataset: {external}. A patient is in one split of it."
    return ["## Data", seen, text, _table(head, rows)]


def _input(origin: Origin) -> list[str]:
    cut = f"are cut to their {origin.long_recordings} ten seconds"
    longer = "are refused" if origin.long_recordings == "refuse" else cut
    return [
        "## What it takes",
        f"{len(spec.LEADS)} leads in the order {', '.join(spec.LEADS)}; {spec.SAMPLING_RATE_HZ} Hz; {spec.SAMPLES:,} "
        f"samples; millivolts, not filtered and not normalised: that is inside. Longer recordings {longer}, by "
        "`predict` as by `prepare`.",
        "`input_ok` is false, and there is no probability, where a sample is no number or beyond "
        f"{_LARGEST_MV:g} mV, where more than {origin.max_flat_leads} leads move less than "
        f"{1000 * FLAT_PEAK_TO_PEAK_MV:g} uV, and where the amplitude is not one of millivolts: more than "
        f"{LARGEST_PEAK_MV:g} mV from the median, or no lead with {1000 * SMALLEST_PEAK_TO_PEAK_MV:g} uV from peak to "
        "peak.",
    ]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    return ["## Made of", _table(("", ""), [(head, _cell(str(value))) for head, value in facts.items()])]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(text: str) -> str:
    """Text that keeps to its cell, whatever a table's column held."""
    return _line(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")


def _line(text: str) -> str:
    return " ".join(text.split())


def _write(folder: Path, sections: Iterable[str]) -> None:
    (folder / ASSETS / CARD_FILE).write_text("\n\n".join(sections) + "\n", encoding="utf-8")
