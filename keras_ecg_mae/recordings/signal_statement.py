"""What bare samples mean: sampling rate, unit, leads, gain; and who says so.

An array does not say it of itself. Asked are, in this order: names in the file that are well known (`fs`, `unit`,
`lead_names`, `gain_per_mv`), a JSON sidecar beside it, the settings of `config.Signal`. The file and its sidecar must
agree; both are believed over the settings. What nobody says is refused, never guessed.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.conform import lead_name
from keras_ecg_mae.recordings.quotable_unit import QUOTABLE_UNIT
from keras_ecg_mae.recordings.record_path import is_file

# More is no sidecar.
LARGEST_SIDECAR_BYTES = 1 << 20
# Surface ECGs have 12 leads, body surface maps some 250 electrodes.
MOST_LEADS = 256

UNITS_PER_MV = {"mV": 1.0, "uV": 1e3, "V": 1e-3}
UNIT_SPELLINGS = {
    **dict.fromkeys(("mv", "millivolt", "millivolts"), "mV"),
    **dict.fromkeys(("uv", "\N{MICRO SIGN}v", "\N{GREEK SMALL LETTER MU}v", "microvolt", "microvolts"), "uV"),
    **dict.fromkeys(("v", "volt", "volts"), "V"),
}
# Beyond the contract's twelve; any other name is not carried on, since it may be anyone's.
FURTHER_LEAD = re.compile(r"V[3-9]R|V[7-9]|[XYZ]|ML?(I|II|III|V[1-6])", re.IGNORECASE)
RATE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*(?:hz)?\s*", re.IGNORECASE)

# Well-known names as `plain_name` writes them, by what they say.
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "sampling_rate_hz": (
        *("samplingrate", "samplingratehz", "samplerate", "sampleratehz", "samplingfrequency", "samplingfrequencyhz"),
        *("samplefrequency", "samplingfreq", "samplefreq", "sampfreq", "samprate", "sfreq", "fs", "fshz"),
        "currsamplerate",
    ),
    "unit": ("unit", "units", "physicalunit", "physicalunits", "signalunit", "signalunits", "amplitudeunit"),
    "leads": (
        *("leads", "lead", "leadname", "leadnames", "leadorder", "channels", "channelname", "channelnames", "chnames"),
        *("signame", "signames", "signalname", "signalnames"),
    ),
    "gain_per_mv": ("gainpermv", "unitspermv", "adcgainpermv"),
    "baseline": ("adczero", "baseline"),
}
SAYS = {name: said for said, names in KNOWN_NAMES.items() for name in names}
FLAGS = {"sampling_rate_hz": "--signal_sampling_rate_hz", "unit": "--signal_unit", "leads": "--signal_leads"}
WORDS = {"sampling_rate_hz": "a sampling rate", "unit": "a unit", "leads": "the leads' names"}
# The items of a statement that a source may give, with the reason code of what is wrong with them.
CODES = {
    "sampling_rate_hz": "sampling_rate",
    "unit": "unit",
    "leads": "leads",
    "gain_per_mv": "unit",
    "baseline": "unit",
}
SIDECAR_TYPES: dict[str, tuple[type, ...]] = {
    "sampling_rate_hz": (int, float),
    "unit": (str, list),
    "leads": (list,),
    "gain_per_mv": (int, float, list),
    "baseline": (int, float, list),
}

NOTHING_SAID = Signal()

# A well-known name in a file: the group, structure or array that has it (empty: the file), the name, and its values,
# numbers or texts, in one row.
Named = tuple[str, str, Sequence[float | str]]


@dataclass(frozen=True)
class Statement:
    """What one source says of an array of samples; empty where it says nothing.

    Attributes:
        sampling_rate_hz: samples a second, at most one value.
        unit: mV, uV or V, one for all leads or one a lead.
        leads: names, one a lead.
        gain_per_mv: digital units a millivolt, one for all leads or one a lead.
        baseline: the digital value of 0 mV, one for all leads or one a lead.
        unit_is_assumed: the unit comes from the settings, so a gain in the file is believed over it.
    """

    sampling_rate_hz: tuple[float, ...] = ()
    unit: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    gain_per_mv: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    unit_is_assumed: bool = False


def what_is_said(path: str, file: str, in_file: Statement, signal: Signal) -> Statement:
    """All that is said of an array: by its file, then the sidecar, then the settings.

    Raises:
        RecordingError: the sidecar is not one, or says another thing than the file.
    """
    beside = read_sidecar(path, file)
    said: dict[str, Any] = {}
    for item in KNOWN_NAMES:
        in_file_said, beside_said = getattr(in_file, item), getattr(beside, item)
        if in_file_said and beside_said and not _agree(in_file_said, beside_said):
            raise RecordingError(
                path, CODES[item], f"Expected the file and the sidecar beside it to agree on {item}. Received two."
            )
        said[item] = in_file_said or beside_said
    return Statement(
        sampling_rate_hz=said["sampling_rate_hz"] or ((signal.sampling_rate_hz,) if signal.sampling_rate_hz else ()),
        unit=said["unit"] or ((signal.unit,) if signal.unit else ()),
        leads=said["leads"] or signal.leads,
        gain_per_mv=said["gain_per_mv"],
        baseline=said["baseline"],
        unit_is_assumed=not said["unit"],
    )


def _agree(said: tuple, other: tuple) -> bool:
    """Whether two sources say one thing: leads in any spelling, one value for all leads or that value for each."""
    if isinstance(said[0], float):
        return all(math.isclose(one, two, rel_tol=1e-6) for one, two in _spread(said, other))
    if len(said) != len(other) and 1 not in (len(said), len(other)):
        return False
    return all((lead_name(one) or one) == (lead_name(two) or two) for one, two in _spread(said, other))


def _spread(said: tuple, other: tuple) -> list[tuple]:
    length = max(len(said), len(other))
    if {len(said), len(other)} - {1, length}:
        return [(math.nan, math.nan)]
    return list(zip(said * (length // len(said)), other * (length // len(other)), strict=True))


def check_said(path: str, said: Statement) -> None:
    """Raises `RecordingError` where nobody says the sampling rate, unit or leads, naming all that is missing."""
    missing = [item for item in FLAGS if not getattr(said, item) and not (item == "unit" and said.gain_per_mv)]
    if missing:
        raise RecordingError(
            path,
            CODES[missing[0]],
            f"Expected {' and '.join(WORDS[item] for item in missing)}: in the file, in a sidecar beside it "
            f"({', '.join(missing)} in NAME.json, or in signal.json for all files of the folder), or by "
            f"{', '.join(FLAGS[item] for item in missing)}. Received none.",
        )
    for item in ("unit", "gain_per_mv", "baseline"):
        if len(getattr(said, item)) not in (0, 1, len(said.leads)):
            raise RecordingError(
                path,
                CODES[item],
                f"Expected {item} once, or once for each of {len(said.leads)} leads. "
                f"Received {len(getattr(said, item))}.",
            )


def plain_name(name: str) -> str:
    """A name without its case, underscores and spaces: `Sampling_Rate` and `samplingrate` are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def said_by_names(path: str, named: Iterable[Named]) -> Statement:
    """What a file says by well-known names of its variables, attributes or members; other names are ignored.

    Raises:
        RecordingError: a known name has a value that cannot be meant, or two of them contradict one another.
    """
    said: dict[str, Any] = {}
    for _, name, values in named:
        item = SAYS.get(plain_name(name))
        if item is None or len(values) == 0:
            continue
        if item == "leads" and not all(isinstance(value, str) for value in values):
            continue  # `channels` and `leads` also count them
        meant = _mean(path, item, f"{item} in the file", values)
        if item in said and not _agree(said[item], meant):
            raise RecordingError(path, CODES[item], f"Expected one {item} in the file. Received two that differ.")
        said[item] = meant
    return Statement(**said)


