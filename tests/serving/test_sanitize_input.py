"""The gates of recordings/, as a served model has them."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.dataset.example import Metadata, decode, encode_units, to_units
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.quality import check_amplitude, check_flat_leads
from keras_ecg_mae.serving.signatures import sanitize_input

NOBODY = Metadata("record", "", "", None, None, None, "")
sanitize_in_graph = tf.function(sanitize_input)


def accepted(ecg_mv: np.ndarray, max_flat_leads: int) -> bool:
    """Whether `prepare` takes a recording, and can store it."""
    try:
        check_amplitude("record", ecg_mv)
        check_flat_leads("record", ecg_mv, max_flat_leads)
        encode_units(to_units("record", ecg_mv), NOBODY)
    except RecordingError:
        return False
    return True


def stored(ecg_mv: np.ndarray) -> np.ndarray:
    return decode(tf.constant([encode_units(to_units("record", ecg_mv), NOBODY)]), ["ecg"])["ecg"].numpy()[0]


@given(
    scale_mv=st.sampled_from([1e-3, 9e-3, 0.0102, 0.5, 3.0, 9.9, 19.0, 500.0]),
    offset_mv=st.sampled_from([0.0, 1.0, -12.0, 30.0]),
    flat=st.integers(0, 4),
    flat_mv=st.sampled_from([0.0, 0.0021, 0.00275]),
    spike_mv=st.sampled_from([0.0, 15.0, 22.0, -25.0]),
    max_flat_leads=st.sampled_from([0, 2]),
    seed=st.integers(0, 1000),
)
def test_what_prepare_accepts_is_served_and_nothing_else(
    scale_mv: float, offset_mv: float, flat: int, flat_mv: float, spike_mv: float, max_flat_leads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    wave = np.sin(np.linspace(0, 40, 5000)) * rng.uniform(0.3, 1, (12, 1))
    wave[0] /= np.abs(wave[0]).max()
    ecg = wave * scale_mv
    ecg[12 - flat :] = flat_mv * np.sign(wave[12 - flat :])
    ecg[0, 2000] += spike_mv
    ecg += offset_mv
    expected = accepted(ecg, max_flat_leads)
    received, ok = sanitize_in_graph(tf.constant(ecg[None], tf.float32), max_flat_leads)
    assert bool(ok[0]) == expected
    assert np.array_equal(received[0], stored(ecg.astype(np.float32)) if expected else np.zeros((12, 5000)))


@pytest.mark.parametrize("lead_mv", [0.00501, 0.00549, 0.0051])
def test_what_storing_moves_below_a_limit_is_served(lead_mv: float) -> None:
    ecg = np.tile(np.sin(np.linspace(0, 40, 5000)), (12, 1))
    ecg[3] = lead_mv * (np.arange(5000) % 2) + 0.00049
    assert accepted(ecg, 0)
    assert sanitize_in_graph(tf.constant(stored(ecg)[None]), 0)[1][0]


def test_what_is_refused_leaves_the_rest_of_a_batch_alone() -> None:
    ecg = np.tile(np.sin(np.linspace(0, 40, 5000)), (5, 12, 1)).astype(np.float32)
    whole, _ = sanitize_in_graph(tf.constant(ecg), 0)
    ecg[1], ecg[2, 5, 17], ecg[3, 5, 17] = 0, np.nan, np.inf
    received, ok = sanitize_in_graph(tf.constant(ecg), 0)
    assert ok.numpy().tolist() == [True, False, False, False, True]
    assert np.array_equal(received[ok], whole[ok])
    assert not np.any(received[~ok])


def test_a_stored_recording_stays_as_it_is_bit_for_bit() -> None:
    units = np.random.default_rng(0).integers(-3000, 3000, (2, 12, 5000))
    ecg = np.stack([stored(one * 1e-3) for one in units])
    assert np.array_equal(sanitize_in_graph(tf.constant(ecg), 0)[0], ecg)


def test_no_recordings_are_none() -> None:
    received, ok = sanitize_in_graph(tf.zeros((0, 12, 5000)), 0)
    assert received.shape == (0, 12, 5000)
    assert ok.shape == (0,)
