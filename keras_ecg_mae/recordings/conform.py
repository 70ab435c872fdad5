"""From a recording as the device stored it to the signal contract of `spec`: 12 leads, 500 Hz, 10 s, mV.

The samples are not filtered beyond what resampling asks for: normalisation belongs to the model.
"""

import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np

from keras_ecg_mae import spec
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.leads_and_units import LIMB_LEADS, lead_names
from keras_ecg_mae.recordings.quality import check_amplitude, check_flat_leads
from keras_ecg_mae.recordings.recording import Recording

# Below 100 Hz (the lower of PTB-XL's two versions, the lowest that 12-lead sets are published in) the QRS complex,
# whose energy reaches 40 Hz, is no longer sampled. Above 10 kHz are no electrocardiographs.
LOWEST_SAMPLING_RATE_HZ = 100
HIGHEST_SAMPLING_RATE_HZ = 10_000
# Every whole rate up to 10 kHz is met exactly; any other drifts by less than half a sample in 10 s.
LARGEST_DENOMINATOR = 10_000
# The filter reaches 20 periods of the slower rate to either side. With the Kaiser window's beta of 8 it passes 87% of
# the slower rate's band (218 Hz of 250; a diagnostic ECG needs 150) and damps by 80 dB from 113% on: 3 mV leave less
# than half a microvolt, half a stored unit. scipy's defaults (10 and 5) leave a part in a thousand.
FILTER_REACH = 20
FILTER_BETA = 8.0


@np.errstate(all="ignore")  # absurd amplitudes overflow, and are refused
def conform(recording: Recording, *, long_recordings: str = "first", max_flat_leads: int = 0) -> np.ndarray:
    """A recording as the signal contract wants it.

    Args:
        recording: at least 10 s with the chest leads V1 to V6 and two limb leads or more, in any order.
        long_recordings: what to take of more than 10 s: the `"first"` or the `"middle"` 10 s, or `"refuse"`.
        max_flat_leads: how many leads may be constant.

    Returns:
        `(12, 5000)` float32, millivolts, leads in the order of `spec.LEADS`.

    Raises:
        RecordingError: `leads`, `sampling_rate`, `too_short`, `too_long`, `not_finite`, `amplitude` or `flat_leads`.
    """
    if long_recordings not in ("first", "middle", "refuse"):
        raise ValueError(f"Expected long_recordings to be first, middle or refuse. Received {long_recordings!r}.")
    rows = lead_rows(recording)
    ratio = resampling_ratio(recording)
    start, length = window(recording, ratio, long_recordings)
    # Samples before and after the window spare its ends the filter's edge.
    reach = FILTER_REACH * math.ceil(max(Fraction(1), 1 / ratio)) if ratio != 1 else 0
    first = max(0, start - reach)
    recorded_mv = recording.ecg_mv[list(rows.values()), first : start + length + reach]
    _check_finite(recording.path, recorded_mv, tuple(rows), first)
    ecg_mv = resample(derive_limb_leads(recorded_mv, tuple(rows)), ratio)
    ecg_mv = ecg_mv[:, math.floor((start - first) * ratio) :][:, : spec.SAMPLES]
    check_amplitude(recording.path, ecg_mv)
    check_flat_leads(recording.path, ecg_mv, max_flat_leads)
    return np.ascontiguousarray(ecg_mv, dtype=np.float32)


def known_lead_rows(recording: Recording) -> dict[str, int]:
    """The row of each of the contract's leads that the recording holds, in the contract's order.

    Raises:
        RecordingError: `leads`, one is named twice.
    """
    rows: dict[str, int] = {}
    for row, lead in enumerate(lead_names(recording.leads)):
        if lead in rows:
            raise RecordingError(recording.path, "leads", f"Expected each lead once. Received lead {lead} twice.")
        if lead is not None:
            rows[lead] = row
    return {lead: rows[lead] for lead in spec.LEADS if lead in rows}


def lead_rows(recording: Recording) -> dict[str, int]:
    """As `known_lead_rows`, where all twelve leads follow from them. Raises `RecordingError` `leads` elsewhere."""
    rows = known_lead_rows(recording)
    missing = [lead for lead in spec.LEADS if lead not in rows and lead not in LIMB_LEADS]
    if missing or sum(lead in LIMB_LEADS for lead in rows) < 2:
        raise RecordingError(
            recording.path,
            "leads",
            f"Expected leads V1 to V6 and two or more limb leads. "
            f"Received {', '.join(rows) or 'none of them'} among {len(recording.leads)} signals; "
            f"missing: {', '.join(missing or [lead for lead in LIMB_LEADS if lead not in rows])}.",
        )
    return rows