def read_sidecar(path: str, file: str) -> Statement:
    """What the JSON objects beside `file` say: `NAME.json`, `NAME.EXTENSION.json` and the folder's `signal.json`.

    Each key is taken from the first of them that has it. Keys other than those of `KNOWN_NAMES` are ignored.

    Raises:
        RecordingError: one of them is not a JSON object, or a key holds what cannot be meant.
    """
    said: dict[str, Any] = {}
    stem, extension = os.path.splitext(file)
    for name in (f"{stem}.json", f"{file}.json", os.path.join(os.path.dirname(file), "signal.json")):
        if not is_file(name) or extension.lower() == ".json":
            continue
        content = _read_json_object(path, name)
        for item in KNOWN_NAMES:
            if item in content and item not in said:
                value = content[item]
                values = value if isinstance(value, list) else [value]
                values = values if isinstance(value, SIDECAR_TYPES[item]) else []
                said[item] = _mean(path, item, f"{item} in the sidecar", values)
    return Statement(**said)


def _read_json_object(path: str, name: str) -> dict[str, object]:
    expected = f"Expected the sidecar {'signal.json' if name.endswith('signal.json') else 'NAME.json'} to be "
    try:
        with open(name, "rb") as file:
            content = file.read(LARGEST_SIDECAR_BYTES + 1)
    except OSError as error:
        raise RecordingError(path, "missing", f"{expected}readable. Received {error.strerror}.") from error
    if len(content) > LARGEST_SIDECAR_BYTES:
        raise RecordingError(path, "malformed", f"{expected}at most 1 MiB. Received a larger one.")
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise RecordingError(path, "malformed", f"{expected}a JSON object. Received something else.")
    return parsed


def _mean(path: str, item: str, where: str, values: Sequence[object]) -> tuple:
    """The values of a field of `Statement`; refuses those that cannot be meant."""
    expected, parse = {
        "sampling_rate_hz": ("one positive number", _rate),
        "unit": ("mV, uV or V", _units),
        "leads": ("names", _names),
        "gain_per_mv": ("positive numbers", _gains),
        "baseline": ("numbers", _numbers),
    }[item]
    meant = parse(values) if 0 < len(values) <= MOST_LEADS else None
    if meant is None:
        quotable = item == "unit" and len(values) > 0 and QUOTABLE_UNIT.fullmatch(str(values[0]))
        received = str(values[0]) if quotable else "something else"
        raise RecordingError(path, CODES[item], f"Expected {where} to be {expected}. Received {received}.")
    return meant


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
    units = [UNIT_SPELLINGS.get(value.strip().lower()) if isinstance(value, str) else None for value in values]
    meant = tuple(unit for unit in units if unit)
    return meant if len(meant) == len(units) else None


def _names(values: Sequence[object]) -> tuple[str, ...] | None:
    names = tuple(value.strip() for value in values if isinstance(value, str))
    if len(names) == 1 and re.search(r"[,;|\s]", names[0]):
        names = tuple(
            name.strip() for name in re.split(r"[,;|]" if re.search(r"[,;|]", names[0]) else r"\s+", names[0])
        )
    return names if len(names) >= len(values) and len(names) <= MOST_LEADS else None


def carried_name(number: int, name: str) -> str:
    """A lead's name as a `Recording` may carry it: as the file spells it where it is a lead's, else `signal NUMBER`."""
    return name if lead_name(name) or FURTHER_LEAD.fullmatch(name) else f"signal {number}"
