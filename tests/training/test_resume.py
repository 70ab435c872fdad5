"""A training that is interrupted, at any point and however often, ends as an uninterrupted one."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.config import Config, Finetuning, MaeFinetuning, Training
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import PreemptedError, RunError
from keras_ecg_mae.training import loop
from keras_ecg_mae.training.finetune import finetune
from keras_ecg_mae.training.log import MetricsLog
from keras_ecg_mae.training.pretrain import pretrain
from keras_ecg_mae.training.steps import compiled_steps
from tests.training.conftest import Pretrained

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("smallest")]

Arrange = Callable[[set[int], Callable[[], None]], None]


class PowerCutError(Exception):
    """Stands for the power going off."""


@pytest.fixture
def at_steps(monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """Makes something happen before certain steps, counted from 0 over all trainings. Every call is of one step."""
    monkeypatch.setattr(loop, "MOST_STEPS_PER_CALL", 1)

    def arrange(steps: set[int], happens: Callable[[], None]) -> None:
        number = iter(range(10_000))

        def interrupted(*arguments: Any) -> Any:
            run_steps = compiled_steps(*arguments)

            def run(*step_arguments: Any) -> dict[str, tf.Tensor]:
                if next(number) in steps:
                    happens()
                return run_steps(*step_arguments)

            return run

        monkeypatch.setattr(loop, "compiled_steps", interrupted)

    return arrange


def power_cut() -> None:
    raise PowerCutError


def until_done(train: Callable[[], object]) -> int:
    """Runs the same training again until it ends; returns how often the power went off."""
    for times in range(20):
        try:
            train()
        except PowerCutError:
            continue
        return times
    raise AssertionError("never done")


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = (keras.models.load_model(path, compile=False).get_weights() for path in (one, other))
    assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))


def assert_same_pretraining(folder: Path, whole: Path) -> None:
    assert_same(folder / "autoencoder.keras", whole / "autoencoder.keras")
    for column in ("epoch", "step", "loss", "learning_rate", "gradient_norm", "weight_norm", "validation_error"):
        assert column_of(folder, column) == column_of(whole, column)


def column_of(folder: Path, name: str) -> list[float]:
    return [row[name] for row in MetricsLog(folder, 1000).rows]


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def test_pretraining_that_is_killed_ends_with_the_same_weights(
    whole: Pretrained, simulated: Manifest, tmp_path: Path, at_steps: Arrange, caplog: pytest.LogCaptureFixture
) -> None:
    at_steps({4, 10}, power_cut)
    folder = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(PowerCutError):
            pretrain(whole.config, simulated, folder)
    checkpoints = sorted((folder / "checkpoints").glob("*.npz"))
    assert len(checkpoints) == 3
    # Whatever is left of the last one, it is named, and the one before is taken.
    damage(checkpoints[-1])
    shutil.copytree(folder, tmp_path / "damaged")
    pretrain(whole.config, simulated, folder)
    assert f"{checkpoints[-1]}: Expected a whole checkpoint" in caplog.text
    assert_same_pretraining(folder, whole.folder)
    # Where none can be read, nothing is begun anew in silence.
    for path in (tmp_path / "damaged" / "checkpoints").glob("*.npz"):
        damage(path)
    with pytest.raises(RunError, match=rf"{tmp_path}/damaged/checkpoints: .* 3, none of which can be read"):
        pretrain(whole.config, simulated, tmp_path / "damaged")


def test_muon_goes_on_as_adamw_does(whole: Pretrained, simulated: Manifest, tmp_path: Path, at_steps: Arrange) -> None:
    config = replace(whole.config, pretraining=replace(whole.config.pretraining, optimizer="muon"))
    pretrain(config, simulated, tmp_path / "whole")
    at_steps({4}, power_cut)
    assert until_done(lambda: pretrain(config, simulated, tmp_path / "killed")) == 1
    assert_same_pretraining(tmp_path / "killed", tmp_path / "whole")


def test_finetuning_that_is_killed_ends_with_the_same_weights(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_steps: Arrange
) -> None:
    mae = MaeFinetuning(epochs=2, warmup_epochs=1)
    config = replace(tiny_config, finetuning=Finetuning(recipe="mae", batch_size=16), mae_finetuning=mae)
    finetune(config, simulated, tmp_path / "whole", None)
    at_steps({2, 5}, power_cut)
    assert until_done(lambda: finetune(config, simulated, tmp_path / "killed", None)) == 2
    assert_same(tmp_path / "whole" / "classifier.keras", tmp_path / "killed" / "classifier.keras")


def test_a_frozen_encoder_is_in_the_checkpoint(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_steps: Arrange
) -> None:
    finetuning = replace(tiny_config.finetuning, trained="head", learning_rates=(1e-2,), epochs=1)
    config = replace(tiny_config, finetuning=finetuning)
    finetune(config, simulated, tmp_path / "whole", None)
    at_steps({2}, power_cut)
    with pytest.raises(PowerCutError):
        finetune(config, simulated, tmp_path / "killed", None)
    # The encoder was random, and another one is drawn now: only the checkpoint has the first.
    config = replace(config, training=replace(config.training, seed=0))
    finetune(config, simulated, tmp_path / "killed", None)
    assert_same(tmp_path / "whole" / "classifier.keras", tmp_path / "killed" / "classifier.keras")


def test_a_preempted_training_saves_and_goes_on(
    whole: Pretrained, simulated: Manifest, tmp_path: Path, at_steps: Arrange
) -> None:
    config = replace(whole.config, training=Training(dataset=simulated.folder, run="run", checkpoint_minutes=1000))
    steps = whole.result["steps"] // 2
    # Within an epoch, and in the last step of each: its validation is then left for later.
    at_steps({2, steps - 1, 2 * steps - 1}, lambda: os.kill(os.getpid(), signal.SIGTERM))
    for done, epochs in ((3, 0), (steps, 0), (2 * steps, 1)):
        with pytest.raises(PreemptedError, match=rf"pretrain is saved at step {done}; the same command goes on"):
            pretrain(config, simulated, tmp_path)
        assert len(MetricsLog(tmp_path, 1000).rows) == epochs
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    pretrain(config, simulated, tmp_path)
    assert_same_pretraining(tmp_path, whole.folder)
    kept = [{path.name for path in (folder / "best").iterdir()} for folder in (tmp_path, whole.folder)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("changes", "rel"), [({"accumulation": 4}, 1e-5), ({"xla": True}, 1e-4)], ids=["in four parts", "by XLA"]
)
def test_a_step_is_the_same_however_it_is_computed(
    whole: Pretrained, simulated: Manifest, tmp_path: Path, changes: dict[str, Any], rel: float
) -> None:
    config = replace(whole.config, training=replace(whole.config.training, profile_steps=0, **changes))
    pretrain(config, simulated, tmp_path)
    assert column_of(tmp_path, "loss") == pytest.approx(column_of(whole.folder, "loss"), rel=rel)
