"""What cells say of an ejection fraction and the label it tells, and of dates."""

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.cohort.cells import EjectionFraction, read_ejection_fraction, read_moment, years_between
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError

PERCENTS = st.integers(11, 1000).map(lambda tenths: tenths / 10)
SIGNS = {"<": "<", "<=": "<=", "=<": "<=", "≤": "<=", "≦": "<=", ">": ">", ">=": ">=", "=>": ">=", "≥": ">=", "≧": ">="}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("35", 35.0),
        ("35.5", 35.5),
        ("35,5", 35.5),
        ("35.", 35.0),
        ("035", 35.0),
        ("35%", 35.0),
        (" 35.5 % ", 35.5),
        ("３５％", 35.0),  # noqa: RUF001 (full width, as Japanese tables have it)
        ("100", 100.0),
        ("35-40", 37.5),
        ("35 \u2013 40 %", 37.5),
        ("35%-40%", 37.5),
        ("35 to 40", 37.5),
        ("35TO40", 37.5),
        ("35\u301c40", 37.5),
        ("35-35", 35.0),
        ("EF 40", 40.0),
        ("EF 40 %", 40.0),
        ("LVEF 40%", 40.0),
        ("lvef: 35-40", 37.5),
        ("35%.", 35.0),
        ("~45", 45.0),
        ("≈ 45 %", 45.0),
        ("LVEF ~45%", 45.0),
        ("about 35", 35.0),
        ("Approx. 45", 45.0),
        ("ca. 40-45 %", 42.5),
        ("est. 45", 45.0),
        ("55 ± 5", 55.0),
        ("55%±5%", 55.0),
        ("55 +/- 5.5", 55.0),
        ("35 (biplane)", 35.0),
        ("35 % (Simpson, 4ch)", 35.0),
        ("35-40 (visual).", 37.5),
    ],
)
def test_numbers_and_ranges(text: str, expected: float) -> None:
    assert read_ejection_fraction(text) == EjectionFraction(expected)


@pytest.mark.parametrize(("rule", "expected"), [("mean", 37.5), ("lower", 35.0), ("upper", 40.0)])
def test_the_rule_of_ranges(rule: str, expected: float) -> None:
    assert read_ejection_fraction("35-40", rule).percent == expected  # type: ignore[arg-type]  # a rule's name
    assert read_ejection_fraction("36", rule).percent == 36  # type: ignore[arg-type]


def test_ranges_can_be_refused() -> None:
    with pytest.raises(ValueError, match="--lvef_range=refuse"):
        read_ejection_fraction("35-40", "refuse")
    assert read_ejection_fraction("<40", "refuse").bound == 40


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("0.35", "a number up to 1, as fractions are"),
        ("1", "a number up to 1"),
        ("0", "a number up to 1"),
        ("0.35-0.40", "a number up to 1"),
        ("101", "a number over 100"),
        ("30-350", "a number over 100"),
        ("<400", "a number over 100"),
        ("40-35", "a range whose first number is the higher one"),
        ("normal", "something else"),
        ("-35", "something else"),
        ("35-40-45", "something else"),
        ("RVEF 35", "something else"),
        ("EF EF 35", "something else"),
        ("55+", "something else"),
        ("1e1", "something else"),
        ("35 %%", "something else"),
        ("<", "something else"),
        ("about", "something else"),
        ("35 (30 before)", "something else"),
        ("35 (biplane) 40", "something else"),
        ("5 ± ", "something else"),
        ("0.55 ± 0.05", "a number up to 1"),
        ("no more than 35", "something else"),
        ("9" * 5000, "something else"),
    ],
)
def test_what_is_no_ejection_fraction(text: str, received: str) -> None:
    with pytest.raises(ValueError, match=f"Received {received}"):
        read_ejection_fraction(text)


@given(PERCENTS, st.sampled_from(sorted(SIGNS)), st.sampled_from(["", " "]), st.sampled_from(["", "%", " %"]))
def test_bounds(percent: float, sign: str, blank: str, unit: str) -> None:
    read = read_ejection_fraction(f"{sign}{blank}{percent:g}{unit}")
    assert (read.bound, read.relation) == (percent, SIGNS[sign])
    assert math.isnan(read.percent)


@given(PERCENTS, st.sampled_from(sorted(set(SIGNS.values()))), st.integers(2, 99))
def test_a_bound_tells_the_label_only_where_every_value_it_allows_agrees(bound: float, sign: str, limit: int) -> None:
    threshold = float(limit)
    compare = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}[sign]
    tenths = [value / 20 for value in range(2001)]  # between the bounds' tenths as well
    allowed = {float(value < threshold) for value in tenths if compare(value, bound)}
    label = EjectionFraction(bound, sign).label(threshold)  # type: ignore[arg-type]  # one of the relations
    if len(allowed) == 1:
        assert label == allowed.pop()
    elif len(allowed) == 2:
        assert math.isnan(label)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *(("<40", 1.0), ("<=40", None), ("<=39", 1.0), (">40", 0.0), (">=40", 0.0), ("<50", None), (">55", 0.0)),
        *((">/=55", 0.0), ("</=39", 1.0), ("less than 40%", 1.0), ("At least 40", 0.0), ("EF over 55 %.", 0.0)),
        *((">39", None), ("39.9", 1.0), ("40", 0.0), ("35-44", 1.0), ("35-45", 0.0)),
    ],
)
def test_labels_under_40(text: str, label: float | None) -> None:
    read = read_ejection_fraction(text).label(40.0)
    assert math.isnan(read) if label is None else read == label


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_in_the_same_words(text: str) -> None:
    try:
        read = read_ejection_fraction(text)
    except ValueError as error:
        sentence = str(error)
    else:
        assert 1 < read.bound <= 100
        return
    assert sentence.partition(". Received ")[2] in {
        "something else.",
        "a number over 100.",
        "a number up to 1, as fractions are.",
        "a range whose first number is the higher one.",
    }


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
