"""The product of matrices gives what scipy's loop does."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import firwin, resample_poly

from keras_ecg_mae.recordings.polyphase import FILTER_BETA, FILTER_REACH, polyphase

RATES_HZ = [100, 128, 200, 240, 250, 256, 257, 360, 400, 600, 977, 1000, 1200, 2000, 10_000]


def by_scipy(rows: np.ndarray, ratio: Fraction) -> np.ndarray:
    factor = max(ratio.as_integer_ratio())
    taps = firwin(2 * FILTER_REACH * factor + 1, 1 / factor, window=("kaiser", FILTER_BETA))
    resampled: np.ndarray = resample_poly(rows, ratio.numerator, ratio.denominator, axis=1, window=taps)
    return resampled


@given(st.sampled_from(RATES_HZ), st.integers(1, 700), st.integers(1, 3))
def test_as_scipys(rate_hz: int, samples: int, leads: int) -> None:
    rows = np.random.default_rng(samples).standard_normal((leads, samples))
    ratio = Fraction(500, rate_hz)
    np.testing.assert_allclose(polyphase(rows, ratio), by_scipy(rows, ratio), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_ten_seconds(rate_hz: int) -> None:
    rows = np.cumsum(np.random.default_rng(0).standard_normal((2, 10 * rate_hz)), axis=1)
    ratio = Fraction(500, rate_hz)
    resampled = polyphase(rows, ratio)
    assert resampled.shape == (2, 5000)
    np.testing.assert_allclose(resampled, by_scipy(rows, ratio), rtol=0, atol=1e-10)
