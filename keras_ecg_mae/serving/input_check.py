"""What a served model does to a recording before it reads it: the gates of `recordings/quality.py`, in a graph."""

import numpy as np
import tensorflow as tf

from keras_ecg_mae.recordings.quality import FLAT_PEAK_TO_PEAK_MV, LARGEST_PEAK_MV, SMALLEST_PEAK_TO_PEAK_MV
from keras_ecg_mae.spec import MILLIVOLTS_PER_UNIT, SAMPLES

# What `prepare` accepted is served, though storing it has moved its samples by half a unit.
ROUNDING_MV = MILLIVOLTS_PER_UNIT / 2
_UNITS = np.iinfo(np.int16)


def checked(ecg: tf.Tensor, max_flat_leads: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A recording as a dataset would store it, and whether `prepare` would have accepted it.

    Samples are rounded to the unit of `dataset/schema.py`, so that a recording has one value, the one it had in
    training, whether it comes as a tf.Example, from a file, or from a client that has not rounded it.

    Args:
        ecg: `(batch, 12, 5000)` float32 mV.
        max_flat_leads: how many leads may be constant.

    Returns:
        `(batch, 12, 5000)` float32 mV, zero where it is not accepted; `(batch,)` bool: all samples are numbers and
        within what the dataset holds, at most so many leads are flat, and the amplitude is one of millivolts.
    """
    finite = tf.reduce_all(tf.math.is_finite(ecg), axis=(1, 2))
    # NaN has no place in an order, and the sorting below would not end well.
    ecg = _where(finite, ecg)
    # In float64, as the dataset is written: in float32 some samples would fall to the other side of a half.
    units = tf.round(tf.cast(ecg, tf.float64) / MILLIVOLTS_PER_UNIT)
    ecg = tf.cast(units, tf.float32) * MILLIVOLTS_PER_UNIT
    range_mv = tf.reduce_max(ecg, axis=2) - tf.reduce_min(ecg, axis=2)  # (batch, 12)
    flat = tf.reduce_sum(tf.cast(range_mv < FLAT_PEAK_TO_PEAK_MV - ROUNDING_MV, tf.int32), axis=1)
    ok = (
        finite
        & tf.reduce_all((units >= _UNITS.min) & (units <= _UNITS.max), axis=(1, 2))
        & (flat <= max_flat_leads)
        & (tf.reduce_max(range_mv, axis=1) >= SMALLEST_PEAK_TO_PEAK_MV - ROUNDING_MV)
        & tf.reduce_all(_peaks_mv(ecg, range_mv) <= LARGEST_PEAK_MV + ROUNDING_MV, axis=1)
    )
    return _where(ok, ecg), ok


def _peaks_mv(ecg: tf.Tensor, range_mv: tf.Tensor) -> tf.Tensor:
    """Each lead's largest distance from its median, or a bound of it where that is within the limit: `(batch, 12)`."""

    def from_median() -> tf.Tensor:
        descending = tf.math.top_k(ecg, SAMPLES // 2 + 1).values
        median = (descending[..., -1] + descending[..., -2]) / 2
        return tf.reduce_max(tf.abs(ecg - median[..., tf.newaxis]), axis=2)

    # Nothing lies farther from the median than from peak to peak. A median costs as much as a tiny model.
    return tf.cond(tf.reduce_any(range_mv > LARGEST_PEAK_MV), from_median, lambda: range_mv)


def _where(kept: tf.Tensor, ecg: tf.Tensor) -> tf.Tensor:
    return tf.where(kept[:, tf.newaxis, tf.newaxis], ecg, tf.zeros_like(ecg))
