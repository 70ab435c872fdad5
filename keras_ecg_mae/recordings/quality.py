"""Gates a recording must pass: not flat, and of an amplitude that a heart has."""

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError

# One step of the coarsest device that IEC 60601-2-25 admits is 5 uV: what moves less holds no signal. Skin and
# electrodes alone make some 10 uV of noise.
FLAT_PEAK_TO_PEAK_MV = 0.005
# IEC 60601-2-25 asks devices to take +-5 mV on top of the electrodes' constant offset, which the median removes. Four
# times that leaves room for pacing spikes and movement, and is far below a QRS of microvolts read as millivolts (1000).
LARGEST_PEAK_MV = 20.0
# Low voltage is a QRS under 0.5 mV in every limb lead and 1 mV in every chest lead (Chinitz et al., J Electrocardiol
# 2008;41:281). Not one lead above a twenty-fifth of the smaller: volts read as millivolts.
SMALLEST_PEAK_TO_PEAK_MV = 0.02


def check_flat_leads(path: str, ecg_mv: np.ndarray, max_flat_leads: int) -> None:
    """Raises `RecordingError` `flat_leads` where more of `ecg_mv` `(12, samples)` are constant than allowed."""
    flat = [lead for lead, row_mv in zip(spec.LEADS, ecg_mv, strict=True) if np.ptp(row_mv) < FLAT_PEAK_TO_PEAK_MV]
    if len(flat) > max_flat_leads:
        raise RecordingError(
            path,
            "flat_leads",
            f"Expected at most {max_flat_leads} flat leads. Received {len(flat)}: {', '.join(flat)}.",
        )


def check_amplitude(path: str, ecg_mv: np.ndarray) -> None:
    """Raises `RecordingError` `amplitude` where `ecg_mv` `(12, samples)` is not in millivolts.

    A recording without any signal passes: that is what `check_flat_leads` is for.
    """
    largest_mv = float(np.ptp(ecg_mv, axis=1).max())
    # Nothing lies further from the median than the whole range, so that a median, which takes long, is rarely needed.
    # So written, infinity less infinity is refused too.
    if not largest_mv <= LARGEST_PEAK_MV:
        peaks_mv = np.max(np.abs(ecg_mv - np.median(ecg_mv, axis=1, keepdims=True)), axis=1)
        highest = int(np.argmax(peaks_mv))
        if not peaks_mv[highest] <= LARGEST_PEAK_MV:
            raise RecordingError(
                path,
                "amplitude",
                f"Expected at most {LARGEST_PEAK_MV:g} mV from the median. Received {peaks_mv[highest]:.4g} mV in lead "
                f"{spec.LEADS[highest]}: are the samples in microvolts?",
            )
    if 0 < largest_mv < SMALLEST_PEAK_TO_PEAK_MV:
        raise RecordingError(
            path,
            "amplitude",
            f"Expected a lead with more than {SMALLEST_PEAK_TO_PEAK_MV:g} mV from peak to peak. Received at most "
            f"{largest_mv:.4g} mV: are the samples in volts?",
        )
