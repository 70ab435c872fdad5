"""What single cells of a table say: an ejection fraction, a date, an age, a sex, a label.

Each function takes a cell that is not empty and raises `ValueError` where it says nothing that is known. No message
holds any of the text: it may be a name.
"""

import re
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

EMPTY = frozenset({"", "nan", "na", "n/a", "#n/a", "none", "null", "<na>", "nat", "-", "--"})

_DIGITS = r"\d{1,9}(?:[.,]\d{0,20})?"
_NUMBER = rf"({_DIGITS})\s*%?"
# Behind it the error or the standard deviation of a measurement.
_ONE = re.compile(rf"{_NUMBER}(?:\s*(?:±|\+/?-)\s*{_DIGITS}\s*%?)?", re.ASCII)
_DASHES = "\u2010-\u2015\u2212\u301c"  # dashes, the minus sign, the Japanese tilde
_RANGE = re.compile(rf"{_NUMBER}\s*(?:[-{_DASHES}~]|to)\s*{_NUMBER}", re.ASCII | re.IGNORECASE)
_RELATIONS: dict[str, Literal["<", "<=", ">", ">="]] = {
    **dict.fromkeys(("<", "less than", "under", "below"), "<"),
    **dict.fromkeys((">", "greater than", "more than", "over", "above"), ">"),
    **dict.fromkeys(("<=", "=<", "</=", "≤", "≦", "at most"), "<="),
    **dict.fromkeys((">=", "=>", ">/=", "≥", "≧", "at least"), ">="),
}
_BOUND = re.compile(
    rf"({'|'.join(map(re.escape, sorted(_RELATIONS, key=len, reverse=True)))})\s*{_NUMBER}", re.ASCII | re.IGNORECASE
)
_PREFIX = re.compile(r"^(?:LV)?EF\s*[:=]?\s*", re.ASCII | re.IGNORECASE)
# Estimated by eye.
_ABOUT = re.compile(
    r"^(?:[~≈\u223c]|about\b|around\b|approx(?:imately\b|\.|\b)|ca?\.|circa\b|est(?:imated\b|\.))\s*", re.IGNORECASE
)
# How it was measured, behind it: of digits only those of 2D, 3D, 2ch and 4ch.
_METHOD = re.compile(r"\s*\((?:[^()\d]|\b[234] ?-?(?:D|ch)\b)*\)$", re.IGNORECASE)
_MEANT = "Expected a percentage over 1, up to 100: a number (35), a range (35-40) or a bound (<40)"

_TIME = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?(?: ?(?:Z|[+-]\d{2}(?::?\d{2})?))?"
_SEPARATED = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}})(?:(?:T| +){_TIME})?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})()(\d{2})(\d{2})(?:[T ]?(\d{2})(\d{2})(?:(\d{2})(?:\.\d+)?)?)?", re.ASCII)
# MIMIC shifts its patients' dates into 2100 to 2212, and the births of the oldest 300 years further back. Outside of
# these years a date stands for an unknown one (9999-12-31) or is of another calendar (2567 in the Buddhist one).
_YEARS = (1800, 2400)

# As DICOM writes ages (058Y, 006M), and with words; without a unit it is years.
_AGE = re.compile(
    rf"(?:\+?({_DIGITS})|(\d{{1,4}}(?:[.,]\d{{0,20}})?)\s*(y|m|w|d)(?:ears?|rs?|ears? old|o|onths?|eeks?|ays?)?\.?)",
    re.ASCII | re.IGNORECASE,
)
_A_YEAR = {"y": 1.0, "m": 12.0, "w": 52.1775, "d": 365.2425}
OLDEST = 130

_LABELS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}

_FEMALE = {
    *("f", "female", "w", "woman", "weiblich", "frau", "femme", "féminin", "feminin", "mujer", "femenino", "feminino"),
    *("femmina", "vrouw", "女", "女性"),
}
_MALE = {
    *("m", "male", "man", "männlich", "maennlich", "mannlich", "mann", "homme", "masculin", "hombre", "masculino"),
    *("maschio", "男", "男性"),
}
_OTHER = {
    *("unknown", "unk", "un", "other", "diverse", "divers", "undetermined", "indeterminate", "ambiguous", "intersex"),
    *("unspecified", "not specified", "non-binary", "nonbinary", "unbekannt", "?", "不明"),
}
_CODE = re.compile(r"[A-Za-z0-9]")


@dataclass(frozen=True)
class EjectionFraction:
    """An ejection fraction that is known, or known to lie on one side of a number.

    Attributes:
        bound: percent.
        relation: how the ejection fraction lies to it.
    """

    bound: float
    relation: Literal["=", "<", "<=", ">", ">="] = "="

    @property
    def percent(self) -> float:
        """The ejection fraction, NaN where only a bound of it is known."""
        return self.bound if self.relation == "=" else float("nan")

    def label(self, threshold: float) -> float:
        """1 where it is under the threshold, 0 where it is not, NaN where the bound leaves that open: <50 under 40."""
        if self.relation == "=":
            return float(self.bound < threshold)
        if self.relation in (">", ">="):
            return 0.0 if self.bound >= threshold else float("nan")
        under = self.bound < threshold or (self.relation == "<" and self.bound == threshold)
        return 1.0 if under else float("nan")


