"""`evaluate` on a made-up predictor: its files, its numbers, and what it refuses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import evaluate, format_results, read_results
from keras_ecg_mae.evaluation.metrics import auroc, youden_threshold
from keras_ecg_mae.evaluation.predictions import read_predictions
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.runs.record import Dataset

FILES = {"predictions.csv", "results.json", "results.md", "roc.png", "calibration.png"}
Batch = dict[str, np.ndarray]


def predict(ecg: np.ndarray) -> np.ndarray:
    """`(batch, leads, samples)` to `(batch,)`: the first sample is the logit."""
    assert ecg.dtype == np.float32
    return 1 / (1 + np.exp(-ecg[:, 0, 0]))


def made_up(sizes: tuple[int, ...] = (64, 64, 64, 64, 9), seed: int = 0) -> Iterator[Batch]:
    """Four institutions, C and D external, D with negative ECGs only; the last batch is ragged."""
    generator = np.random.default_rng(seed)
    for number, size in enumerate(sizes):
        institution = generator.choice(["A", "B", "C", "D"], size)
        label = (generator.random(size) < 0.4) & (institution != "D")
        split = np.where((generator.random(size) < 0.4) & np.isin(institution, ["A", "B"]), "validation", "test")
        ecg = np.zeros((size, 2, 3), np.float32)
        ecg[:, 0, 0] = 2 * label - 1 + generator.normal(size=size)
        yield {
            "ecg": ecg,
            "label": label.astype(np.float32),
            "record_id": np.array([f"{number}/é{row}".encode() for row in range(size)], dtype=object),
            "patient_key": np.array([f"k{key}" for key in generator.integers(0, 30, size)]),
            "institution": np.array([name.encode() for name in institution], dtype=object),
            "split": split,
        }


def run(folder: Path, batches: Any = None, *, drawn: bool = False, **changes: Any) -> Results:
    """Evaluates; the figures are `drawn` where a test looks at them, since they take a second."""
    settings: dict[str, Any] = {"external_institutions": ("C", "D"), "label_name": "lvsd", "confidence": 0.95}
    with pytest.MonkeyPatch.context() as patch:
        for figure in () if drawn else ("roc_figure", "calibration_figure"):
            patch.setattr(f"keras_ecg_mae.evaluation.evaluate.{figure}", lambda *_: b"")
        return evaluate(predict, made_up() if batches is None else batches, folder, **{**settings, **changes})


def test_all_files_are_written_and_read_back(tmp_path: Path) -> None:
    results = run(tmp_path / "evaluation", drawn=True)
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == FILES
    assert read_results(tmp_path / "evaluation") == results
    assert results.label_name == "lvsd"
    assert "Youden" in results.threshold_rule
    for name in ("roc.png", "calibration.png"):
        assert (tmp_path / "evaluation" / name).read_bytes().startswith(b"\x89PNG")


def test_numbers_match_the_predictions_table(tmp_path: Path) -> None:
    results = run(tmp_path)
    table = read_predictions(tmp_path / "predictions.csv")
    assert len(table) == 265
    assert table["record_id"][0] == "0/é0"
    batch = next(made_up())
    np.testing.assert_array_equal(table["probability"][:64], predict(batch["ecg"]).astype(np.float64))

    assert [(group.name, group.role, group.pooled) for group in results.groups] == [
        ("A", "internal", False),
        ("B", "internal", False),
        ("all internal", "internal", True),
        ("C", "external", False),
        ("D", "external", False),
        ("all external", "external", True),
    ]
    test = table[table["split"] == "test"]
    for group in results.groups:
        members = {"all internal": ["A", "B"], "all external": ["C", "D"]}.get(group.name, [group.name])
        rows = test[test["institution"].isin(members)]
        patients = rows["patient_key"].to_numpy()  # the pools hold patients of two institutions
        sick = rows["label"] == 1
        assert (group.ecgs, group.patients) == (len(rows), len(set(patients)))
        assert (group.positive_ecgs, group.positive_patients) == (sick.sum(), len(set(patients[sick])))
        assert group.auroc == auroc(rows["label"].to_numpy(), rows["probability"].to_numpy(), patients)
        called = rows["probability"] >= results.threshold
        assert group.operating_point.specificity.count == (~called & ~sick).sum()
        if group.name != "D":
            assert group.auroc.value == pytest.approx(roc_auc_score(rows["label"], rows["probability"]))
            assert group.operating_point.sensitivity.value == pytest.approx((called & sick).sum() / sick.sum())
    validation = table[table["split"] == "validation"]
    assert results.threshold == youden_threshold(validation["label"].to_numpy(), validation["probability"].to_numpy())
    assert results.validation.ecgs == len(validation)


def test_an_institution_with_one_class_is_undefined_and_the_rest_goes_on(tmp_path: Path) -> None:
    results = run(tmp_path)
    group = next(group for group in results.groups if group.name == "D")
    assert group.positive_ecgs == 0
    assert group.auroc.value is None
    assert group.auprc is None
    assert group.operating_point.sensitivity.value is None
    assert group.operating_point.specificity.value is not None
    assert "NaN" not in (tmp_path / "results.json").read_text()
    line = next(line for line in format_results(results).splitlines() if line.startswith("D "))
    assert line.endswith("undefined (no positive ECG)")
    assert "| D | external |" in (tmp_path / "results.md").read_text()


def test_the_console_table_is_aligned_and_says_how_many(tmp_path: Path) -> None:
    results = run(tmp_path, confidence=0.9)
    header, *lines = format_results(results).splitlines()
    assert re.split(r"\s{2,}", header) == ["institution", "role", "ECGs", "patients", "positive", "AUROC (90% CI)"]
    assert [line[:12].strip() for line in lines] == [group.name for group in results.groups]
    for line, group in zip(lines, results.groups, strict=True):
        assert line[: header.index("AUROC")].split()[-3:] == [
            str(group.ecgs),
            str(group.patients),
            str(group.positive_ecgs),
        ]
    first = results.groups[0].auroc
    assert lines[0][header.index("AUROC") :] == f"{first.value:.3f} ({first.low:.3f}-{first.high:.3f})"


def test_batching_does_not_matter(tmp_path: Path) -> None:
    batches = list(made_up())
    singles = [{name: values[row : row + 1] for name, values in batch.items()} for batch in batches for row in range(9)]
    whole = [{name: values[:9] for name, values in batch.items()} for batch in batches]
    assert run(tmp_path / "singles", singles) == run(tmp_path / "whole", whole)


def test_without_both_labels_in_validation_the_threshold_says_so(tmp_path: Path) -> None:
    results = run(tmp_path, without_validation())
    assert results.threshold == 0.5
    assert results.threshold_rule == "set to 0.5, since the 0 validation ECGs do not hold both labels"
    assert results.validation.ecgs == 0
    assert results.validation.brier is None
    assert read_results(tmp_path) == results


def test_an_external_institution_without_test_ecgs_is_listed(tmp_path: Path) -> None:
    results = run(tmp_path, external_institutions=("C", "D", "E"))
    group = next(group for group in results.groups if group.name == "E")
    assert (group.ecgs, group.patients, group.auroc.undefined) == (0, 0, "no positive or negative ECG")


def test_names_that_tables_and_figures_treat_specially(tmp_path: Path) -> None:
    names = {b"A": "$x$ | y", b"B": "_hidden", b"C": "東京", b"D": "NA"}
    batches = []
    for batch in made_up():
        renamed = [names[name] for name in batch["institution"]]
        batches.append({**batch, "institution": np.array(renamed)})
    results = run(tmp_path, batches, drawn=True, external_institutions=("東京", "NA"))
    assert {group.name for group in read_results(tmp_path).groups} >= set(names.values())
    assert "| \\$x\\$ \\| y | internal |" in (tmp_path / "results.md").read_text()
    assert set(read_predictions(tmp_path / "predictions.csv")["institution"]) == set(names.values())
    lines = {line.split(" ")[0]: line for line in format_results(results).splitlines()}
    # A terminal gives each of the two Japanese characters two columns.
    assert lines["東京"].index("external") + 2 == lines["NA"].index("external")


def spoilt(name: str, value: Any) -> list[Batch]:
    batches = list(made_up())
    changed = batches[1][name].copy()
    changed[(7, 0, 0) if name == "ecg" else 7] = value
    batches[1] = {**batches[1], name: changed}
    return batches


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (spoilt("ecg", np.nan), r"Expected the model to give a number in \[0, 1\] for record '1/é7'. Received nan."),
        (spoilt("record_id", b"0/\xc3\xa93"), "Expected every record once. Received '0/é3' twice."),
        ([], "Expected at least one labelled test ECG"),
    ],
)
def test_refuses_what_would_give_wrong_numbers(tmp_path: Path, batches: list[Batch], message: str) -> None:
    with pytest.raises(RunError, match=message):
        run(tmp_path / "evaluation", batches)
    assert not (tmp_path / "evaluation").exists()


def test_read_results_names_the_file_and_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"results\.json: .* Received no such file"):
        read_results(tmp_path)
    run(tmp_path)
    path = tmp_path / "results.json"
    data = json.loads(path.read_text())
    del data["groups"][0]["auroc"]
    for content in (json.dumps(data), "{", "[]"):
        path.write_text(content)
        with pytest.raises(RunError, match=r"results\.json: Expected the results of an evaluation"):
            read_results(tmp_path)


def test_the_tables_name_the_run_and_the_dataset(tmp_path: Path) -> None:
    results = run(tmp_path, run="runs/x", dataset=Dataset("datasets/y", "abc123", 300))
    assert read_results(tmp_path) == results
    for text in (format_results(results), (tmp_path / "results.md").read_text()):
        assert "Run runs/x, dataset datasets/y (checksum abc123)." in text


def without_validation() -> list[Batch]:
    return [{**batch, "split": np.full(len(batch["label"]), "test")} for batch in made_up()]


def negative_validation() -> list[Batch]:
    """As `made_up`, but that the validation ECGs are all negative."""
    return [{**batch, "label": batch["label"] * (batch["split"] == "test")} for batch in made_up()]


@pytest.mark.parametrize(
    ("batches", "threshold", "row", "chosen_on_it"),
    [
        (made_up, None, True, True),
        (made_up, 0.9, True, False),
        (without_validation, 0.9, False, False),
        (without_validation, None, False, False),
        (negative_validation, None, True, False),
    ],
)
def test_the_table_says_of_the_validation_row_what_was_done_with_it(
    tmp_path: Path, batches: Any, threshold: float | None, row: bool, chosen_on_it: bool
) -> None:
    results = run(tmp_path, batches(), threshold=threshold)
    text = (tmp_path / "results.md").read_text()
    assert ("| validation |" in text) == row
    assert ("chosen on the validation row" in text) == chosen_on_it
    assert ("do not hold both labels" in text) == (threshold is None and not chosen_on_it)
    assert results.threshold == (threshold or (results.threshold if chosen_on_it else 0.5))


def test_a_threshold_chosen_before_is_kept(tmp_path: Path) -> None:
    results = run(tmp_path, threshold=0.9)
    assert results.threshold == 0.9
    assert results.threshold_rule == "chosen before, on other ECGs"
    assert all(group.operating_point.threshold == 0.9 for group in results.groups)


def test_the_threshold_is_chosen_on_validation_ecgs_alone_by_the_rule_that_is_asked_for(tmp_path: Path) -> None:
    def relabelled() -> Iterator[Batch]:
        for batch in made_up():
            yield batch | {"label": np.where(batch["split"] == "test", 1 - batch["label"], batch["label"])}

    for rule, least in (("sensitivity=0.9", "sensitivity"), ("specificity=0.95", "specificity")):
        results = run(tmp_path, threshold_rule=rule)
        assert run(tmp_path, relabelled(), threshold_rule=rule).threshold == results.threshold
        reached = getattr(results.validation.operating_point, least).value
        assert float(rule.split("=")[1]) <= reached < 1
        assert rule.replace("=", " of at least ") in results.threshold_rule


def test_what_the_dataset_keeps_of_a_recording_is_in_the_table(tmp_path: Path) -> None:
    sexes, ages = np.array([b"F", b""], dtype=object), np.array([61.0, np.nan], np.float32)
    run(tmp_path, (batch | {"sex": sexes[[0, 1] * 4], "age": ages[[0, 1] * 4]} for batch in made_up((8,) * 9)))
    table = read_predictions(tmp_path / "predictions.csv")
    assert list(table.columns[-2:]) == ["sex", "age"]
    assert list(table["sex"][:2]) == ["F", ""]
    assert list(table["age"][:2]) == ["61.0", ""]
