"""Evaluation of one model: predictions, accuracy per institution, tables and figures, in one folder."""

import json
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.figures import calibration_figure, roc_figure
from keras_ecg_mae.evaluation.metrics import Auroc, OperatingPoint, Proportion
from keras_ecg_mae.evaluation.predictions import KEPT_COLUMNS, TEXT_COLUMNS, write_predictions
from keras_ecg_mae.evaluation.scoring import Group, Results, score
from keras_ecg_mae.files import write_json, write_whole
from keras_ecg_mae.pages.tables import markdown, markdown_table
from keras_ecg_mae.runs.folder import EVALUATION_FIGURES
from keras_ecg_mae.runs.record import Dataset

PREDICTIONS, RESULTS, TABLE = "predictions.csv", "results.json", "results.md"


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[dict[str, np.ndarray]],
    folder: Path,
    *,
    external_institutions: Sequence[str],
    label_name: str,
    confidence: float,
    threshold: float | None = None,
    threshold_rule: str = "youden",
    trained_patients: Collection[str] | None = None,
    notes: Sequence[str] = (),
    run: str = "",
    dataset: Dataset | None = None,
) -> Results:
    """Predicts every batch, scores the test ECGs and writes everything into `folder`, `results.json` last.

    Args:
        predict: `(batch, 12, 5000)` float32 mV to `(batch,)` probabilities.
        batches: dicts of arrays over the batch: `ecg`, `label` (0 or 1), and as text or UTF-8 bytes `record_id`,
            `patient_key`, `institution` and `split` (`validation` or `test`); those of `predictions.KEPT_COLUMNS` that
            are there are kept. Batches may differ in size.
        folder: made if absent; files of an earlier evaluation in it are replaced.
        external_institutions: those that took no part in training or validation.
        label_name: what a positive label means, for the tables.
        confidence: level of the intervals, in (0, 1).
        threshold: chosen before, on other ECGs; None chooses it on the validation ECGs.
        threshold_rule: by which it is chosen there, see `thresholds.choose_threshold`.
        trained_patients: keys of the patients whose labels training was allowed. Test ECGs of theirs are left out, and
            validation ECGs of others. None leaves nothing out.
        notes: what a reader has to know beside the figures, a sentence each.
        run, dataset: what is evaluated, and on what, for the tables.

    Raises:
        RunError: a probability that is none or a record that comes twice (each names the record), or no test ECG.
    """
    parts = [_predicted(predict, batch) for batch in batches]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if trained_patients is not None and not table.empty:
        learnt = table["patient_key"].isin(trained_patients)
        left_out = table[learnt & (table["split"] == "test")]
        # Within a dataset its splits keep patients apart; another one is tested on whole.
        if not left_out.empty or (table["split"] == "test").all():
            notes = (
                *notes,
                f"Left out: {len(left_out):,} ECGs of {left_out['patient_key'].nunique():,} patients whom training has "
                "learnt from.",
            )
        table = table[learnt == (table["split"] == "validation")]
    if table.empty or not (table["split"] == "test").any():
        raise RunError("Expected at least one labelled test ECG to evaluate on. Received none.")
    repeated = table["record_id"].duplicated()
    if repeated.any():
        raise RunError(f"Expected every record once. Received {table['record_id'][repeated].iloc[0]!r} twice.")
    results, curves = score(table, external_institutions, label_name, confidence, threshold, threshold_rule)
    results = replace(results, notes=tuple(notes), run=run, dataset=dataset)
    # An interrupted evaluation leaves no results rather than those of other predictions.
    (folder / RESULTS).unlink(missing_ok=True)
    write_predictions(folder / PREDICTIONS, table)
    title = f"{label_name}, test ECGs"
    paired = list(zip(curves, results.groups, strict=True))
    institutions, pools = ([curve for curve, group in paired if group.pooled == pooled] for pooled in (False, True))
    write_whole(folder / EVALUATION_FIGURES["roc"], roc_figure(institutions, title, confidence))
    write_whole(folder / EVALUATION_FIGURES["calibration"], calibration_figure(pools, title, confidence))
    # Not where it fell back for want of both labels there.
    chosen_on_validation = threshold is None and results.validation.auroc.value is not None
    write_whole(folder / TABLE, format_markdown(results, chosen_on_validation))
    write_json(folder / RESULTS, asdict(results))
    return results


