"""The masked autoencoder."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_ecg_mae.models.autoencoder import (
    MaskedAutoencoder,
    patch_normalized,
    reconstruction_errors,
    reconstruction_loss,
)
from keras_ecg_mae.models.build import ARCHITECTURES, Architecture, Transformer, build_autoencoder
from keras_ecg_mae.models.decoder import Decoder

SMALL = Architecture(Transformer(16, 2, 2), Transformer(8, 1, 2))
GENERATOR = np.random.default_rng(0)
ECG = GENERATOR.normal(size=(2, 12, 5000)).astype("float32")
NOISE = GENERATOR.random((2, 240), "float32")


def small(**changes: Any) -> MaskedAutoencoder:
    settings = {"normalization": "record", "mask_ratio": 0.75, "normalize_target": False, **changes}
    return build_autoencoder(SMALL, **settings)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_every_small_size_runs(size: str) -> None:
    model = build_autoencoder(ARCHITECTURES[size], normalization="record", mask_ratio=0.75, normalize_target=False)
    output = model(ECG, NOISE)
    assert output["prediction"].shape == (2, 240, 250)
    assert output["latent"].shape == (2, 61, ARCHITECTURES[size].encoder.width)


def test_the_encoder_never_sees_a_removed_patch() -> None:
    model = small(normalization="none")
    mask = np.asarray(model(ECG, NOISE)["mask"])
    other = ECG.reshape(2, 240, 250).copy()
    other[mask == 1] += 100.0
    before, after = model(ECG, NOISE), model(other.reshape(ECG.shape), NOISE)
    assert np.array_equal(np.asarray(before["prediction"]), np.asarray(after["prediction"]))
    assert not np.array_equal(np.asarray(reconstruction_loss(before)), np.asarray(reconstruction_loss(after)))


def test_every_visible_patch_counts() -> None:
    model = small(normalization="none")
    mask = np.asarray(model(ECG, NOISE)["mask"])
    seen = np.flatnonzero(mask[0] == 0)
    for patch in (seen[0], seen[-1]):
        other = ECG.reshape(2, 240, 250).copy()
        other[0, patch] += 1.0
        difference = np.asarray(model(ECG, NOISE)["prediction"]) - model(other.reshape(ECG.shape), NOISE)["prediction"]
        assert np.abs(difference[0]).max() > 0
        assert np.abs(difference[1]).max() == 0


def test_without_noise_each_call_draws_another_mask() -> None:
    model = small()
    first, second = (np.asarray(model(ECG)["mask"]) for _ in range(2))
    assert (first.sum(axis=1) == 180).all()
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_the_loss_looks_at_removed_patches_only() -> None:
    target = np.zeros((1, 240, 250), "float32")
    mask = np.zeros((1, 240), "float32")
    mask[0, :4] = 1
    prediction = np.full_like(target, 7.0)
    prediction[0, :4] = [[1.0], [1.0], [1.0], [3.0]]
    loss = reconstruction_loss({"prediction": prediction, "target": target, "mask": mask})
    assert np.asarray(loss).tolist() == [3.0]  # (1 + 1 + 1 + 9) / 4


def test_trivial_predictors_are_what_they_say() -> None:
    generator = np.random.default_rng(1)
    target = generator.normal(size=(1, 240, 250)).astype("float32")
    target += np.repeat(generator.normal(size=12) * 2, 20)[None, :, None]  # leads of different means
    mask = (generator.random((1, 240)) < 0.75).astype("float32")
    mask[0, :20] = 1  # a lead without a visible patch
    errors = reconstruction_errors({"prediction": np.zeros_like(target), "target": target, "mask": mask})
    removed = mask[0] == 1
    variance = target.var()
    assert np.isclose(np.asarray(errors["error"])[0], (target[0, removed] ** 2).mean() / variance, rtol=1e-4)
    assert np.isclose(
        np.asarray(errors["record_mean"])[0], ((target[0, removed] - target.mean()) ** 2).mean() / variance, rtol=1e-4
    )
    squares = []
    for lead in range(12):
        here = np.arange(240) // 20 == lead
        seen = target[0, here & ~removed]
        mean = seen.mean() if seen.size else target.mean()
        squares.append(((target[0, here & removed] - mean) ** 2).ravel())
    assert np.isclose(np.asarray(errors["lead_visible_mean"])[0], np.concatenate(squares).mean() / variance, rtol=1e-4)


def test_target_normalisation_uses_the_unbiased_variance() -> None:
    patches = np.random.default_rng(2).normal(3, 2, (1, 240, 250)).astype("float32")
    normalised, mean, deviation = (np.asarray(part) for part in patch_normalized(patches))
    assert np.allclose(deviation[..., 0], patches.std(axis=-1, ddof=1), rtol=1e-4)
    assert np.allclose(normalised * deviation + mean, patches, atol=1e-4)


@pytest.mark.parametrize("normalize_target", [False, True])
def test_reconstruction_is_in_millivolts_and_keeps_what_was_visible(normalize_target: bool) -> None:
    model = small(normalize_target=normalize_target)
    ecg = ECG * 0.2 + 0.1
    reconstructed, mask = model.reconstruct(ecg, NOISE)
    reconstructed = np.asarray(reconstructed).reshape(2, 240, 250)
    visible = np.asarray(mask) == 0
    assert np.allclose(reconstructed[visible], ecg.reshape(2, 240, 250)[visible], atol=1e-5)
    assert not np.allclose(reconstructed[~visible], ecg.reshape(2, 240, 250)[~visible], atol=1e-2)


def test_a_compiled_call_takes_batches_of_any_size() -> None:
    import tensorflow as tf

    model = small()
    specification = (tf.TensorSpec((None, 12, 5000)), tf.TensorSpec((None, 240)))
    compiled = tf.function(lambda ecg, noise: model(ecg, noise)["prediction"], input_signature=specification)
    for batch in (1, 2):
        assert np.allclose(
            compiled(ECG[:batch], NOISE[:batch]), model(ECG[:batch], NOISE[:batch])["prediction"], atol=1e-5
        )


def test_saving_and_loading_keeps_settings_and_predictions(tmp_path: Path) -> None:
    model = small(normalization="lead", mask_ratio=0.5, normalize_target=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for part in ("encoder", "decoder"):
        assert getattr(again, part).get_config() == getattr(model, part).get_config()
    assert (again.mask_ratio, again.normalize_target, again.normalization.mode) == (0.5, True, "lead")
    for name, value in model(ECG, NOISE).items():
        assert np.array_equal(np.asarray(value), np.asarray(again(ECG, NOISE)[name])), name


def test_bfloat16_keeps_masks_targets_and_predictions_in_float32() -> None:
    model = small(dtype="mixed_bfloat16")
    model.set_weights(small().get_weights())
    output = model(ECG, NOISE)
    assert output["latent"].dtype.name == "bfloat16"
    assert output["prediction"].dtype.name == output["target"].dtype.name == "float32"
    assert np.array_equal(np.asarray(output["mask"]), np.asarray(small()(ECG, NOISE)["mask"]))


def test_each_part_is_built_that_is_not() -> None:
    encoder = small().encoder
    model = MaskedAutoencoder(encoder, Decoder(8, 1, 2))
    assert len(model.decoder.weights) == len(small().decoder.weights)
    assert len(model.trainable_variables) == len(small().trainable_variables)


def test_one_batch_can_be_learnt() -> None:
    keras.utils.set_random_seed(0)
    model = small()
    time = np.arange(5000) / 500
    ecg = np.stack([np.sin(2 * np.pi * time + lead) for lead in range(12)])[None].astype("float32")
    optimizer = keras.optimizers.Adam(5e-3)
    losses = learn(model, optimizer, ecg, NOISE[:1], 150)
    assert min(losses) < 0.6 * losses[0]  # the last may be a spike, at so high a rate


def learn(model: MaskedAutoencoder, optimizer: Any, ecg: np.ndarray, noise: np.ndarray, steps: int) -> list[float]:
    import tensorflow as tf

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(reconstruction_loss(model(ecg, noise, training=True)))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    optimizer.build(model.trainable_variables)
    return [float(step()) for _ in range(steps)]
