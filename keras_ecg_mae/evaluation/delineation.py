"""Where the waves of a recording's beats lie, by the published delineation that NeuroKit2 has."""

import warnings

import numpy as np
from scipy.signal import butter, sosfiltfilt

from keras_ecg_mae.spec import LEADS, SAMPLING_RATE_HZ

PARTS = ("QRS", "ST-T", "P", "rest")
UNKNOWN = -1  # of a sample that belongs to no beat that was delineated whole
# Emrich et al. delineate what has been filtered to this band.
_BAND_HZ = (0.5, 40.0)
_QRS_S = (0.04, 0.2)
_FEWEST_BEATS = 3


def delineate(ecg_mv: np.ndarray) -> np.ndarray | None:
    """Which part of a beat each sample belongs to.

    The boundaries are those of all leads together. QRS complex and T wave are delineated on the root mean square over
    the leads, where neither is negative; the P wave, which is lost in the noise there, on lead II. The method is that
    of Emrich et al. 2024 (Physiology-Informed ECG Delineation Based on Peak Prominence, EUSIPCO), the R peaks are those
    of NeuroKit2's own detector. ST-T goes from the end of the QRS complex to that of the T wave; `rest` from there to
    the next QRS complex, without the P wave. The method takes a P wave for granted: in atrial fibrillation its
    P is what was highest before the QRS complex.

    Args:
        ecg_mv: `(12, samples)` at 500 Hz, millivolts.

    Returns:
        `(samples,)` int8, an index of `PARTS` or `UNKNOWN`; None where under half of the beats, or fewer than three,
        have a QRS complex of 40 to 200 ms and a T wave behind it.
    """
    filtered_mv = sosfiltfilt(butter(2, _BAND_HZ, "bandpass", fs=SAMPLING_RATE_HZ, output="sos"), ecg_mv, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what SciPy deprecates, and takes means of nothing
        import neurokit2  # seconds to import

        try:
            together_mv = np.sqrt(np.mean(np.square(filtered_mv), axis=0))
            peaks = neurokit2.ecg_findpeaks(together_mv, sampling_rate=SAMPLING_RATE_HZ)["ECG_R_Peaks"]
            if len(peaks) < _FEWEST_BEATS:
                return None
            waves, p_waves = (
                neurokit2.ecg_delineate(signal, peaks, sampling_rate=SAMPLING_RATE_HZ, method="prominence")[1]
                for signal in (together_mv, filtered_mv[LEADS.index("II")])
            )
        except (IndexError, ValueError):  # what it ends with on noise
            return None
    on, off, t_off = (_places(waves[f"ECG_{name}"], peaks) for name in ("R_Onsets", "R_Offsets", "T_Offsets"))
    p_on, p_off = (_places(p_waves[f"ECG_{name}"], peaks) for name in ("P_Onsets", "P_Offsets"))
    width_s = (off - on) / SAMPLING_RATE_HZ
    before_next = np.append(t_off[:-1] <= on[1:], True)
    whole = (width_s >= _QRS_S[0]) & (width_s <= _QRS_S[1]) & (t_off > off) & before_next
    if np.count_nonzero(whole) < max(_FEWEST_BEATS, len(peaks) / 2):
        return None
    return _parts(ecg_mv.shape[1], whole, on, off, t_off, p_on, p_off)


def _places(found: list[float], peaks: np.ndarray) -> np.ndarray:
    """Samples, one a beat, NaN where there is none."""
    places = np.full(len(peaks), np.nan)
    places[: len(found)] = found
    return places


def _parts(
    samples: int,
    whole: np.ndarray,
    on: np.ndarray,
    off: np.ndarray,
    t_off: np.ndarray,
    p_on: np.ndarray,
    p_off: np.ndarray,
) -> np.ndarray:
    parts = np.full(samples, UNKNOWN, np.int8)

    def fill(part: str, begin: float, end: float) -> None:
        parts[int(begin) : int(end)] = PARTS.index(part)

    for beat in np.flatnonzero(whole):
        if beat > 0 and whole[beat - 1]:
            fill("rest", t_off[beat - 1], on[beat])
            if t_off[beat - 1] <= p_on[beat] < p_off[beat] <= on[beat]:
                fill("P", p_on[beat], p_off[beat])
        fill("ST-T", off[beat], t_off[beat])
        fill("QRS", on[beat], off[beat])
    return parts
