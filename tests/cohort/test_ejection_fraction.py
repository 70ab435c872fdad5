"""What cells say of an ejection fraction, and which of them tell the label."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.cohort.ejection_fraction import EjectionFraction, read_ejection_fraction

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
