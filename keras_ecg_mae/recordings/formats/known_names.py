"""Well-known names under which files and sidecars say what samples mean, and what their values can mean."""

import math
import re
import sys
from collections.abc import Sequence

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.leads_and_units import QUOTABLE_UNIT, voltage_unit

# Surface ECGs have 12 leads, body surface maps some 250 electrodes.
MOST_LEADS = 256

RATE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*(?:hz|hertz|sps|samples/s)?\s*", re.IGNORECASE)

# The names as `plain_name` writes them, by what they say: an item of `signal_statement.Statement`.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "sampling_rate_hz": (
        *("samplingrate", "samplingratehz", "samplerate", "sampleratehz", "samplingfrequency", "samplingfrequencyhz"),
        *("samplefrequency", "samplingfreq", "samplefreq", "sampfreq", "samprate", "sfreq", "srate", "fs", "fshz"),
        "currsamplerate",
    ),
    "unit": ("unit", "units", "physicalunit", "physicalunits", "signalunit", "signalunits", "amplitudeunit"),
    "leads": (
        *("leads", "lead", "leadname", "leadnames", "leadorder", "channels", "channelname", "channelnames", "chnames"),
        *("signame", "signames", "signalname", "signalnames"),
    ),
    "gain_per_mv": ("gainpermv", "unitspermv", "adcgainpermv"),
    "baseline": ("adczero", "baseline"),
    # Units a millivolt or millivolts a unit, digital or not: everybody means something else by these.
    "scaled_by": (
        *("gain", "gains", "adcgain", "adcgains", "amplification", "scale", "scales", "scaling", "scalefactor"),
        *("scalefactors", "scalingfactor", "conversionfactor", "calibrationfactor", "multiplier", "sensitivity"),
        *("resolution", "amplituderesolution", "lsb", "lsbuv", "lsbmv", "lsbvalue", "uvperlsb", "mvperlsb"),
        *("uvperbit", "mvperbit", "nvperbit", "unitsperbit", "unitperbit"),
    ),
    "shifted_by": ("offset", "offsets", "addoffset", "adcoffset", "dcoffset", "zerooffset", "zerolevel", "zeropoint"),
}
SAYS = {name: item for item, names in KNOWN_NAMES.items() for name in names}
# What it is where nothing is scaled or shifted.
NEUTRAL = {"scaled_by": 1.0, "shifted_by": 0.0}
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


def meant(path: str, name: str, where: str, values: Sequence[object]) -> tuple | None:
    """The values of a well-known name as its item of a `Statement` has them, None where they say nothing.

    Args:
        path: for errors.
        name: one of `SAYS`.
        where: `file` or `sidecar`, for errors.
        values: numbers or texts.

    Raises:
        RecordingError: they cannot be meant.
    """
    item = SAYS[name]
    if item in NEUTRAL:
        spoken = [value for value in values if value is not None and value != ""]
        is_neutral = len(spoken) <= MOST_LEADS and all(_number(value) == NEUTRAL[item] for value in spoken)
        return None if is_neutral else (name,)
    expected, parse = {
        "sampling_rate_hz": ("one positive number", _rate),
        "unit": ("mV, uV or V", _units),
        "leads": ("names", _names),
        "gain_per_mv": ("positive numbers", _gains),
        "baseline": ("numbers", _numbers),
    }[item]
    found = parse(values) if 0 < len(values) <= MOST_LEADS else None
    if found is None:
        quotable = item == "unit" and len(values) > 0 and QUOTABLE_UNIT.fullmatch(str(values[0]))
        received = str(values[0]) if quotable else "something else"
        raise RecordingError(
            path, CODES[item], f"Expected {item} in the {where} to be {expected}. Received {received}."
        )
    return found


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None


def _numbers(values: Sequence[object]) -> tuple[float, ...] | None:
    numbers = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
            return None
        numbers.append(float(value))
    return tuple(numbers) if all(map(math.isfinite, numbers)) else None


def _gains(values: Sequence[object]) -> tuple[float, ...] | None:
    numbers = _numbers(values)
    return numbers if numbers and min(numbers) > 0 else None


def _rate(values: Sequence[object]) -> tuple[float, ...] | None:
    spelled = [RATE.fullmatch(value) if isinstance(value, str) else None for value in values]
    numbers = _gains([float(text[1]) if text else value for text, value in zip(spelled, values, strict=True)])
    return numbers[:1] if numbers and len(set(numbers)) == 1 else None


def _units(values: Sequence[object]) -> tuple[str, ...] | None:
    units = [voltage_unit(value.lower()) if isinstance(value, str) else None for value in values]
    found = tuple(unit for unit in units if unit)
    return found if len(found) == len(units) else None


def _names(values: Sequence[object]) -> tuple[str, ...] | None:
    names = tuple(value.strip() for value in values if isinstance(value, str))
    if len(names) == 1 and re.search(r"[,;|\s]", names[0]):
        names = tuple(
            name.strip() for name in re.split(r"[,;|]" if re.search(r"[,;|]", names[0]) else r"\s+", names[0])
        )
    return names if len(names) >= len(values) and len(names) <= MOST_LEADS else None
