"""The sampling rate that a column of times tells."""

import numpy as np

# Times are as regular as their numbers allow: float32 has seven digits; in float64, four roundings may have added up.
FLOAT32_ERROR, FLOAT64_ERROR = 2.0**-23, 2.0**-50
# A fraction of the step. Where numbers are coarser, a lost sample would pass for their error.
MOST_NOISE = 0.25
# A fraction of the step, far above the rounding of float64 and far below what a lost sample makes of it.
REGULAR = 1e-3
MOST_DECIMALS = 9
# Nothing is sampled in such steps, whatever the unit, and no count of microseconds is so large.
SMALLEST_STEP, LARGEST_TIME = 1e-9, 1e18


def rate_of_times(times: np.ndarray, seconds_per_unit: float) -> float | None:
    """Samples a second, None where the times are not evenly spaced.

    Times are often rounded, at 400 Hz to 0.003, 0.005, 0.008 s: each step may be off by one unit of the last decimal,
    and so may the line through them. A lost sample is told from that as long as that unit is smaller than the step.
    The rate is a whole number where one lies within what the rounding leaves open.

    Args:
        times: `(samples,)`, in any unit.
        seconds_per_unit: of `times`.
    """
    if times.size < 3 or not np.abs(times).max() < LARGEST_TIME:  # so written, NaN is refused too
        return None
    duration = float(times[-1] - times[0])
    step = duration / (times.size - 1)
    noise = number_error(times)
    if step < SMALLEST_STEP or noise > MOST_NOISE * step:
        return None
    from_line = np.abs(times - (times[0] + step * np.arange(times.size))).max()
    from_step = np.abs(np.diff(times) - step).max()
    rounding = 0.0
    if from_line > REGULAR * step + noise:
        rounding = last_decimal(times, noise)
        if rounding > 0.75 * step or max(from_line, from_step) > rounding * 1.001 + noise:
            return None
    elif from_step > REGULAR * step + 2 * noise:
        return None
    rate_hz = 1 / (step * seconds_per_unit)
    uncertain_hz = rate_hz * (max(rounding, min(last_decimal(times, noise), REGULAR * step)) + noise) / duration
    if abs(rate_hz - round(rate_hz)) <= uncertain_hz < 0.5:
        return float(round(rate_hz))
    return rate_hz


def number_error(times: np.ndarray) -> float:
    """How far each time may be off because of how numbers are stored. Whole numbers tell nothing of float32."""
    is_single = (times == times.astype(np.float32)).all() and (times != np.rint(times)).any()
    return float(np.abs(times).max()) * (FLOAT32_ERROR if is_single else FLOAT64_ERROR)


def last_decimal(times: np.ndarray, noise: float) -> float:
    """The unit of the last decimal that the times are written with, up to `noise`: 0.001 for 0.003, 0.005 and 0.01."""
    for decimals in range(MOST_DECIMALS):
        scaled = times * 10.0**decimals
        if (np.abs(scaled - np.rint(scaled)) <= noise * 10.0**decimals + 1e-6).all():
            return float(10.0**-decimals)
    return float(10.0**-MOST_DECIMALS)
