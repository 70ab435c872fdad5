"""Which classifiers the stage export lets through beside the version that is served."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.runs.folder import mark_done
from keras_ecg_mae.serving.exported_model import Answer
from keras_ecg_mae.spec import signal_contract
from keras_ecg_mae.stages import export
from keras_ecg_mae.stages.evaluation import evaluate_predictions
from keras_ecg_mae.training.task import note_training_data


def probabilities(ecg: np.ndarray, gain: float) -> np.ndarray:
    """`(batch, 12, 5000)` mV -> `(batch,)`: a number of the signal; with `gain`, another one."""
    return 1 / (1 + np.exp(-(gain - 0.5) * ecg[:, 0].std(axis=1)))


@pytest.fixture
def finetuned(tiny_config: Config, simulated: Manifest) -> Config:
    """The settings of a run that was fine-tuned; the gate asks for no more than the incumbent has."""
    folder = Path(tiny_config.training.run) / "finetune"
    splits = ("train", "validation")
    mark_done(folder, note_training_data(tiny_config, simulated, folder, splits, labelled=True, initial_weights=None))
    lenient = replace(tiny_config.export, export_minimum_auroc=0.0, export_auroc_tolerance=0.0)
    return replace(tiny_config, export=lenient)


def groups(config: Config, manifest: Manifest, folder: Path, gain: float) -> list[dict[str, Any]]:
    results = evaluate_predictions(lambda ecg: probabilities(ecg, gain), config, manifest, folder, 0.5)
    return [asdict(group) for group in results.groups]


def serve(saved_models: Path, dataset: str, evaluation: Sequence[dict[str, Any]], refused: Sequence[str] = ()) -> Path:
    """A version's description, and the file that makes it whole."""
    number = 1 + len(list(saved_models.glob("*")))
    assets = saved_models / str(number) / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "saved_model.pb").touch()
    decision = {"label": "lvsd", "threshold": 0.5, "threshold_rule": "", "confidence": 0.95, "lvef_threshold": 40.0}
    about = {"model": "classifier", "dataset": dataset, "signal": signal_contract(), "max_flat_leads": 0}
    about |= {"long_recordings": "first", "quality": {}, "output": "", "evaluation": evaluation, "refused": refused}
    (assets / "model.json").write_text(json.dumps(about | decision))
    return assets.parent


def test_an_incumbent_of_another_dataset_may_have_seen_the_test_ecgs_and_a_refusal_says_so(
    finetuned: Config, simulated: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Incumbent:
        gain, answers = 1.0, True

        def __init__(self, version: Path) -> None:
            assert version == served

        def classify(self, ecg: np.ndarray) -> Answer:
            answers = np.full(len(ecg), self.answers)
            return Answer(probabilities(ecg, self.gain), answers, answers)

    monkeypatch.setattr(export, "ExportedModel", Incumbent)
    saved_models = tmp_path / "saved_models"
    made = {gain: groups(finetuned, simulated, tmp_path / str(gain), gain) for gain in (0.0, 1.0)}
    (_, worse), (Incumbent.gain, better) = sorted(made.items(), key=lambda item: item[1][-1]["auroc"]["value"])
    assert export.refusals(worse, finetuned, simulated, saved_models) == []

    # Tested on this dataset, it answers by what it says of itself.
    serve(saved_models, simulated.digest, better)
    refused = export.refusals(worse, finetuned, simulated, saved_models)
    assert refused
    assert not any("another dataset" in sentence for sentence in refused)

    served = serve(saved_models, "another", [])
    serve(saved_models, "another", [], refused=["It is worse."])
    *sentences, caution = export.refusals(worse, finetuned, simulated, saved_models)
    assert sentences == refused
    assert f"{served} was trained on another dataset" in caution
    assert export.refusals(better, finetuned, simulated, saved_models) == []

    Incumbent.answers = False
    (sentence,) = export.refusals(better, finetuned, simulated, saved_models)
    assert f"Expected {served}" in sentence
