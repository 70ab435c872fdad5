"""The names under which files and sidecars say what samples mean, and what their values can mean."""

import math
import re
from collections.abc import Callable, Iterable

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.leads_and_units import QUOTABLE_UNIT, voltage_unit

# As `plain_name` writes them, by the item of `sidecar.Statement` that they say: the items' own names, and those of
# published files (CODE-15's curr_sample_rate, the NPZ files of ecg-records) and of sidecars for earlier versions.
KNOWN_NAMES = {
    **dict.fromkeys(("samplingratehz", "samplingrate", "fs", "currsamplerate"), "sampling_rate_hz"),
    **dict.fromkeys(("unit", "units"), "unit"),
    **dict.fromkeys(("leads", "leadnames"), "leads"),
    "gainpermv": "gain_per_mv",
    "baseline": "baseline",
}
# Beside whole numbers: units a millivolt or millivolts a unit, added or taken away. Everybody means something else.
SCALES = re.compile(r"gain|scal|offset|resolution|lsb|perbit")
# The reason code of what is wrong with an item.
CODES = {
    "sampling_rate_hz": "sampling_rate",
    "unit": "unit",
    "leads": "leads",
    "gain_per_mv": "unit",
    "baseline": "unit",
}


def plain_name(name: str) -> str:
    """A name without its case, underscores and spaces: `Sampling_Rate` and `samplingrate` are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def says_something(name: str) -> bool:
    """Whether what a file calls so may change what its samples mean."""
    return plain_name(name) in KNOWN_NAMES or SCALES.search(plain_name(name)) is not None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _positive(value: object) -> float:
    if (number := _number(value)) <= 0:
        raise ValueError
    return number


def _unit(value: object) -> str:
    unit = voltage_unit(value.lower()) if isinstance(value, str) else None
    if unit is None:
        raise ValueError
    return unit


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value.strip()


_MEANT: dict[str, tuple[str, Callable[[object], float | str]]] = {
    "sampling_rate_hz": ("one positive number", _positive),
    "unit": ("mV, uV or V", _unit),
    "leads": ("names", _name),
    "gain_per_mv": ("positive numbers", _positive),
    "baseline": ("numbers", _number),
}


def meant(path: str, item: str, where: str, values: Iterable[object]) -> tuple:
    """The values of an item of `Statement`, said by numbers or texts.

    Args:
        path: for errors.
        item: a key of `CODES`.
        where: `file` or `sidecar`, for errors.
        values: what is said.

    Raises:
        RecordingError: they cannot be meant.
    """
    expected, parse = _MEANT[item]
    values = list(values)
    if item == "leads":  # one text may name them all, as the flag does
        values = [name for value in values for name in (value.split(",") if isinstance(value, str) else [value])]
    try:
        found = tuple(map(parse, values))
    except (ValueError, OverflowError):
        found = ()
    if item == "sampling_rate_hz" and len(set(found)) != 1:
        found = ()
    if not found:
        quotable = item == "unit" and values and QUOTABLE_UNIT.fullmatch(str(values[0]))
        received = str(values[0]) if quotable else "something else"
        raise RecordingError(
            path, CODES[item], f"Expected {item} in the {where} to be {expected}. Received {received}."
        )
    return found[:1] if item == "sampling_rate_hz" else found
