"""What a run says at its end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_ecg_mae.config import Config, Evaluation, Training
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.evaluation.evaluate import evaluate
from keras_ecg_mae.run_folder import mark_done
from keras_ecg_mae.stages import summary


def evaluated(run: Path, quality: float, both_labels: bool = True) -> None:
    """A finished evaluation of a made-up classifier: `quality` separates the labels."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 400) if both_labels else np.zeros(400, int)
    batch = {
        "ecg": (quality * label + generator.normal(size=400)).astype("float32").reshape(400, 1, 1),
        "label": label,
        "record_id": np.array([f"r{index}" for index in range(400)]),
        "patient_key": np.array([f"p{index}" for index in range(400)]),
        "institution": np.where(np.arange(400) < 100, "a", "b"),
        "split": np.where(np.arange(400) < 50, "validation", "test"),
    }
    evaluate(
        lambda ecg: 1 / (1 + np.exp(-ecg[:, 0, 0])),
        [batch],
        run / "evaluation",
        external_institutions=("b",),
        label_name="lvsd",
        confidence=0.95,
    )
    mark_done(run / "evaluation", {})


@pytest.mark.parametrize(
    ("quality", "both_labels", "says"),
    [
        (2.0, True, "As expected, the 95% interval of all external lies above 0.75."),
        (0.5, True, "NOT AS EXPECTED: the 95% interval of all external begins at 0.5"),
        (2.0, False, "Expected the 95% interval of all external above 0.75. Received none: its AUROC is undefined."),
    ],
)
def test_the_summary_says_whether_the_auroc_is_as_expected(
    simulated: Manifest, tmp_path: Path, quality: float, both_labels: bool, says: str
) -> None:
    evaluated(tmp_path, quality, both_labels)
    config = Config(training=Training(run=str(tmp_path)), evaluation=Evaluation(expected_auroc=0.75))
    assert says in summary(config, simulated)
    assert "xpected" not in summary(replace(config, evaluation=Evaluation()), simulated)


def test_the_summary_says_when_pretraining_was_too_short(simulated: Manifest, tmp_path: Path) -> None:
    done = {"encoder_weights": 825_600, "decoder_weights": 260_602, "steps": 10, "validation_record_mean": 1.0}
    mark_done(tmp_path / "pretrain", {**done, "validation_error": 0.95, "validation_lead_visible_mean": 0.92})
    config = Config(training=Training(run=str(tmp_path)))
    text = summary(config, simulated)
    assert "hardly better than the trivial predictors" in text
    assert f"--flagfile={tmp_path}/flags.txt --stages=finetune,evaluate,export" in text
    mark_done(tmp_path / "pretrain", {**done, "validation_error": 0.5, "validation_lead_visible_mean": 0.92})
    assert "hardly" not in summary(config, simulated)
