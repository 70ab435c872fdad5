"""Normalisation of recordings."""

import numpy as np
import pytest

from keras_ecg_mae.layers.normalization import RecordNormalization

ECG = np.random.default_rng(0).normal(0.2, 1.0, (3, 12, 5000)).astype("float32") * np.linspace(0.1, 2, 12)[:, None]
ECG = ECG.astype("float32")


def test_record_keeps_the_relation_of_the_leads() -> None:
    normalised = np.asarray(RecordNormalization("record")(ECG))
    assert np.allclose(normalised.mean(axis=(1, 2)), 0, atol=1e-5)
    assert np.allclose(normalised.std(axis=(1, 2)), 1, atol=1e-5)
    assert np.allclose(normalised[0, 11].std() / normalised[0, 0].std(), ECG[0, 11].std() / ECG[0, 0].std(), rtol=1e-4)


def test_lead_takes_each_lead_alone() -> None:
    normalised = np.asarray(RecordNormalization("lead")(ECG))
    assert np.allclose(normalised.mean(axis=2), 0, atol=1e-5)
    assert np.allclose(normalised.std(axis=2), 1, atol=1e-5)


def test_none_leaves_millivolts() -> None:
    assert np.array_equal(np.asarray(RecordNormalization("none")(ECG)), ECG)


@pytest.mark.parametrize("mode", ["record", "lead"])
def test_a_silent_electrode_stays_silent(mode: str) -> None:
    ecg = ECG.copy()
    ecg[:, 3] = 0
    silent = np.asarray(RecordNormalization(mode)(ecg))[:, 3]
    assert np.isfinite(silent).all()
    assert np.ptp(silent, axis=1).max() == 0


def test_moments_undo_it() -> None:
    layer = RecordNormalization("record")
    mean, deviation = layer.moments(ECG)
    assert np.allclose(np.asarray(layer(ECG)) * deviation + mean, ECG, atol=1e-5)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected mode to be record, lead or none. Received 'patch'"):
        RecordNormalization("patch")