def read_ejection_fraction(
    text: str, range_rule: Literal["mean", "lower", "upper", "refuse"] = "mean"
) -> EjectionFraction:
    """Reads a cell: 35, 35.5 %, 35,5; 35-40, 35 to 40, 35~40, with any dash; <40, ≥ 50 %, >/=55, at least 50; 55 ± 5.

    EF or LVEF may precede, and ~ or a word for an estimate, which counts as the number. A full stop may follow, or how
    it was measured: 35 (biplane). Full-width forms are read as well.

    Sawano et al. do not say how ranges count. The rule's default is their mean, as of a reader who writes 35-40 for
    what is neither 35 nor 40.

    Args:
        text: the cell.
        range_rule: the number that a range counts as, or `"refuse"`.

    Raises:
        ValueError: it says something else, or numbers that are no percentages: 0.35 is a fraction, and 0 stands for
            not measured.
    """
    text = _PREFIX.sub("", unicodedata.normalize("NFKC", text).strip(), count=1)
    text = _METHOD.sub("", text.removesuffix("."))
    text = _ABOUT.sub("", text, count=1)
    if match := _ONE.fullmatch(text):
        return EjectionFraction(_percent(match[1]))
    if match := _RANGE.fullmatch(text):
        lower, upper = _percent(match[1]), _percent(match[2])
        if lower > upper:
            raise ValueError(f"{_MEANT}. Received a range whose first number is the higher one.")
        if range_rule == "refuse":
            raise ValueError("Expected one number, as --lvef_range=refuse asks. Received a range.")
        return EjectionFraction({"mean": (lower + upper) / 2, "lower": lower, "upper": upper}[range_rule])
    if match := _BOUND.fullmatch(text):
        return EjectionFraction(_percent(match[2]), _RELATIONS[match[1].lower()])
    raise ValueError(f"{_MEANT}. Received something else.")


def _percent(digits: str) -> float:
    value = float(digits.replace(",", "."))
    if value > 100:
        raise ValueError(f"{_MEANT}. Received a number over 100.")
    if value <= 1:
        raise ValueError(f"{_MEANT}. Received a number up to 1, as fractions are.")
    return value


def read_moment(text: str, date_format: str = "") -> float:
    """When something was, in days since the day before 0001-01-01; the fraction is the time of day, 0 where unsaid.

    Clock times are taken as they are written: a zone behind them is passed over.

    Args:
        text: a date that begins with its year, as ISO 8601, 2024/3/31 or 20240331, with or without a time. 3/4/2024 may
            be March or April: it is a date by its format alone.
        date_format: another form, as `datetime.strptime` has it, which is tried first; empty for none.
    """
    moment = _date(text, date_format)
    if moment is None:
        raise ValueError(
            "Expected a date that begins with the year (2024-03-31, 2024/3/31, 20240331) or is as --date_format says. "
            "Received something else."
        )
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise ValueError(f"Expected a year from {_YEARS[0]} to {_YEARS[1]}. Received another.")
    return moment.toordinal() + (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86400


def _date(text: str, date_format: str) -> datetime | None:
    if date_format:
        with suppress(ValueError):
            return datetime.strptime(text, date_format)
    if match := _SEPARATED.fullmatch(text) or _COMPACT.fullmatch(text):
        with suppress(ValueError):
            year, month, day, hour, minute, second = (int(match[group] or 0) for group in (1, 3, 4, 5, 6, 7))
            return datetime(year, month, day, hour, minute, second)
    return None


def years_between(earlier: float, later: float) -> int:
    """Years that were completed from one moment to another, as people count their age; both in days."""
    begin, end = date.fromordinal(int(earlier)), date.fromordinal(int(later))
    return end.year - begin.year - ((end.month, end.day) < (begin.month, begin.day))


def read_age(text: str) -> float:
    """Years, 0 to `OLDEST`: 58, 58 years, 058Y, 006M; 90 for 90+, as HIPAA's Safe Harbor has higher ages written."""
    text = unicodedata.normalize("NFKC", text)
    age = -1.0
    if match := _AGE.fullmatch("90" if text == "90+" else text):
        number, unit = match[1] or match[2], (match[3] or "y").lower()
        age = float(number.replace(",", ".")) / _A_YEAR[unit]
    if not 0 <= age <= OLDEST:
        raise ValueError(f"Expected an age from 0 to {OLDEST} years or nothing. Received something else.")
    return age


def read_sex(text: str) -> str:
    """The sex in the table's own words: a letter or digit, or a word that is known to be one.

    It goes into the dataset as it is, so a name that slipped into the column must not pass.
    """
    if _CODE.fullmatch(text) or text.casefold() in _FEMALE | _MALE | _OTHER:
        return text
    raise ValueError("Expected one letter or digit (F, 1), or female, male or other. Received another text.")


def same_sex(word: str) -> str:
    """One spelling for words that mean the same, for comparing them."""
    word = word.casefold()
    return "female" if word in _FEMALE else "male" if word in _MALE else word


def read_label(text: str) -> float:
    """0 or 1."""
    try:
        return _LABELS[text.lower()]
    except KeyError:
        raise ValueError("Expected 0, 1, true, false or nothing. Received something else.") from None
