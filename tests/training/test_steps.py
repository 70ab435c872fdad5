"""The compiled steps: the same bits every time, and the same gradients whatever is kept or computed again."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.models.autoencoder import reconstruction_loss
from keras_ecg_mae.models.build import ARCHITECTURES, build_autoencoder, build_classifier
from keras_ecg_mae.training.steps import Losses, compiled_steps

BATCH = 16


def batch() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "ecg": generator.normal(size=(BATCH, 12, 5000)).astype("float32"),
        "label": (np.arange(BATCH) % 3 == 0).astype("float32"),
        "mask_noise": generator.random((BATCH, 240), "float32"),
        "path_noise": generator.random((BATCH, 4, 2), "float32"),
    }


def moments(model: keras.Model, losses: Losses, steps: int, **settings: Any) -> list[np.ndarray]:
    """What Adam has seen of the gradients of some steps that left the weights as they were."""
    optimizer = keras.optimizers.Adam(0.0)
    optimizer.build(model.trainable_variables)
    run_steps = compiled_steps(tf.distribute.get_strategy(), model, optimizer, losses, BATCH, **settings)
    measured = run_steps(iter(tf.data.Dataset.from_tensors(batch()).repeat()), tf.constant(steps))
    assert np.all(np.isfinite(measured["losses"]))
    return [np.asarray(variable) for variable in optimizer.variables[2:]]


def classifier() -> tuple[keras.Model, Losses]:
    keras.utils.set_random_seed(0)
    transformer = ARCHITECTURES["tiny"].encoder
    model = build_classifier(transformer, normalization="record", pooling="mean", drop_path=0.3)
    return model, lambda batch: tf.nn.sigmoid_cross_entropy_with_logits(
        batch["label"], model(batch["ecg"], training=True, path_noise=batch["path_noise"])
    )


def autoencoder(**settings: Any) -> tuple[keras.Model, Losses]:
    keras.utils.set_random_seed(0)
    model = build_autoencoder(
        ARCHITECTURES["tiny"], normalization="record", mask_ratio=0.75, normalize_target=False, **settings
    )
    return model, lambda batch: reconstruction_loss(model(batch["ecg"], batch["mask_noise"], training=True))


@pytest.mark.slow
def test_the_same_steps_give_the_same_bits() -> None:
    model, losses = classifier()
    first, second = (moments(model, losses, 30) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "settings"), [(autoencoder, {}), (classifier, {"accumulation": 4})], ids=["whole", "in four parts"]
)
def test_gradients_are_the_same_when_blocks_are_computed_again(make: Any, settings: dict[str, int]) -> None:
    model, losses = make()
    kept = moments(model, losses, 1, **settings)
    for part in ("encoder", "decoder"):
        if hasattr(model, part):
            getattr(model, part).rematerialize = True
    again = moments(model, losses, 1, **settings)
    assert any(np.any(one != 0) for one in kept)
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6 * np.abs(one).max())


def test_the_process_keeps_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    model = keras.Sequential([keras.Input((12, 5000)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)])
    before, during = tf.config.optimizer.get_experimental_options(), []

    def losses(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        during.append(tf.config.optimizer.get_experimental_options()["arithmetic_optimization"])
        return tf.square(model(batch["ecg"])[:, 0])

    moments(model, losses, 1)
    assert during == [False]  # while the steps are compiled and run, so that they give the same bits every time
    after = tf.config.optimizer.get_experimental_options()
    assert after == {**before, "arithmetic_optimization": before.get("arithmetic_optimization", True)}


def test_computing_again_is_no_part_of_the_model() -> None:
    model, _ = autoencoder()
    model.encoder.rematerialize = True
    copy = type(model).from_config(model.get_config())
    assert not copy.encoder.rematerialize
    assert [weight.path for weight in copy.weights] == [weight.path for weight in model.weights]
