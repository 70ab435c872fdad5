"""Dates as tables write them."""

import re
from datetime import date, datetime

_TIME = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?: ?(?:Z|[+-]\d{2}(?::?\d{2})?))?"
_SEPARATED = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}})(?:(?:T| +){_TIME})?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[T ]?(\d{2})(\d{2})(?:(\d{2})(?:\.\d+)?)?)?", re.ASCII)
# MIMIC shifts its patients' dates into 2100 to 2212, and the births of the oldest 300 years further back. Outside of
# these years a date stands for an unknown one (9999-12-31) or is of another calendar (2567 in the Buddhist one).
_YEARS = (1800, 2400)
_SECONDS_A_DAY = 86400
EXPECTED = "a date that begins with the year (2024-03-31, 2024/3/31, 20240331) or is as --date_format says"


def read_moment(text: str, date_format: str = "") -> float:
    """When something was, in days since the day before 0001-01-01; the fraction is the time of day, 0 where unsaid.

    Clock times are taken as they are written: a zone behind them is passed over.

    Args:
        text: a date that begins with its year, as ISO 8601, 2024/3/31 or 20240331, with or without a time.
        date_format: another form, as `datetime.strptime` has it, which is tried first; empty for none.

    Raises:
        ValueError: it is no such date. 3/4/2024 may be March or April: it is one by its format alone. The message holds
            nothing of the text.
    """
    moment = _by_format(text, date_format) or _year_first(text)
    if moment is None:
        raise ValueError(f"Expected {EXPECTED}. Received something else.")
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise ValueError(f"Expected a year from {_YEARS[0]} to {_YEARS[1]}. Received another.")
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return moment.toordinal() + seconds / _SECONDS_A_DAY


def years_between(earlier: float, later: float) -> int:
    """Years that were completed from one moment to another, as people count their age; both in days."""
    begin, end = date.fromordinal(int(earlier)), date.fromordinal(int(later))
    return end.year - begin.year - ((end.month, end.day) < (begin.month, begin.day))


def _by_format(text: str, date_format: str) -> datetime | None:
    try:
        return datetime.strptime(text, date_format) if date_format else None
    except ValueError:
        return None


def _year_first(text: str) -> datetime | None:
    if match := _SEPARATED.fullmatch(text):
        year, _, month, day, hour, minute, second = match.groups()
    elif match := _COMPACT.fullmatch(text):
        year, month, day, hour, minute, second = match.groups()
    else:
        return None
    try:
        return datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError:
        return None
