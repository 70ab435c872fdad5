"""Delineation, held against beats whose waves are known."""

import numpy as np
import pytest

from keras_ecg_mae.evaluation.delineation import PARTS, UNKNOWN, delineate
from keras_ecg_mae.spec import LEADS

TIME_S = np.arange(5000) / 500
BEATS_S = np.arange(0.6, 10, 0.8)
# Of each wave: its centre behind the R peak and its deviation, s, and its height in lead II, mV.
WAVES = {"P": (-0.16, 0.02, 0.15), "Q": (-0.03, 0.01, -0.1), "R": (0.0, 0.012, 1.2), "S": (0.03, 0.01, -0.25)}
WAVES["T"] = (0.26, 0.04, 0.3)
# Leads' shares of them; V6's T wave is negative.
LEAD_SHARES = np.linspace(0.4, 1.0, 12)


def beating(noise_mv: float = 0.005) -> np.ndarray:
    def wave(name: str) -> np.ndarray:
        centre, deviation, height = WAVES[name]
        return sum(height * np.exp(-0.5 * ((TIME_S - beat - centre) / deviation) ** 2) for beat in BEATS_S)

    qrs, t = wave("Q") + wave("R") + wave("S"), wave("T")
    shares = zip(LEADS, LEAD_SHARES, strict=True)
    ecg = np.stack([share * (wave("P") + qrs + (-t if lead == "V6" else t)) for lead, share in shares])
    return ecg + np.random.default_rng(0).normal(size=ecg.shape) * noise_mv


def test_each_wave_is_where_it_was_put() -> None:
    parts = delineate(beating())
    assert parts is not None
    for wave, part in (("P", "P"), ("R", "QRS"), ("T", "ST-T")):
        at = np.round((BEATS_S[1:-1] + WAVES[wave][0]) * 500).astype(int)
        assert np.mean(parts[at] == PARTS.index(part)) >= 0.9, wave
    assert np.mean(parts[np.round((BEATS_S[1:-2] + 0.5) * 500).astype(int)] == PARTS.index("rest")) >= 0.9
    widths = [np.count_nonzero(parts == index) / 500 / len(BEATS_S) for index in range(len(PARTS))]
    assert 0.03 < widths[0] < 0.14
    assert 0.2 < widths[1] < 0.4
    assert 0.04 < widths[2] < 0.13
    assert np.mean(parts == UNKNOWN) < 0.2  # before the first beat and after the last


@pytest.mark.parametrize("ecg", [np.zeros((12, 5000)), np.random.default_rng(0).normal(size=(12, 5000))])
def test_what_has_no_beats_has_no_parts(ecg: np.ndarray) -> None:
    assert delineate(ecg) is None
