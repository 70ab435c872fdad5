"""The convolutional baseline: its layout and where that comes from, and what the classifier keeps when it is saved."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras_ecg_mae.models.cnn import STATED, TAKEN, CnnClassifier, CnnLayout

SMALL = CnnLayout(
    temporal_filters=(4, 8),
    temporal_kernels=(5, 3),
    temporal_pools=(10, 10),
    spatial_filters=8,
    features=6,
    dense=(5, 4),
)
ECG = np.random.default_rng(0).normal(size=(3, 12, 5000)).astype("float32")


def test_every_value_of_the_layout_says_where_it_comes_from() -> None:
    for field in fields(CnnLayout):
        assert field.metadata["origin"] in (STATED, TAKEN), field.name
        assert len(field.metadata["source"]) > 20, field.name
    origins = {field.name: field.metadata["origin"] for field in fields(CnnLayout)}
    assert {name for name, origin in origins.items() if origin == STATED} == {"features"}
    assert len(CnnLayout().temporal_filters) == 6  # stated as well, their sizes are not
    assert len(CnnLayout().dense) == 2


def test_the_network_has_the_weights_its_layout_says() -> None:
    layout = CnnLayout()
    channels = (1, *layout.temporal_filters)
    temporal = sum(
        kernel * before * after
        for kernel, before, after in zip(layout.temporal_kernels, channels[:-1], channels[1:], strict=True)
    )
    assert temporal == 5 * 16 + 5 * 16 * 16 + 5 * 16 * 32 + 3 * 32 * 32 + 3 * 32 * 64 + 3 * 64 * 64
    spatial = 12 * 64 * 128
    dense = 19 * 128 * 128 + 128 * 64 + 64 * 32 + 32 + 1
    norms = 16 + 16 + 32 + 32 + 64 + 64 + 128 + 128 + 64 + 32
    model = CnnClassifier()
    assert sum(weight.shape.num_elements() for weight in model.trainable_weights) == (
        temporal + spatial + dense + 2 * norms
    )
    assert model.count_params() == temporal + spatial + dense + 4 * norms == 447_601


def test_a_logit_a_probability_and_128_features_a_recording() -> None:
    model = CnnClassifier()
    assert CnnLayout().positions == 19
    logits = np.asarray(model(ECG))
    assert logits.shape == (3,)
    assert np.allclose(np.asarray(model.probability(ECG)), 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert model.features(ECG).shape == (3, 128)


def test_pooling_leaves_out_the_last_20_ms_and_no_more() -> None:
    model = CnnClassifier(normalization="none")
    before = np.asarray(model.features(ECG))
    unread, read = ECG.copy(), ECG.copy()
    unread[:, :, 4990:] += 100
    read[:, :, 4989] += 100
    assert np.array_equal(np.asarray(model.features(unread)), before)
    assert not np.allclose(np.asarray(model.features(read)), before, rtol=1e-3)


def test_every_lead_is_read_by_the_same_temporal_weights() -> None:
    model = CnnClassifier(SMALL)
    maps = ECG[..., np.newaxis]
    for block in model.encoder.temporal:
        maps = block(maps)
    assert maps.shape == (3, 12, 50, 8)
    swapped = ECG[:, ::-1, :, np.newaxis]
    for block in model.encoder.temporal:
        swapped = block(swapped)
    assert np.allclose(np.asarray(swapped), np.asarray(maps)[:, ::-1], atol=1e-5)
    assert not np.allclose(np.asarray(model(ECG[:, ::-1])), np.asarray(model(ECG)), rtol=1e-3)


def test_scale_and_offset_of_a_recording_do_not_matter() -> None:
    model = CnnClassifier(SMALL)
    assert np.allclose(np.asarray(model(ECG)), np.asarray(model(ECG * 2 + 0.5)), atol=1e-4)
    plain = CnnClassifier(SMALL, normalization="none")
    assert not np.allclose(np.asarray(plain(ECG)), np.asarray(plain(ECG * 2 + 0.5)), atol=1e-4)


def test_it_learns_which_recordings_have_a_pulse() -> None:
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(1)
    ecg = generator.normal(size=(64, 12, 5000)).astype("float32")
    label = (np.arange(64) % 2).astype("float32")
    ecg[label == 1, :, ::250] += 8
    model = CnnClassifier(SMALL)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(ecg[:32], label[:32], batch_size=16, epochs=15, verbose=0)
    # By the moving statistics, and on recordings it has not seen.
    assert np.mean((np.asarray(model(ecg[32:], training=False)) > 0) == (label[32:] == 1)) > 0.9


def test_saving_and_loading_keeps_layout_statistics_and_predictions(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = CnnClassifier(SMALL, normalization="lead")
    before = np.asarray(model(ECG))
    model(ECG, training=True)  # moves the statistics
    assert not np.allclose(np.asarray(model(ECG)), before, rtol=1e-3)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.encoder.layout == SMALL
    assert again.normalization.mode == "lead"
    assert np.array_equal(np.asarray(again(ECG)), np.asarray(model(ECG)))
    model.save_weights(tmp_path / "best.weights.h5")
    fresh = CnnClassifier(SMALL, normalization="lead")
    fresh.load_weights(tmp_path / "best.weights.h5")
    assert np.array_equal(np.asarray(fresh(ECG)), np.asarray(model(ECG)))


def test_the_config_makes_the_same_network() -> None:
    model = CnnClassifier(SMALL, normalization="none", dtype="mixed_bfloat16")
    again = CnnClassifier.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in model.weights]
    assert again.encoder.dtype_policy.name == "mixed_bfloat16"


def test_convolutions_in_bfloat16_leave_features_and_logits_in_float32() -> None:
    keras.utils.set_random_seed(0)
    exact = CnnClassifier(SMALL)
    model = CnnClassifier(SMALL, dtype="mixed_bfloat16")
    model.set_weights(exact.get_weights())
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert model.encoder(ECG).dtype.name == "bfloat16"
    outputs = (model(ECG), model(ECG, training=True), model.features(ECG), model.probability(ECG))
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {"float32"}
    features = np.asarray(exact.features(ECG, training=True))
    assert np.allclose(np.asarray(model.features(ECG, training=True)), features, atol=0.1)
    assert features.max() > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_kernels": (5, 5)}, r"as many temporal blocks. Received \[6, 2, 6\]"),
        ({"dense": (64, 0)}, r"Expected positive sizes"),
        ({"temporal_pools": (10, 10, 10, 10, 1, 1)}, r"leave of 5000 samples at least one"),
    ],
)
def test_an_impossible_layout_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CnnLayout(**changes)
