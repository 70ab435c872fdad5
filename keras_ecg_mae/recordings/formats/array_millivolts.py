"""From samples in whatever unit to a `Recording` in millivolts."""

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.sidecar import Statement
from keras_ecg_mae.recordings.leads_and_units import MILLIVOLTS_PER, carried_name
from keras_ecg_mae.recordings.recording import Recording


def to_recording(path: str, file_format: str, samples: np.ndarray, said: Statement) -> Recording:
    """`samples` `(leads, samples)` as millivolts, float64.

    Raises:
        RecordingError: what is said of the unit cannot be meant for such samples.
    """
    units_per_mv, zero = scale(path, samples, said)
    ecg_mv = np.array(samples, dtype=np.float64, order="C")
    with np.errstate(all="ignore"):  # absurd numbers give infinity, which conforming refuses
        if zero.any():
            ecg_mv -= zero
        if (units_per_mv != 1).any():
            ecg_mv /= units_per_mv
    return Recording(
        path=path,
        leads=tuple(carried_name(number, name) for number, name in enumerate(said.leads, start=1)),
        sampling_rate_hz=said.sampling_rate_hz[0],
        ecg_mv=ecg_mv,
        format=file_format,
    )


def scale(path: str, samples: np.ndarray, said: Statement) -> tuple[np.ndarray, np.ndarray]:
    """How many units of `samples` are a millivolt, and the value of 0 mV: each `(1, 1)` or `(leads, 1)`.

    A gain is for digital units, so for whole numbers; what it makes of them are millivolts. Samples with fractions are
    in their unit already, and a gain beside them tells of the device.
    """
    none = np.zeros((1, 1))
    integers = samples.dtype.kind in "iu"
    scaled = said.gain_per_mv or said.scaled_by or said.shifted_by
    is_digital = bool(scaled) and (integers or _are_whole(samples))
    for name, said_clearly in ((said.scaled_by, said.gain_per_mv), (said.shifted_by, said.baseline)):
        if is_digital and name and not said_clearly:
            raise RecordingError(
                path,
                "unit",
                f"Expected gain_per_mv (units a millivolt) and baseline (the value of 0 mV) with whole numbers, in the "
                f"file or in a sidecar beside it (NAME.json). Received {name[0]}, which may be meant either way.",
            )
    if said.gain_per_mv and is_digital:
        if not said.unit_is_assumed and set(said.unit) - {"mV"}:
            raise RecordingError(
                path, "unit", f"Expected a gain, or the unit {said.unit[0]}, for whole numbers. Received both."
            )
        return np.array(said.gain_per_mv)[:, None], np.array(said.baseline)[:, None] if said.baseline else none
    if not said.unit:
        raise RecordingError(
            path,
            "unit",
            "Expected whole numbers with a gain, or a unit. Received fractions with a gain and no unit: give it in a "
            "sidecar beside the file (NAME.json) or by --signal_unit.",
        )
    if integers and set(said.unit) - {"uV", "nV"}:
        raise RecordingError(
            path,
            "unit",
            "Expected integers in uV, or with gain_per_mv in the file or in a sidecar beside it (NAME.json). Received "
            "a unit of which whole ones resolve no ECG.",
        )
    if any(said.baseline):
        raise RecordingError(path, "unit", "Expected a gain with the baseline. Received a baseline alone.")
    return np.array([1 / MILLIVOLTS_PER[unit] for unit in said.unit])[:, None], none


def _are_whole(samples: np.ndarray) -> bool:
    return bool(((samples == np.trunc(samples)) | np.isnan(samples)).all())
