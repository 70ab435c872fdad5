"""The classifier and what it takes from a pretrained autoencoder."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ecg_mae.models.build import (
    Architecture,
    Transformer,
    build_autoencoder,
    build_classifier,
    load_pretrained_encoder,
)
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.encoder import Encoder

SMALL = Architecture(Transformer(16, 2, 2), Transformer(8, 1, 2))
ECG = np.random.default_rng(0).normal(size=(3, 12, 5000)).astype("float32")


def small(pooling: str = "mean", normalization: str = "record", **changes: float) -> Classifier:
    return build_classifier(SMALL.encoder, normalization=normalization, pooling=pooling, **changes)


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_a_logit_and_a_probability_a_recording(pooling: str) -> None:
    model = small(pooling)
    logits = np.asarray(model(ECG))
    assert logits.shape == (3,)
    assert np.allclose(np.asarray(model.probability(ECG)), 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert model.features(ECG).shape == (3, 16)


def test_scale_and_offset_of_a_recording_do_not_matter() -> None:
    model = small()
    assert np.allclose(np.asarray(model(ECG)), np.asarray(model(ECG * 2 + 0.5)), atol=1e-4)


def test_the_head_starts_near_zero() -> None:
    for deviation in (0.01, 2e-5):
        model = build_classifier(
            Transformer(64, 1, 2), normalization="record", pooling="mean", head_deviation=deviation
        )
        assert np.std(np.asarray(model.head.kernel)) == pytest.approx(deviation, rel=0.35)
        assert Classifier.from_config(model.get_config()).head_deviation == deviation


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_the_pretrained_encoder_is_taken_whole(pooling: str) -> None:
    keras.utils.set_random_seed(1)
    autoencoder = build_autoencoder(SMALL, normalization="record", mask_ratio=0.75, normalize_target=False)
    for weight in autoencoder.encoder.trainable_weights:  # so that zeros and ones of fresh weights cannot hide a miss
        weight.assign(keras.random.normal(weight.shape, stddev=0.1))
    classifier = small(pooling)
    load_pretrained_encoder(classifier, autoencoder)
    norm = autoencoder.encoder.norm
    assert norm is not None
    theirs = autoencoder.encoder(np.asarray(autoencoder.normalization(ECG)).reshape(3, 240, 250))
    if pooling == "class_token":  # the pretrained norm is the classifier's
        assert np.allclose(np.asarray(classifier.features(ECG)), np.asarray(theirs)[:, 0], atol=1e-4)
    ours = classifier.encoder(np.asarray(classifier.normalization(ECG)).reshape(3, 240, 250))
    assert np.allclose(np.asarray(norm(ours)), np.asarray(theirs), atol=1e-4)


def test_an_encoder_of_another_shape_or_normalisation_is_refused() -> None:
    other = build_autoencoder(
        Architecture(Transformer(16, 3, 2), SMALL.decoder),
        normalization="record",
        mask_ratio=0.75,
        normalize_target=False,
    )
    with pytest.raises(ValueError, match=r"Expected a pretrained encoder of depth 2. Received 3"):
        load_pretrained_encoder(small(), other)
    same = build_autoencoder(SMALL, normalization="lead", mask_ratio=0.75, normalize_target=False)
    with pytest.raises(ValueError, match=r"Expected an encoder pretrained with normalization record. Received lead"):
        load_pretrained_encoder(small(), same)


def test_an_encoder_with_a_final_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected an encoder without final norm"):
        Classifier(Encoder(16, 2, 2))


def test_saving_and_loading_keeps_settings_and_predictions(tmp_path: Path) -> None:
    model = small("class_token", "lead", drop_path=0.1)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.encoder.get_config() == model.encoder.get_config()
    assert (again.pooling, again.normalization.mode) == ("class_token", "lead")
    assert np.array_equal(np.asarray(model(ECG)), np.asarray(again(ECG)))