def _predicted(predict: Callable[[np.ndarray], np.ndarray], batch: dict[str, np.ndarray]) -> pd.DataFrame:
    """One batch's rows of the predictions table."""
    columns: dict[str, Any] = {name: [_text(item) for item in np.asarray(batch[name])] for name in TEXT_COLUMNS}
    columns |= {name: [_text(item) for item in batch[name]] for name in KEPT_COLUMNS if name in batch}
    probabilities = np.asarray(predict(np.asarray(batch["ecg"])), dtype=np.float64)
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))  # NaN is neither
    if wrong.size:
        raise RunError(
            f"Expected the model to give a number in [0, 1] for record {columns['record_id'][wrong[0]]!r}. Received "
            f"{probabilities[wrong[0]]}."
        )
    return pd.DataFrame({**columns, "label": batch["label"].astype(np.int64), "probability": probabilities})


def _text(item: Any) -> str:
    """Of a string, bytes or a number; nothing of NaN."""
    if isinstance(item, bytes):
        return item.decode("utf-8", errors="backslashreplace")
    return "" if item != item else str(item)


def read_results(folder: Path) -> Results:
    """Reads back what `evaluate` wrote.

    Raises:
        RunError: `results.json` is missing, is not JSON, or holds other fields than this version writes.
    """
    path = folder / RESULTS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        fields = {**data, "validation": _read_group(data["validation"])}
        fields["groups"] = tuple(_read_group(group) for group in data["groups"])
        fields["notes"] = tuple(data["notes"])
        if data.get("dataset"):
            fields["dataset"] = Dataset(**data["dataset"])
        return Results(**fields)
    except FileNotFoundError:
        raise RunError(f"{path}: Expected the results of an evaluation. Received no such file.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: Expected the results of an evaluation. Received something else: {error}.") from error


def _read_group(data: dict[str, Any]) -> Group:
    point = dict(data["operating_point"])
    threshold = float(point.pop("threshold"))
    proportions = {name: Proportion(**value) for name, value in point.items()}
    return Group(
        **{**data, "auroc": Auroc(**data["auroc"]), "operating_point": OperatingPoint(threshold, **proportions)}
    )


def format_results(results: Results) -> str:
    """A short aligned table for the console: one line an institution, one a pool; and the notes below it."""
    level = f"{100 * results.confidence:g}%"
    rows: list[tuple[str, ...]] = [("institution", "role", "ECGs", "patients", "positive", f"AUROC ({level} CI)")]
    for group in results.groups:
        counts = (f"{count:,}" for count in (group.ecgs, group.patients, group.positive_ecgs))
        rows.append((group.name, group.role, *counts, str(group.auroc)))
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        pads = [" " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [
            pad + cell if 2 <= place <= 4 else cell + pad
            for place, (cell, pad) in enumerate(zip(row, pads, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *_origin(results), *(f"* {note}" for note in results.notes)])


def _origin(results: Results) -> list[str]:
    """A line about what was evaluated, and on what; none where that was not said."""
    if results.dataset is None:
        return []
    return [f"Run {results.run}, dataset {results.dataset.folder} (checksum {results.dataset.sha256})."]


def _columns(text: str) -> int:
    """Columns a terminal gives to `text`: two for a wide character, as in Japanese names."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def format_markdown(results: Results, chosen_on_validation: bool) -> str:
    """The full table in Markdown: counts, discrimination, accuracy at the threshold, calibration.

    Args:
        results: of an evaluation.
        chosen_on_validation: whether the threshold was chosen on the validation ECGs of these results.
    """
    level = f"{100 * results.confidence:g}%"
    heads = ["Institution", "Role", "ECGs", "Patients", "Positive ECGs", "Positive patients", f"AUROC ({level} CI)"]
    heads += ["Sensitivity", "Specificity", "PPV", "NPV", "AUPRC", "Brier"]
    optimistic = "It was chosen on the validation row, whose accuracy is therefore optimistic. "
    rows = []
    for group in (*results.groups, *([results.validation] if results.validation.ecgs else [])):
        point = group.operating_point
        rows.append(
            [
                *(group.name, group.role),
                *(f"{n:,}" for n in (group.ecgs, group.patients, group.positive_ecgs, group.positive_patients)),
                *map(str, (group.auroc, point.sensitivity, point.specificity)),
                *map(str, (point.positive_predictive_value, point.negative_predictive_value)),
                *("undefined" if value is None else f"{value:.3f}" for value in (group.auprc, group.brier)),
            ]
        )
    parts = [
        f"# Evaluation: {markdown(results.label_name)}",
        *_origin(results),
        f"Threshold {results.threshold:.6g}: {results.threshold_rule}. {optimistic if chosen_on_validation else ''}"
        f"Intervals are at {level} and respect several ECGs of one patient.",
        *results.notes,
        markdown_table(heads, rows, texts=2),
    ]
    return "\n\n".join(parts) + "\n"
