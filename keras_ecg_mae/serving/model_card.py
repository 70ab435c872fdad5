"""An export's model card, `assets/model_card.md`: for the people who decide whether to use a model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.pages import render
from keras_ecg_mae.pages.tables import markdown_table
from keras_ecg_mae.recordings import quality
from keras_ecg_mae.serving.model_json import Decision, Provenance

LVSD = "lvsd"  # the label that `prepare` makes of an ejection fraction
_LARGEST_MV = np.iinfo(np.int16).max * spec.MILLIVOLTS_PER_UNIT


def classifier_card(provenance: Provenance, decision: Decision, content: Mapping[str, Any]) -> str:
    """The card of a classifier, in Markdown; `content` is `model_json`'s."""
    rows = []
    for group in decision.evaluation:
        point = group["operating_point"]
        counts = (f"{group[key]:,}" for key in ("ecgs", "patients", "positive_ecgs"))
        intervals = map(_interval, (group["auroc"], point["sensitivity"], point["specificity"]))
        rows.append((group["name"], group["role"], *counts, *intervals))
    heads = ("institution", "role", "ECGs", "patients", "positive ECGs", "AUROC", "sensitivity", "specificity")
    return _card(provenance, content, accuracy=markdown_table(heads, rows, texts=2), decision=decision)


def autoencoder_card(provenance: Provenance, validation: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The card of an autoencoder; `validation` are its errors, as shares of a variance, and what they are on."""
    shown = {
        "validation_error": "the model, on hidden patches",
        "validation_record_mean": "predicting each recording's mean",
        "validation_lead_visible_mean": "predicting the mean of the lead's visible patches",
    }
    rows = [(words, f"{validation[key]:.3f}") for key, words in shown.items() if key in validation]
    accuracy = markdown_table(("predictor", "error"), rows)
    return _card(provenance, content, accuracy=accuracy, validated_on=validation["validated_on"])


def _card(
    provenance: Provenance,
    content: Mapping[str, Any],
    *,
    accuracy: str,
    decision: Decision | None = None,
    validated_on: str = "",
) -> str:
    counts = [
        (
            *(count.institution, count.split),
            *(f"{number:,}" for number in (count.patients, count.positive, count.negative, count.unlabelled)),
        )
        for count in provenance.cohort.counts
    ]
    heads = ("institution", "split", "patients", "positive ECGs", "negative ECGs", "unlabelled ECGs")
    # Between backticks in the card.
    label = " ".join(decision.label.split()).replace("`", "'") if decision else ""
    return render(
        "model_card.md.j2",
        content=content,
        decision=decision,
        label=label,
        stand_in=label not in ("", LVSD),
        trained=provenance.trained,
        accuracy=accuracy,
        validated_on=validated_on,
        external=provenance.cohort.external_institutions,
        counts=markdown_table(heads, counts, texts=2),
        spec=spec,
        leads=spec.LEADS,
        quality=quality,
        largest_mv=_LARGEST_MV,
        long_recordings=provenance.long_recordings,
        max_flat_leads=provenance.max_flat_leads,
        facts=markdown_table(("", ""), _facts(content), texts=2),
    )


def _interval(item: Mapping[str, Any]) -> str:
    if item["value"] is None:
        return "undefined"
    return f"{item['value']:.3f} ({item['low']:.3f} to {item['high']:.3f})"


def _facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
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
    return [(head, str(value)) for head, value in facts.items() if value is not None]
