"""What a run's weights were trained on: written, read back, and said."""

from dataclasses import replace
from pathlib import Path

import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.runs.folder import mark_done
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.runs.training_data import (
    TrainingData,
    expect_training_data,
    read_patients,
    read_training_data,
    to_json,
    write_patients,
)

PRETRAINED = TrainingData(
    run="runs/ds2",
    dataset=Dataset("runs/dataset2", "4567", 900),
    label_name="",
    lvef_threshold=None,
    patient_keys="k",
    recordings={"a": {"train": 70, "test": 20}, "b": {"train": 10, "test": 5}, "c": {"train": 3}},
)
FINETUNED = TrainingData(
    run="runs/ds1",
    dataset=Dataset("runs/dataset1", "0123", 400),
    label_name="lvsd",
    lvef_threshold=40.0,
    patient_keys="k",
    recordings={"a": {"train": 60, "validation": 12}},
    initial_weights="runs/ds2/pretrain/autoencoder.keras",
    before=PRETRAINED,
)


def test_it_is_read_back_with_what_came_before_and_its_patients(tmp_path: Path) -> None:
    write_patients(tmp_path, {"p2", "p1"})
    mark_done(tmp_path, {"steps": 3, **to_json(FINETUNED)})
    assert read_training_data(tmp_path) == expect_training_data(tmp_path, "finetune") == FINETUNED
    assert read_patients(tmp_path) == {"p1", "p2"}
    assert (tmp_path / "patients.txt").read_text() == "p1\np2\n"
    assert (FINETUNED.count("train"), FINETUNED.count("validation"), PRETRAINED.count("test")) == (60, 12, 25)


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    assert read_training_data(tmp_path) is None
    for content in ({}, {"training_data": {"run": "runs/x"}}, {"training_data": {**to_json(FINETUNED), "more": 1}}):
        if content:
            mark_done(tmp_path, content)
        with pytest.raises(RunError, match=r"done.json: Expected"):
            expect_training_data(tmp_path, "finetune")
    with pytest.raises(RunError, match=r"patients.txt: Expected"):
        read_patients(tmp_path)


def test_it_says_what_fine_tuning_and_pretraining_have_seen() -> None:
    finetuning, pretraining = FINETUNED.sentences()
    assert "60 train ECGs" in finetuning
    assert "12 validation ECGs" in finetuning
    assert pretraining == (
        "Pretraining saw, without labels, the train and test ECGs of a, b; the train ECGs of c (dataset runs/dataset2, "
        "run runs/ds2)."
    )


def test_published_weights_and_none_are_told_apart() -> None:
    published = replace(FINETUNED, initial_weights="mae.pth", before=None)
    assert "mae.pth, have seen is not known" in published.sentences()[-1]
    assert len(replace(published, initial_weights="").sentences()) == 1
