import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.recordings.formats.time_column import rate_of_times


@given(
    rate_hz=st.sampled_from([100, 128, 240, 250, 256, 257, 333, 360, 400, 500, 512, 960, 977, 1000, 2000, 10_000]),
    decimals=st.integers(3, 9),
    milliseconds=st.booleans(),
    single=st.booleans(),
    start_s=st.sampled_from([0.0, 0.5, 12.0, 50_000.0, 1.7e9]),
)
def test_whole_rates_from_rounded_times(
    rate_hz: int, decimals: int, milliseconds: bool, single: bool, start_s: float
) -> None:
    times = start_s + np.arange(10 * rate_hz) / rate_hz
    times = np.round(times * 1000, decimals - 3) if milliseconds else np.round(times, decimals)
    times = times.astype(np.float32).astype(np.float64) if single else times
    found = rate_of_times(times, 1e-3 if milliseconds else 1.0)
    if single and start_s > 12:  # the clock, and seconds since 1970, in seven digits
        assert found is None or found == pytest.approx(rate_hz, rel=1e-3)
        return
    exact = 10**decimals % rate_hz == 0 and not (single and start_s)
    if exact or 10**-decimals <= 0.5 / rate_hz:
        assert found == rate_hz
    else:
        assert found is None or found == rate_hz


def test_a_rate_that_is_no_whole_number() -> None:
    assert rate_of_times(np.arange(5000) / 333.25, 1.0) == pytest.approx(333.25, rel=1e-9)
    assert rate_of_times(np.arange(5000) * 0.0039, 1.0) == pytest.approx(1 / 0.0039, rel=1e-9)


@given(
    rate_hz=st.sampled_from([100, 250, 400, 500, 1000]),
    lost=st.integers(1, 4998),
    decimals=st.integers(3, 9),
    single=st.booleans(),
    start_s=st.sampled_from([0.0, 50_000.0, 1.7e9]),
    milliseconds=st.booleans(),
)
def test_a_lost_or_doubled_sample_is_noticed(
    rate_hz: int, lost: int, decimals: int, single: bool, start_s: float, milliseconds: bool
) -> None:
    times = np.round(start_s + np.arange(5000) / rate_hz, decimals) * (1e3 if milliseconds else 1.0)
    times = times.astype(np.float32).astype(np.float64) if single else times
    assert rate_of_times(np.delete(times, lost), 1.0) is None
    assert rate_of_times(np.insert(times, lost, times[lost]), 1.0) is None


@pytest.mark.parametrize("unit_s", [1.0, 1e-3])
def test_seconds_since_1970(unit_s: float) -> None:
    times = 1.7e9 + np.arange(5000) / 500
    assert rate_of_times(times / unit_s, unit_s) == 500
    assert rate_of_times((times + 3 * (np.arange(5000) > 2500)) / unit_s, unit_s) is None
    assert rate_of_times(np.floor(times) / unit_s, unit_s) is None


def test_whole_milliseconds_of_hours() -> None:
    """They are whole in float32 as well, which says nothing of how they were stored."""
    times = np.arange(5000) * 2.0 + 1.2e7
    assert rate_of_times(times, 1e-3) == 500
    assert rate_of_times(np.delete(times, 2500), 1e-3) is None


@pytest.mark.parametrize(
    "times",
    [
        [0.0, 0.002],
        [0.0, 0.0, 0.0],
        [0.2, 0.1, 0.0],
        [0.0, 0.002, np.nan],
        [0.0, 0.002, np.inf],
        [-1e308, 0.0, 1e308],
        [0.0, 1e-320, 2e-320],
        [0.0, 0.01, 0.02, 0.02, 0.03, 0.04, 0.04],
    ],
)
def test_times_of_no_rate(times: list[float]) -> None:
    found = rate_of_times(np.array(times), 1.0)
    assert found is None or found == np.inf


def test_times_too_coarse_to_tell() -> None:
    """1000 Hz in hundredths of a second: ten samples share each time."""
    assert rate_of_times(np.floor(np.arange(5000) / 10) / 100, 1.0) is None
