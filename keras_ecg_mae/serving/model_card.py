"""An export's model card, `assets/model_card.md`: for the people who decide whether to use a model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.quality import FLAT_PEAK_TO_PEAK_MV, LARGEST_PEAK_MV, SMALLEST_PEAK_TO_PEAK_MV
from keras_ecg_mae.serving.model_json import Decision, Provenance

LVSD = "lvsd"  # the label that `prepare` makes of an ejection fraction

_LARGEST_MV = np.iinfo(np.int16).max * spec.MILLIVOLTS_PER_UNIT
_INTENDED_USE = (
    "**Intended use: research. Not a medical device.** It has been examined by no authority, and must not be used to "
    "diagnose, to treat, or to decide who is examined."
)


def classifier_card(provenance: Provenance, decision: Decision, content: Mapping[str, Any]) -> str:
    """The card of a classifier, in Markdown; `content` is `model_json`'s."""
    confidence, threshold = f"{100 * decision.confidence:g}%", f"{decision.threshold:.6g}"
    sections = [
        f"# Model card: {content['name']}",
        "A classifier of ten-second 12-lead ECGs. It gives the probability of " + _meaning(provenance, decision.label),
        _INTENDED_USE,
        *_limits(provenance, decision.label),
        *_refused(decision),
        "## How well it does",
        "AUROC, and sensitivity and specificity at the threshold, on test ECGs of patients whose labels neither "
        f"fine-tuning nor the choice of the threshold has seen. Intervals, at {confidence}, respect several ECGs of "
        "one patient. An external institution took no part in fine-tuning.",
        _accuracy_table(decision.evaluation),
        f"Positive is a probability of at least {threshold}: {decision.threshold_rule}. Where the condition is rarer "
        "or more frequent than it was there, another threshold may be right; the probability is served beside it.",
        *_data(provenance),
        *_input(provenance),
        *_facts(content),
    ]
    return "\n\n".join(sections) + "\n"


def autoencoder_card(provenance: Provenance, validation: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The card of an autoencoder; `validation` are its errors, as shares of a variance, and what they are on."""
    shown = {
        "validation_error": "the model, on hidden patches",
        "validation_record_mean": "predicting each recording's mean",
        "validation_lead_visible_mean": "predicting the mean of the lead's visible patches",
    }
    rows = [(words, f"{validation[key]:.3f}") for key, words in shown.items() if key in validation]
    sections = [
        f"# Model card: {content['name']}",
        "A masked autoencoder of ten-second 12-lead ECGs. It gives features of an ECG, and reconstructs hidden parts "
        "of one. It was trained without labels and makes no statement about a disease.",
        _INTENDED_USE,
        *_limits(provenance, ""),
        "## How well it does",
        f"Squared error, as a share of the recordings' variance, on {validation['validated_on']}:",
        _table(("predictor", "error"), rows),
        *_data(provenance),
        *_input(provenance),
        *_facts(content),
    ]
    return "\n\n".join(sections) + "\n"


def _meaning(provenance: Provenance, label: str) -> str:
    if label != LVSD:
        return (
            f"`{_cell(label)}`, a label of the dataset's table. That label stands for itself alone: nothing here is "
            "about left ventricular systolic dysfunction."
        )
    threshold = provenance.trained.lvef_threshold
    under = "" if threshold is None else f" (ejection fraction under {threshold:g}%)"
    return f"left ventricular systolic dysfunction{under}."


def _limits(provenance: Provenance, label: str) -> list[str]:
    institutions = len(provenance.trained.recordings)
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


def _data(provenance: Provenance) -> list[str]:
    rows = []
    for count in provenance.cohort.counts:
        numbers = (count.patients, count.positive, count.negative, count.unlabelled)
        rows.append((_cell(count.institution), count.split, *(f"{number:,}" for number in numbers)))
    head = ("institution", "split", "patients", "positive ECGs", "negative ECGs", "unlabelled ECGs")
    external = ", ".join(_cell(name) for name in provenance.cohort.external_institutions) or "none"
    seen = "\n".join(f"* {_cell(sentence)}" for sentence in provenance.trained.sentences())
    text = f"External to this dataset: {external}. A patient is in one split of it."
    return ["## Data", seen, text, _table(head, rows)]


def _input(provenance: Provenance) -> list[str]:
    cut = f"are cut to their {provenance.long_recordings} ten seconds"
    longer = "are refused" if provenance.long_recordings == "refuse" else cut
    return [
        "## What it takes",
        f"{len(spec.LEADS)} leads in the order {', '.join(spec.LEADS)}; {spec.SAMPLING_RATE_HZ} Hz; {spec.SAMPLES:,} "
        f"samples; millivolts, not filtered and not normalised: that is inside. Longer recordings {longer}, by "
        "`predict` as by `prepare`.",
        "`input_ok` is false, and there is no probability, where a sample is no number or beyond "
        f"{_LARGEST_MV:g} mV, where more than {provenance.max_flat_leads} leads move less than "
        f"{1000 * FLAT_PEAK_TO_PEAK_MV:g} uV, and where the amplitude is not one of millivolts: more than "
        f"{LARGEST_PEAK_MV:g} mV from the median, or no lead with {1000 * SMALLEST_PEAK_TO_PEAK_MV:g} uV from peak to "
        "peak.",
    ]


def _facts(content: Mapping[str, Any]) -> list[str]:
    weights, trained, exported = content["weights"], content["trained"], content["exported"]
    facts = {
        **content["settings"],
        "normalisation, inside": content["normalization"],
        "computes in": content["precision"],
        "weights": f"{weights['count']:,}, SHA-256 {weights['sha256']}",
        "run": content["run"],
        "dataset": content["dataset"],
        "trained": trained and f"{trained['done']}, revision {trained['git_revision']}",
        "exported": f"{exported['done']}, revision {exported['git_revision']}",
    }
    rows = [(head, _cell(str(value))) for head, value in facts.items() if value is not None]
    return ["## Made of", _table(("", ""), rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(text: str) -> str:
    """Text that keeps to its cell, whatever a table's column held."""
    return _line(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")


def _line(text: str) -> str:
    return " ".join(text.split())
