"""Dates as tables write them, and ages from them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.cohort.dates import read_moment, years_between
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError

DAY = datetime.date(2024, 3, 31).toordinal()
DATES = st.dates(datetime.date(1800, 1, 1), datetime.date(2400, 12, 31))


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("2024-03-31", 0),
        ("2024/03/31", 0),
        ("2024/3/31", 0),
        ("2024.03.31", 0),
        ("20240331", 0),
        ("2024-03-31T12:30", 12.5),
        ("2024-03-31 12:30:00", 12.5),
        ("2024/3/31 9:00", 9),
        ("2024-03-31T12:30:00.123456", 12.5),
        ("2024-03-31T12:30:00Z", 12.5),
        ("2024-03-31 12:30:00+09:00", 12.5),
        ("202403311230", 12.5),
        ("20240331123000", 12.5),
        ("20240331T123000", 12.5),
    ],
)
def test_dates_that_begin_with_the_year(text: str, hours: float) -> None:
    assert read_moment(text) == pytest.approx(DAY + hours / 24, abs=1e-9)


@given(DATES, st.sampled_from(["%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d %b %Y", "%d.%m.%Y"]))
def test_every_day_comes_back(day: datetime.date, date_format: str) -> None:
    assert read_moment(day.strftime(date_format).replace(" 0", " "), date_format) == day.toordinal()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "03/04/2024",
            "31.03.2024",
            "31-Mar-2024",
            "21-03-31",
            "2021-13-01",
            "2021-02-30",
        ),
        *("45382", "2021", "2021-03", "2021-03/31", "2021-03-31 25:00", "2021-03-3112:30", "unknown", "1711843200"),
    ],
)
def test_what_is_ambiguous_or_no_date_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="Expected a date that begins with the year") as raised:
        read_moment(text)
    assert text not in str(raised.value)


@pytest.mark.parametrize(("text", "year"), [("2212-02-03", 2212), ("1850-01-01", 1850)])
def test_shifted_dates(text: str, year: int) -> None:
    assert datetime.date.fromordinal(int(read_moment(text))).year == year


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01", "2567-05-01"])
def test_a_year_that_stands_for_no_date_or_is_of_another_calendar(text: str) -> None:
    with pytest.raises(ValueError, match="Expected a year from 1800 to 2400"):
        read_moment(text)


def test_a_format_is_tried_before_others() -> None:
    assert read_moment("31/03/2024", "%d/%m/%Y") == DAY
    assert read_moment("2024-03-31", "%d/%m/%Y") == DAY
    with pytest.raises(ValueError, match="--date_format"):
        read_moment("03/31/2024", "%d/%m/%Y")


@pytest.mark.parametrize("date_format", ["%d/%m", "%Y-%m", "31/03/2024", "%"])
def test_a_format_must_tell_the_day(date_format: str) -> None:
    with pytest.raises(ConfigError, match=r"Expected --date_format to hold year, month and day"):
        Cohort(date_format=date_format)


@given(DATES, st.integers(0, 120), st.integers(0, 360))
def test_years_are_completed_on_the_birthday(birth: datetime.date, years: int, days: int) -> None:
    begin = float(birth.toordinal())
    if (birth.month, birth.day) != (2, 29):
        birthday = birth.replace(year=birth.year + years).toordinal()
        assert years_between(begin, birthday) == years
        assert years_between(begin, birthday + days) == years
        assert years_between(begin, birthday - 1) == years - 1
    assert years_between(begin, begin + 0.9) == 0