def derive_limb_leads(ecg_mv: np.ndarray, leads: tuple[str, ...]) -> np.ndarray:
    """All twelve leads, `(12, samples)`, from `ecg_mv` `(leads, samples)`; leads that are there stay as they are."""
    if leads == spec.LEADS:
        return ecg_mv
    present = [lead for lead in LIMB_LEADS if lead in leads][:2]
    pair_mv = ecg_mv[[leads.index(lead) for lead in present]]
    return np.stack(
        [ecg_mv[leads.index(lead)] if lead in leads else limb_lead(lead, present, pair_mv) for lead in spec.LEADS]
    )


def limb_lead(lead: str, present: Sequence[str], pair_mv: np.ndarray) -> np.ndarray:
    """A limb lead, `(samples,)`, from two others: their names and `pair_mv` `(2, samples)`."""
    first, second = _limb_lead_weights(lead, *present)
    derived: np.ndarray = first * pair_mv[0] + second * pair_mv[1]
    return derived


@cache
def _limb_lead_weights(lead: str, *present: str) -> tuple[float, float]:
    first, second = np.linalg.solve(np.array([LIMB_LEADS[name] for name in present]).T, LIMB_LEADS[lead])
    return float(first), float(second)


def resampling_ratio(recording: Recording) -> Fraction:
    """The contract's sampling rate over the recording's, as a ratio of whole numbers."""
    rate_hz = recording.sampling_rate_hz
    if not LOWEST_SAMPLING_RATE_HZ <= rate_hz <= HIGHEST_SAMPLING_RATE_HZ:
        raise RecordingError(
            recording.path,
            "sampling_rate",
            f"Expected {LOWEST_SAMPLING_RATE_HZ} to {HIGHEST_SAMPLING_RATE_HZ} Hz. Received {rate_hz:g}.",
        )
    return Fraction(spec.SAMPLING_RATE_HZ / rate_hz).limit_denominator(LARGEST_DENOMINATOR)


def window(recording: Recording, ratio: Fraction, long_recordings: str) -> tuple[int, int]:
    """Where the 10 s to take start and how many samples they have, both as recorded."""
    samples = recording.ecg_mv.shape[1]
    seconds = samples / recording.sampling_rate_hz
    start, length = ten_seconds(samples, ratio, long_recordings)
    if samples < length:
        raise RecordingError(
            recording.path, "too_short", f"Expected at least {spec.DURATION_S:g} s. Received {seconds:.3f} s."
        )
    if long_recordings == "refuse" and samples > math.ceil(spec.SAMPLES / ratio):
        raise RecordingError(recording.path, "too_long", f"Expected {spec.DURATION_S:g} s. Received {seconds:.3f} s.")
    return start, length


def ten_seconds(samples: int, ratio: Fraction | float, long_recordings: str) -> tuple[int, int]:
    """Where the 10 s to take of so many samples start, and how many they should have, at 500 Hz over `ratio`."""
    # The last of 5000 samples must not lie past the last recorded one.
    length = math.floor(min((spec.SAMPLES - 1) / ratio, sys.maxsize)) + 1
    return (max(0, samples - length) // 2 if long_recordings == "middle" else 0), length


def _check_finite(path: str, ecg_mv: np.ndarray, leads: tuple[str, ...], first: int) -> None:
    """Raises `RecordingError` `not_finite`, naming lead and sample; column 0 of `ecg_mv` is sample `first`."""
    bad = ~np.isfinite(ecg_mv)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise RecordingError(
            path,
            "not_finite",
            f"Expected finite samples. Received {ecg_mv[row, column]} in lead {leads[row]} at sample {first + column}"
            f"{f', and {bad.sum() - 1} more' if bad.sum() > 1 else ''}.",
        )


def resample(ecg_mv: np.ndarray, ratio: Fraction) -> np.ndarray:
    """`ecg_mv` `(leads, samples)` at `ratio` times its rate, by a polyphase filter without phase shift.

    Only what is left of the line through a lead's first and last sample is filtered: neither an offset nor a drift
    rings at the ends, or passes through the filter's ripple.
    """
    if ratio == 1:
        return ecg_mv
    from scipy.signal import resample_poly  # takes half a second to load, which recordings at 500 Hz need not wait for

    first, last = ecg_mv[:, :1], ecg_mv[:, -1:]
    slope = (last - first) / max(1, ecg_mv.shape[1] - 1)
    line = first + slope * np.arange(ecg_mv.shape[1])
    up, down = ratio.as_integer_ratio()
    resampled: np.ndarray = resample_poly(ecg_mv - line, up, down, axis=1, window=_low_pass(max(up, down)))
    resampled += first
    resampled += slope * (np.arange(resampled.shape[1]) / float(ratio))
    return resampled


@lru_cache(maxsize=8)
def _low_pass(factor: int) -> np.ndarray:
    """The filter's coefficients at a rate `factor` times the slower one, cutting at half the slower rate."""
    from scipy.signal import firwin

    taps: np.ndarray = firwin(2 * FILTER_REACH * factor + 1, 1 / factor, window=("kaiser", FILTER_BETA))
    return taps
