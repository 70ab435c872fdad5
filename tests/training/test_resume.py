"""A training that is interrupted, at any point and however often, ends as an uninterrupted one."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.config import Config, Finetuning, MaeFinetuning
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import PreemptedError, RunError
from keras_ecg_mae.training import loop
from keras_ecg_mae.training.finetune import finetune
from keras_ecg_mae.training.metrics_log import MetricsLog
from keras_ecg_mae.training.pretrain import pretrain
from keras_ecg_mae.training.steps import compiled_steps

pytestmark = pytest.mark.slow


class PowerCutError(Exception):
    """Stands for the power going off."""


@pytest.fixture
def at_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int], Callable[[], None]], None]:
    """Makes something happen before certain calls of the compiled steps, counted from 0 over all trainings."""
    monkeypatch.setattr(loop, "MOST_STEPS_PER_CALL", 3)

    def arrange(calls: set[int], happens: Callable[[], None]) -> None:
        number = iter(range(10_000))

        def interrupted(*arguments: Any) -> Any:
            run_steps = compiled_steps(*arguments)

            def run(*step_arguments: Any) -> dict[str, tf.Tensor]:
                if next(number) in calls:
                    happens()
                return run_steps(*step_arguments)

            return run

        monkeypatch.setattr(loop, "compiled_steps", interrupted)

    return arrange


def power_cut() -> None:
    raise PowerCutError


def until_done(train: Callable[[], object], interruption: type[Exception]) -> int:
    """Runs the same training again until it ends; returns how often it was interrupted."""
    for times in range(20):
        try:
            train()
        except interruption:
            continue
        return times
    raise AssertionError("never done")


def weights(path: Path) -> Iterator[np.ndarray]:
    yield from keras.models.load_model(path).get_weights()


def assert_same(one: Path, other: Path) -> None:
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        assert np.array_equal(ours, theirs)


def losses(folder: Path, column: str = "loss") -> list[float]:
    return [row[column] for row in MetricsLog(folder, 1000).rows]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_pretraining_that_is_killed_ends_with_the_same_weights(
    optimizer: Any, tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any
) -> None:
    config = replace(tiny_config, pretraining=replace(tiny_config.pretraining, optimizer=optimizer))
    pretrain(config, simulated, tmp_path / "whole")
    at_calls({1, 4, 9}, power_cut)
    killed = tmp_path / "killed"
    assert until_done(lambda: pretrain(config, simulated, killed), PowerCutError) == 3
    assert_same(tmp_path / "whole" / "autoencoder.keras", killed / "autoencoder.keras")
    assert losses(killed) == losses(tmp_path / "whole")


def test_finetuning_that_is_killed_ends_with_the_same_weights(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any
) -> None:
    mae = MaeFinetuning(epochs=2, warmup_epochs=1)
    config = replace(tiny_config, finetuning=Finetuning(recipe="mae", batch_size=8), mae_finetuning=mae)
    finetune(config, simulated, tmp_path / "whole", None)
    at_calls({2, 5}, power_cut)
    killed = tmp_path / "killed"
    assert until_done(lambda: finetune(config, simulated, killed, None), PowerCutError) == 2
    assert_same(tmp_path / "whole" / "classifier.keras", killed / "classifier.keras")


def test_a_frozen_encoder_is_in_the_checkpoint(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any
) -> None:
    finetuning = replace(tiny_config.finetuning, trained="head", learning_rates=(1e-2,), epochs=1)
    config = replace(tiny_config, finetuning=finetuning)
    finetune(config, simulated, tmp_path / "whole", None)
    at_calls({2}, power_cut)
    with pytest.raises(PowerCutError):
        finetune(config, simulated, tmp_path / "killed", None)
    # The encoder was random, and another one is drawn now: only the checkpoint has the first.
    config = replace(config, training=replace(config.training, seed=0))
    finetune(config, simulated, tmp_path / "killed", None)
    assert_same(tmp_path / "whole" / "classifier.keras", tmp_path / "killed" / "classifier.keras")


def test_a_preempted_training_saves_and_goes_on(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(tiny_config, training=replace(tiny_config.training, checkpoint_minutes=1000))
    pretrain(config, simulated, tmp_path / "whole")
    at_calls({2}, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(PreemptedError, match=r"pretrain is saved at step \d+; the same command goes on"):
        pretrain(config, simulated, tmp_path / "preempted")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    pretrain(config, simulated, tmp_path / "preempted")
    assert_same(tmp_path / "whole" / "autoencoder.keras", tmp_path / "preempted" / "autoencoder.keras")


def test_a_training_preempted_at_the_end_of_an_epoch_leaves_its_validation_for_later(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any
) -> None:
    training = replace(tiny_config.training, checkpoint_minutes=1000)
    pretraining = replace(tiny_config.pretraining, validation_epochs=1)
    config = replace(tiny_config, training=training, pretraining=pretraining)
    pretrain(config, simulated, tmp_path / "whole")
    steps = simulated.count("train") // 8
    for epoch in (0, 1):
        folder = tmp_path / f"after_{epoch}"
        # Calls of one step alone, so that their number is the step's.
        loop.MOST_STEPS_PER_CALL = 1
        at_calls({(epoch + 1) * steps - 1}, lambda: os.kill(os.getpid(), signal.SIGTERM))
        loop.MOST_STEPS_PER_CALL = 1
        with pytest.raises(PreemptedError, match=rf"at step {(epoch + 1) * steps};"):
            pretrain(config, simulated, folder)
        assert len(MetricsLog(folder, 1000).rows) == epoch
        pretrain(config, simulated, folder)
        assert_same(tmp_path / "whole" / "autoencoder.keras", folder / "autoencoder.keras")
        for column in ("loss", "learning_rate", "gradient_norm", "weight_norm", "validation_error"):
            assert losses(folder, column) == losses(tmp_path / "whole", column)
        (best,) = {path.name for path in (folder / "best").iterdir()} - {"00000.weights.h5"} or {"00000.weights.h5"}
        assert (tmp_path / "whole" / "best" / best).is_file()


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pretrain(tiny_config, simulated, tmp_path / "whole")
    at_calls({4}, power_cut)
    run = tmp_path / "killed"
    with pytest.raises(PowerCutError):
        pretrain(tiny_config, simulated, run)
    newest = sorted((run / "checkpoints").glob("*.data-*"), key=lambda path: path.stat().st_mtime_ns)
    assert len(newest) == 3
    damage(newest[-1])
    pretrain(tiny_config, simulated, run)
    assert f"{str(newest[-1]).split('.data-')[0]}: Expected a whole checkpoint" in caplog.text
    assert_same(tmp_path / "whole" / "autoencoder.keras", run / "autoencoder.keras")


def test_damaged_checkpoints_alone_are_refused(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, at_calls: Any
) -> None:
    at_calls({2}, power_cut)
    with pytest.raises(PowerCutError):
        pretrain(tiny_config, simulated, tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.data-*"):
        damage(path)
    with pytest.raises(
        RunError, match=r"checkpoints: Expected a whole checkpoint. Received 2, none of which can be read"
    ):
        pretrain(tiny_config, simulated, tmp_path)


def test_a_batch_in_four_parts_is_a_batch(tiny_config: Config, simulated: Manifest, tmp_path: Path) -> None:
    pretrain(tiny_config, simulated, tmp_path / "whole")
    parts = replace(tiny_config, training=replace(tiny_config.training, accumulation=4))
    pretrain(parts, simulated, tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


def test_xla_computes_the_same(tiny_config: Config, simulated: Manifest, tmp_path: Path) -> None:
    pretrain(tiny_config, simulated, tmp_path / "plain")
    compiled = replace(tiny_config, training=replace(tiny_config.training, xla=True))
    pretrain(compiled, simulated, tmp_path / "xla")
    assert losses(tmp_path / "xla") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
