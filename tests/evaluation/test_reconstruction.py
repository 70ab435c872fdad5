"""Reconstruction errors by lead, part of the beat and limb leads, against what was put into the reconstructions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae.evaluation import reconstruction
from keras_ecg_mae.evaluation.reconstruction import ReconstructionErrors, read_reconstruction_errors
from keras_ecg_mae.runs.folder import RECONSTRUCTION_ERRORS
from keras_ecg_mae.spec import LEADS

GENERATOR = np.random.default_rng(0)
QRS = np.arange(5000) % 500 < 50  # a beat a second


@pytest.fixture(autouse=True)
def delineations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every recording's QRS complexes stand where `QRS` says; the list grows with each delineation."""
    calls: list[int] = []

    def known(ecg: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.where(QRS, 0, 3).astype(np.int8)

    monkeypatch.setattr(reconstruction, "delineate", known)
    return calls


def recordings(count: int = 2) -> np.ndarray:
    """Leads that keep II = I + III, `(count, 12, 5000)`, the second ten times as high as the first."""
    ecg = GENERATOR.normal(size=(count, 12, 5000)) * np.array([1.0, 10.0])[:count, None, None]
    ecg[:, LEADS.index("II")] = ecg[:, LEADS.index("I")] + ecg[:, LEADS.index("III")]
    return ecg


def hidden_three_quarters(count: int = 2) -> np.ndarray:
    mask = np.zeros((count, 12, 20))
    mask[:, :, :15] = 1
    return mask.reshape(count, 240)


def measure(
    tmp_path: Path, ecg: np.ndarray, made: np.ndarray, mask: np.ndarray
) -> tuple[dict[str, float], dict[tuple[str, ...], pd.Series]]:
    scalars, text = ReconstructionErrors()([(np.array([b"a", b"b"])[: len(ecg)], ecg, made, mask)])
    (tmp_path / RECONSTRUCTION_ERRORS).write_text(text)
    return scalars, dict(read_reconstruction_errors(tmp_path / RECONSTRUCTION_ERRORS).iterrows())


def test_a_perfect_reconstruction_has_no_error_and_keeps_einthovens_law(tmp_path: Path) -> None:
    ecg = recordings()
    scalars, found = measure(tmp_path, ecg, ecg, hidden_three_quarters())
    assert all(value == pytest.approx(0, abs=1e-12) for value in scalars.values())
    assert {name.removeprefix("reconstruction_") for name in scalars} == {
        *LEADS, "inferior", "anterior", "all_leads", "QRS", "rest", "einthoven", "einthoven_mv",
    }  # fmt: skip
    assert found["error", "all leads", "model"].recordings == 2
    # What predicts a mean is about as far off as the variance, in every place.
    for where in (*LEADS, "anterior", "QRS", "rest"):
        for predictor in ("lead's visible mean", "recording's mean"):
            assert found["error", where, predictor].share == pytest.approx(1, abs=0.02)


def test_an_error_is_found_in_its_lead_and_its_group(tmp_path: Path) -> None:
    ecg = recordings(1)
    made = ecg.copy()
    made[:, LEADS.index("V2"), :3750] += 0.5
    _, found = measure(tmp_path, ecg, made, hidden_three_quarters(1))
    assert found["error", "V2", "model"].rms_mv == pytest.approx(0.5)
    assert found["error", "V2", "model"].share == pytest.approx(0.25, rel=0.05)
    assert found["error", "anterior", "model"].share == pytest.approx(0.05, rel=0.05)
    assert found["error", "all leads", "model"].rms_mv == pytest.approx(0.5 / 12**0.5)
    assert found["error", "V3", "model"].share == found["error", "inferior", "model"].share == 0
    assert found["einthoven", "limb leads", "model"].rms_mv == pytest.approx(0, abs=1e-12)


def test_an_error_is_found_in_its_part_of_the_beat(tmp_path: Path) -> None:
    ecg = recordings(1)
    made = np.where(QRS & (np.arange(5000) < 3750), 0.0, ecg)
    _, found = measure(tmp_path, ecg, made, hidden_three_quarters(1))
    assert found["error", "QRS", "model"].share == pytest.approx(1, rel=0.02)
    assert found["error", "rest", "model"].share == 0
    assert not {where for _, where, _ in found} & {"P", "ST-T"}  # there are none


def test_einthovens_residual_in_millivolts_and_as_a_share(tmp_path: Path) -> None:
    ecg = recordings(1)
    made = ecg.copy()
    made[:, LEADS.index("III"), :3750] -= 0.3
    scalars, found = measure(tmp_path, ecg, made, hidden_three_quarters(1))
    assert scalars["reconstruction_einthoven_mv"] == pytest.approx(0.3)
    assert scalars["reconstruction_einthoven"] == pytest.approx(0.09 / 2, rel=0.05)  # II has twice the variance of I
    assert found["einthoven", "limb leads", "recording"].rms_mv == pytest.approx(0, abs=1e-12)
    # Means keep the law by themselves where all three leads are hidden, as here.
    assert found["einthoven", "limb leads", "lead's visible mean"].rms_mv < 0.1


def test_recordings_count_alike_whatever_their_amplitude(tmp_path: Path) -> None:
    ecg = recordings()
    made = ecg.copy()
    made[1] = 0  # the high one is missed, the low one is met
    _, found = measure(tmp_path, ecg, made, hidden_three_quarters())
    assert found["error", "all leads", "model"].share == pytest.approx(0.5, rel=0.02)


def test_a_recording_that_cannot_be_delineated_is_left_out_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "delineate", lambda ecg: None if ecg.std() > 5 else np.zeros(5000, np.int8))
    ecg = recordings()
    _, found = measure(tmp_path, ecg, ecg, hidden_three_quarters())
    assert found["error", "QRS", "model"].recordings == 1
    assert found["error", "all leads", "model"].recordings == 2


def test_a_recording_is_delineated_once(delineations: list[int]) -> None:
    errors, ecg = ReconstructionErrors(), recordings()
    for _ in range(3):
        errors([(np.array([b"a", b"b"]), ecg, ecg, hidden_three_quarters())])
    assert len(delineations) == 2
