"""What a cell says of the left ventricular ejection fraction: a number, a range, or a bound."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

_NUMBER = r"(\d{1,9}(?:[.,]\d{0,20})?)\s*%?"
_DASHES = "\u2010-\u2015\u2212\u301c"  # dashes, the minus sign, the Japanese tilde
_ONE = re.compile(_NUMBER, re.ASCII)
_RANGE = re.compile(rf"{_NUMBER}\s*(?:[-{_DASHES}~]|to)\s*{_NUMBER}", re.ASCII | re.IGNORECASE)
# A measurement with its error or its standard deviation.
_WITH_ERROR = re.compile(rf"{_NUMBER}\s*(?:±|\+/?-)\s*\d{{1,9}}(?:[.,]\d{{0,20}})?\s*%?", re.ASCII)
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
            not measured. The message holds nothing of the text.
    """
    text = _PREFIX.sub("", unicodedata.normalize("NFKC", text).strip(), count=1)
    text = _METHOD.sub("", text.removesuffix("."))
    text = _ABOUT.sub("", text, count=1)
    if match := _WITH_ERROR.fullmatch(text):
        return EjectionFraction(_percent(match[1]))
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
