"""The times of a table of samples: those of a clock, and the sampling rate that they tell."""

import re

import numpy as np

SECONDS_PER = {
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"), 1e-6),
    "ns": 1e-9,
}
# 0:00:00.002, 2024-05-01T12:00:00.002Z, PhysioNet's [10:00:00.000 01/10/1990], and 00:00.002 of the minute, which
# without a fraction may be hours.
_DATE = r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{4})"
CLOCK = re.compile(
    rf"\[?(?:{_DATE}[T ])?(?:(?P<hours>[0-9]{{1,2}}):)?(?P<minutes>[0-9]{{1,2}}):(?P<seconds>[0-9]{{2}})"
    rf"(?(hours)|(?=[.,]))(?:[.,](?P<fraction>[0-9]{{1,9}}))?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?(?: {_DATE})?\]?"
)
# What divides a clock from its date must not divide cells.
DATE_BESIDE_CLOCK = re.compile(rf"{_DATE}[T ](?=[0-9]+:)|(?<=[0-9]) {_DATE}\]?")


def seconds_of_clock(text: str) -> float | None:
    """The seconds since midnight, or since the hour, of a clock's time; None of another text."""
    clock = CLOCK.fullmatch(text)
    if clock is None:
        return None
    seconds = (int(clock["hours"] or 0) * 60 + int(clock["minutes"])) * 60 + int(clock["seconds"])
    return float(f"{seconds}.{clock['fraction'] or 0}")


def rate_of_times(times_s: np.ndarray) -> float | None:
    """Samples a second, None where the times are not evenly spaced.

    Times are often rounded, at 400 Hz to 0.003, 0.005, 0.008 s. A lost sample is told from that as long as the unit of
    the last decimal is about half of the step or less. A clock goes round: at midnight, or each hour where it tells
    minutes alone. The rate is a whole number where one is within a sample over the whole recording.

    Args:
        times_s: `(samples,)`.
    """
    if times_s.size < 3 or not np.isfinite(times_s).all():
        return None
    times_s = np.unwrap(times_s, period=3600.0)
    duration_s = float(times_s[-1] - times_s[0])
    step_s = duration_s / (times_s.size - 1)
    if step_s <= 0:
        return None
    from_line = np.abs(times_s - (times_s[0] + step_s * np.arange(times_s.size))).max()
    from_step = np.abs(np.diff(times_s) - step_s).max()
    if from_line > 0.75 * step_s or from_step > 0.55 * step_s:
        return None
    rate_hz = 1 / step_s
    whole_hz = float(round(rate_hz))
    return whole_hz if abs(rate_hz - whole_hz) * duration_s < 0.75 else rate_hz
