import numpy as np
import pytest

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.quality import check_amplitude, check_flat_leads


def beats(peak_mv: float = 1.2) -> np.ndarray:
    """Twelve leads of narrow peaks on a zero line."""
    ecg_mv = np.zeros((12, 5000))
    ecg_mv[:, 250::500] = peak_mv
    return ecg_mv


def test_flat_leads_are_named() -> None:
    ecg_mv = beats()
    ecg_mv[0] = 0.0
    ecg_mv[5] = -3.0
    ecg_mv[11] = np.random.default_rng(0).choice([0.0, 0.001], 5000)  # a step of noise is no signal
    check_flat_leads("a", ecg_mv, 3)
    with pytest.raises(RecordingError, match=r"a: Expected at most 2 flat leads\. Received 3: I, aVF, V6\.") as caught:
        check_flat_leads("a", ecg_mv, 2)
    assert caught.value.code == "flat_leads"


@pytest.mark.parametrize("peak_mv", [0.05, 1.2, 8.0, 19.9, -19.9])
def test_amplitudes_a_heart_has(peak_mv: float) -> None:
    check_amplitude("a", beats(peak_mv) + 200.0)


@pytest.mark.parametrize(
    ("peak_mv", "question"),
    [(20.1, "microvolts"), (-1200.0, "microvolts"), (np.inf, "microvolts"), (0.0012, "volts"), (1e-9, "volts")],
)
def test_amplitudes_of_another_unit(peak_mv: float, question: str) -> None:
    with pytest.raises(RecordingError, match=f"are the samples in {question}") as caught:
        check_amplitude("a", beats(peak_mv))
    assert caught.value.code == "amplitude"


def test_one_lead_out_of_range_is_named() -> None:
    ecg_mv = beats()
    ecg_mv[8, 77] = 25.0
    with pytest.raises(RecordingError, match="Received 25 mV in lead V3"):
        check_amplitude("a", ecg_mv)


def test_no_signal_at_all_is_no_question_of_units() -> None:
    check_amplitude("a", np.full((12, 5000), 0.3))
