"""Fine-tuning's recipes, what they train and what they start from."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ecg_mae.config import Config, Finetuning, MaeFinetuning
from keras_ecg_mae.dataset import Manifest
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.build import build_autoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.models.published_weights import state_dict
from keras_ecg_mae.runs.training_data import TrainingData, expect_training_data
from keras_ecg_mae.training.finetune import finetune
from keras_ecg_mae.training.log import MetricsLog
from tests.training.conftest import SMALLEST


def fresh_autoencoder() -> MaskedAutoencoder:
    return build_autoencoder(SMALLEST, normalization="lead", mask_ratio=0.75, normalize_target=False)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny `autoencoder.keras` and the same weights in the published naming beside it."""
    folder = tmp_path_factory.mktemp("pretrained")
    keras.utils.set_random_seed(7)
    model = fresh_autoencoder()
    model.save(folder / "autoencoder.keras")
    np.savez(folder / "published.npz", **state_dict(model))
    return folder


def one_epoch(config: Config, **changes: object) -> Config:
    finetuning = replace(config.finetuning, epochs=1, learning_rates=(1e-3,), **changes)  # type: ignore[arg-type]  # tests
    return replace(config, finetuning=finetuning)


def two_epochs_of_mae(config: Config, **changes: object) -> Config:
    finetuning = Finetuning(recipe="mae", batch_size=8, **changes)  # type: ignore[arg-type]  # tests
    return replace(config, finetuning=finetuning, mae_finetuning=MaeFinetuning(epochs=2, warmup_epochs=1))


def encoder_weights(model: Classifier | MaskedAutoencoder) -> list[np.ndarray]:
    encoder = model.encoder
    layers: tuple[keras.layers.Layer, ...] = (encoder.patch_embedding, encoder.class_token, *encoder.blocks)
    return [np.asarray(weight) for layer in layers for weight in layer.weights]


def learnt(folder: Path) -> TrainingData:
    return expect_training_data(folder, "finetune")


@pytest.mark.slow
def test_the_mae_recipe_warms_up_and_falls_to_its_smallest_rate_on_few_labels(
    tiny_config: Config, simulated: Manifest, tmp_path: Path
) -> None:
    result = finetune(two_epochs_of_mae(tiny_config, label_fraction=0.5), simulated, tmp_path, None)
    peak = 1e-3 * 8 / 256
    assert result["learning_rate"] == pytest.approx(peak)
    rows = MetricsLog(tmp_path / f"{peak:g}", 2).rows
    assert [row["learning_rate"] for row in rows] == pytest.approx([peak, 1e-6], abs=1e-9)
    model = keras.models.load_model(tmp_path / "classifier.keras")
    assert (model.encoder.drop_path, model.head_deviation) == (0.2, 2e-5)
    for split in ("train", "validation"):
        whole = simulated.count(split, labelled=True)
        assert 0.35 * whole < learnt(tmp_path).count(split) < 0.65 * whole


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "weights"), [("head", "autoencoder.keras"), ("norm_and_head", "published.npz")])
def test_a_frozen_encoder_stays_as_it_was_pretrained(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, pretrained: Path, trained: str, weights: str
) -> None:
    finetune(two_epochs_of_mae(tiny_config, trained=trained), simulated, tmp_path, pretrained / weights)
    model = keras.models.load_model(tmp_path / "classifier.keras")
    begun = keras.models.load_model(pretrained / "autoencoder.keras")
    for ours, theirs in zip(encoder_weights(model), encoder_weights(begun), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.any(np.asarray(model.head.bias) != 0)
    assert np.any(np.asarray(model.norm.beta) != 0) == (trained == "norm_and_head")
    assert model.encoder.drop_path == 0


def test_weights_of_another_shape_are_refused_by_name(
    tiny_config: Config, simulated: Manifest, tmp_path: Path, pretrained: Path
) -> None:
    state = dict(np.load(pretrained / "published.npz"))
    state["blocks.0.attn.qkv.bias"] = np.zeros(3, "float32")
    np.savez(tmp_path / "other.npz", **state)
    with pytest.raises(RunError, match=r"other.npz: Expected(.|\n)*misshapen: blocks.0.attn.qkv.bias"):
        finetune(one_epoch(tiny_config), simulated, tmp_path / "run", tmp_path / "other.npz")


@pytest.mark.slow
def test_the_cnn_is_trained_by_the_same_command(tiny_config: Config, simulated: Manifest, tmp_path: Path) -> None:
    config = replace(
        tiny_config,
        model=replace(tiny_config.model, architecture="cnn"),
        training=replace(tiny_config.training, stages=("finetune",)),
        finetuning=Finetuning(encoder="random", epochs=1, batch_size=8, learning_rates=(1e-3,)),
    )
    finetune(config, simulated, tmp_path, None)
    model = keras.models.load_model(tmp_path / "classifier.keras")
    assert isinstance(model, CnnClassifier)
    assert learnt(tmp_path).count("train") == simulated.count("train", labelled=True)
    # The moving statistics are those of training, not the fresh ones.
    assert np.any(np.asarray(model.non_trainable_variables[0]) != 0)
