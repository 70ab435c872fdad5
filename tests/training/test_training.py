"""Pretraining and fine-tuning as a user runs them: what they leave, and that they go on after an interruption."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Draws, Manifest, evaluation_batches, training_batches
from keras_ecg_mae.errors import ConfigError, DatasetError, RunError
from keras_ecg_mae.training.distribution import check_batch
from keras_ecg_mae.training.finetune import check_labels, finetune
from keras_ecg_mae.training.optimizers import AdamW
from keras_ecg_mae.training.pretrain import pretrain
from tests.training.conftest import Pretrained


def rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def summaries(folder: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor))
    return found


@pytest.mark.slow
def test_pretraining_leaves_model_picture_numbers_and_tensorboard(whole: Pretrained, simulated: Manifest) -> None:
    folder, result = whole.folder, whole.result
    table = rows(folder / "metrics.csv")
    assert [row["epoch"] for row in table] == [0, 1]
    for row in table:
        assert 0 <= row["input_wait_share"] < 1
        assert row["gradient_norm"] > 0
        assert 10 < row["weight_norm"] < 1000
        assert 0.1 < row["host_memory_gib"] < 100
    assert table[1]["validation_error"] == pytest.approx(result["validation_error"])
    assert 0.9 < result["validation_record_mean"] < 1.1
    assert result["steps"] == 2 * (simulated.count("train") // 8)
    assert json.loads((folder / "done.json").read_text()).items() >= result.items()
    assert (folder / "reconstruction.png").read_bytes().startswith(b"\x89PNG")
    shown = summaries(folder / "tensorboard")
    assert [float(loss) for loss in shown["loss/loss"]] == pytest.approx([row["loss"] for row in table], rel=1e-6)
    assert {"reconstruction", "validation/lead_visible_mean"} <= shown.keys()
    assert {tag.partition("/")[0] for tag in shown if "/" in tag} == {"loss", "machine", "rate", "validation"}
    assert list((folder / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb"))
    model = keras.models.load_model(folder / "autoencoder.keras")
    assert not model.compiled
    assert (model.encoder.count_params(), model.decoder.count_params()) == (
        result["encoder_weights"],
        result["decoder_weights"],
    )
    # The last epoch is the best.
    assert table[1]["validation_error"] < table[0]["validation_error"]
    last = model.get_weights()
    model.load_weights(folder / "best" / "00001.weights.h5")
    assert all(np.array_equal(*pair) for pair in zip(last, model.get_weights(), strict=True))


@pytest.mark.slow
def test_finetuning_keeps_the_lowest_validation_loss_over_all_rates(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    result = finetune(tiny_config, simulated, tmp_path, None)
    losses = {
        rate: [row["validation_loss"] for row in rows(tmp_path / rate / "metrics.csv")] for rate in ("0.001", "0.0003")
    }
    best = min(min(values) for values in losses.values())
    assert result["validation_loss"] == pytest.approx(best, rel=1e-6)
    assert min(losses[f"{result['learning_rate']:g}"]) == pytest.approx(best, rel=1e-6)
    assert losses[f"{result['learning_rate']:g}"].index(best) == result["epoch"]
    model = keras.models.load_model(tmp_path / "classifier.keras")
    parts = [
        (np.asarray(model.probability(batch["ecg"])), batch["label"].numpy())
        for batch in evaluation_batches(simulated, ["validation"], batch_size=64, labelled=True)
    ]
    probability, label = (np.concatenate(column) for column in zip(*parts, strict=True))
    cross_entropy = -np.mean(np.where(label == 1, np.log(probability), np.log1p(-probability)))
    assert cross_entropy == pytest.approx(best, rel=1e-4)


@pytest.mark.slow
def test_training_in_bfloat16_leaves_a_float32_classifier(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    training = replace(tiny_config.training, precision="mixed_bfloat16")
    finetuning = replace(tiny_config.finetuning, epochs=1, learning_rates=(1e-3,))
    result = finetune(replace(tiny_config, training=training, finetuning=finetuning), simulated, tmp_path, None)
    model = keras.models.load_model(tmp_path / "classifier.keras")
    assert model.encoder.dtype_policy.name == "float32"
    assert 0 < result["validation_loss"] < 2


@pytest.mark.slow
def test_a_rate_that_diverges_has_lost_and_one_ends_when_patience_does(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # At 0.5 nothing is learnt after the first epochs.
    finetuning = replace(tiny_config.finetuning, epochs=30, learning_rates=(1e30, 0.5), patience=1)
    config = replace(tiny_config, finetuning=finetuning)
    result = finetune(config, simulated, tmp_path, None)
    assert result["learning_rate"] == 0.5
    assert result["epochs"] == result["epoch"] + 2 < 30
    diverged, finite = json.loads((tmp_path / "done.json").read_text())["learning_rates"]
    assert (diverged["learning_rate"], diverged["validation_loss"]) == (1e30, None)
    assert "finite" in diverged["diverged"]
    assert finite["validation_loss"] == result["validation_loss"]
    assert "1e+30 diverged" in caplog.text
    assert (tmp_path / "classifier.keras").is_file()
    # Given again it is not tried again; alone it is no result, and the stage is not done.
    alone = replace(config, finetuning=replace(finetuning, learning_rates=(1e30,)))
    (tmp_path / "done.json").unlink()
    with pytest.raises(RunError, match=r"1e\+30 diverged"):
        finetune(alone, simulated, tmp_path, None)
    assert not (tmp_path / "done.json").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_lists_the_recordings(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    pretraining = replace(tiny_config.pretraining, base_learning_rate=1e30, warmup_epochs=0)
    training = replace(tiny_config.training, checkpoint_minutes=10)
    message = r"Received the loss nan and the norm nan in step 1 \(epoch 0\), whose 8 recordings not_finite.csv lists"
    with pytest.raises(RunError, match=message):
        pretrain(replace(tiny_config, pretraining=pretraining, training=training), simulated, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    with (tmp_path / "not_finite.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    second = [batch for _, batch in zip(range(2), first_batches(simulated), strict=False)][1]
    assert {row["record_id"] for row in listed} == {record.decode() for record in second["record_id"].numpy()}
    peaks = [float(row["largest_mv"]) for row in listed]
    assert peaks == sorted(peaks, reverse=True)


def first_batches(manifest: Manifest) -> tf.data.Dataset:
    draws = Draws(time_shift=True, mask_noise=True)
    return training_batches(manifest, batch_size=8, epochs=1, seed=0, labelled=False, draws=draws)


@pytest.mark.slow
def test_keras_callbacks_see_the_training_and_may_end_it(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    seen: list[tuple[int, dict[str, float]]] = []

    class Ends(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            assert np.isfinite(logs["loss"])

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            seen.append((epoch, dict(logs)))
            assert self.model.optimizer.iterations == self.params["steps"]
            self.model.stop_training = True

    whole = keras.callbacks.ModelCheckpoint(tmp_path / "whole.keras")
    csv_logger = keras.callbacks.CSVLogger(str(tmp_path / "keras.csv"))
    pretrain(tiny_config, simulated, tmp_path, [Ends(), csv_logger, whole])
    assert [epoch for epoch, _ in seen] == [0]
    table = rows(tmp_path / "metrics.csv")
    assert len(table) == 1
    with (tmp_path / "keras.csv").open(newline="") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == pytest.approx([table[0]["loss"]])
    optimizer = keras.models.load_model(tmp_path / "whole.keras").optimizer
    assert isinstance(optimizer, AdamW)
    assert optimizer.iterations == simulated.count("train") // 8
    assert any(np.any(np.asarray(momentum) != 0) for momentum in optimizer.variables[2:])


def test_one_class_only_is_refused(simulated: Manifest) -> None:
    counts = tuple(replace(count, positive=0) if count.split == "validation" else count for count in simulated.counts)
    with pytest.raises(DatasetError, match=r"in the split validation. Received 0 positive of"):
        check_labels(replace(simulated, counts=counts))


def test_a_batch_that_replicas_cannot_share_is_refused() -> None:
    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(ConfigError, match=r"to be a multiple of the 3 replicas x --accumulation=2. Received 9"):
        check_batch("pretrain_batch_size", 9, Three(), accumulation=2)
