"""What bare samples mean: sampling rate, unit, leads, gain; and who says so.

An array does not say it of itself. Asked are, in this order: names in the file that are well known (`fs`, `unit`,
`lead_names`, `gain_per_mv`), a JSON sidecar beside it, the settings of `config.Signal`. The file and its sidecar must
agree; both are believed over the settings. What nobody says is refused, never guessed.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.known_names import CODES, NEUTRAL, SAYS, meant, plain_name
from keras_ecg_mae.recordings.leads_and_units import lead_names
from keras_ecg_mae.recordings.source import Source, is_file

# More is no sidecar.
LARGEST_SIDECAR_BYTES = 1 << 20
FLAGS = {"sampling_rate_hz": "--signal_sampling_rate_hz", "unit": "--signal_unit", "leads": "--signal_leads"}
WORDS = {"sampling_rate_hz": "a sampling rate", "unit": "a unit", "leads": "the leads' names"}
SIDECAR_TYPES: dict[str, tuple[type, ...]] = {
    "sampling_rate_hz": (int, float),
    "unit": (str, list),
    "leads": (list,),
    "gain_per_mv": (int, float, list),
    "baseline": (int, float, list),
    **dict.fromkeys(NEUTRAL, (object,)),
}

# A well-known name in a file: the group, structure or array that has it (empty: the file), the name, and its values,
# numbers or texts, in one row; None where they are Python objects, which only unpickling could read.
Named = tuple[str, str, Sequence[float | str] | None]


@dataclass(frozen=True)
class Statement:
    """What one source says of an array of samples; empty where it says nothing.

    Attributes:
        sampling_rate_hz: samples a second, at most one value.
        unit: a key of `voltage_unit.MILLIVOLTS_PER`, one for all leads or one a lead.
        leads: names, one a lead.
        gain_per_mv: digital units a millivolt, one for all leads or one a lead.
        baseline: the digital value of 0 mV, one for all leads or one a lead.
        scaled_by: the name of something like a gain, of which nobody knows which way it is meant.
        shifted_by: the name of something like a baseline, likewise.
        unread: the items whose values were not read.
        unit_is_assumed: the unit is further from the samples than the gain, which is believed over it.
    """

    sampling_rate_hz: tuple[float, ...] = ()
    unit: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    gain_per_mv: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    scaled_by: tuple[str, ...] = ()
    shifted_by: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unit_is_assumed: bool = False


def what_is_said(path: str, file: str, in_file: Statement, signal: Signal) -> Statement:
    """All that is said of an array: by its file, then the sidecar, then the settings.

    Raises:
        RecordingError: the sidecar is not one, or says another thing than the file.
    """
    beside = read_sidecar(path, file)
    said = merged(path, in_file, beside, "the sidecar beside it")
    gain_is_beside = bool(beside.gain_per_mv) and not in_file.gain_per_mv and not beside.unit
    return replace(
        said,
        sampling_rate_hz=said.sampling_rate_hz or ((signal.sampling_rate_hz,) if signal.sampling_rate_hz else ()),
        unit=said.unit or ((signal.unit,) if signal.unit else ()),
        leads=said.leads or signal.leads,
        unit_is_assumed=not said.unit or gain_is_beside,
    )


def what_is_unsaid(source: Source, file: str, what: str, item: str) -> tuple:
    """An item of `Statement` that a file leaves unsaid, from its sidecar or the settings.

    Args:
        source: the recording.
        file: the file beside which a sidecar may lie.
        what: what the file leaves unsaid, for the message.
        item: `"sampling_rate_hz"`, `"unit"` or `"leads"`.

    Raises:
        RecordingError: nobody says it.
    """
    values: tuple = getattr(what_is_said(source.path, file, Statement(), source.signal), item)
    if not values:
        raise source.refusal(
            CODES[item],
            f"The file does not say {what}. Give {item} in a sidecar beside it (NAME.json, or signal.json for all "
            f"files of the folder), or by {FLAGS[item]}.",
        )
    return values


def merged(path: str, in_file: Statement, other: Statement, whose: str) -> Statement:
    """What a file and another source, called `whose`, say together. `RecordingError` where they do not agree."""
    for item in CODES:
        one, two = getattr(in_file, item), getattr(other, item)
        if one and two and not _agree(one, two):
            raise RecordingError(path, CODES[item], f"Expected the file and {whose} to agree on {item}. Received two.")
    said = {item.name: getattr(in_file, item.name) or getattr(other, item.name) for item in fields(Statement)}
    return Statement(**said)


def _agree(said: tuple, other: tuple) -> bool:
    """Whether two sources say one thing: leads in any spelling, one value for all leads or that value for each."""
    if isinstance(said[0], float):
        return all(math.isclose(one, two, rel_tol=1e-6) for one, two in _spread(said, other))
    if len(said) != len(other) and 1 not in (len(said), len(other)):
        return False
    spelled = [
        tuple(lead or name for name, lead in zip(names, lead_names(names), strict=True)) for names in (said, other)
    ]
    return all(one == two for one, two in _spread(*spelled))


def _spread(said: tuple, other: tuple) -> list[tuple]:
    length = max(len(said), len(other))
    if {len(said), len(other)} - {1, length}:
        return [(math.nan, math.nan)]
    return list(zip(said * (length // len(said)), other * (length // len(other)), strict=True))


def check_said(path: str, said: Statement) -> None:
    """Raises `RecordingError` where nobody says the sampling rate, unit or leads, naming all that is missing."""
    missing = [item for item in FLAGS if not getattr(said, item) and not (item == "unit" and said.gain_per_mv)]
    if missing:
        unread = [WORDS[item] for item in missing if item in said.unread]
        received = f"{' and '.join(unread)} as Python objects, which are not unpickled" if unread else "none"
        raise RecordingError(
            path,
            CODES[missing[0]],
            f"Expected {' and '.join(WORDS[item] for item in missing)}: in the file, in a sidecar beside it "
            f"({', '.join(missing)} in NAME.json, or in signal.json for all files of the folder), or by "
            f"{', '.join(FLAGS[item] for item in missing)}. Received {received}.",
        )
    for item in ("unit", "gain_per_mv", "baseline"):
        if len(getattr(said, item)) not in (0, 1, len(said.leads)):
            raise RecordingError(
                path,
                CODES[item],
                f"Expected {item} once, or once for each of {len(said.leads)} leads. "
                f"Received {len(getattr(said, item))}.",
            )


def said_by_names(path: str, named: Iterable[Named]) -> Statement:
    """What a file says by well-known names of its variables, attributes or members; other names are ignored.

    Raises:
        RecordingError: a known name has a value that cannot be meant, or two of them contradict one another.
    """
    said: dict[str, Any] = {}
    for _, name, values in named:
        item = SAYS.get(plain_name(name))
        if item is not None and values is None:
            said["unread"] = (*said.get("unread", ()), item)
        elif item is not None and values and (item != "leads" or all(isinstance(value, str) for value in values)):
            _add(path, said, plain_name(name), "file", values)  # numbers called `channels` or `leads` count them
    return Statement(**said)


def _add(path: str, said: dict[str, Any], name: str, where: str, values: Sequence[object]) -> None:
    """Adds what a well-known name says to `said`; refuses what contradicts it."""
    item, found = SAYS[name], meant(path, name, where, values)
    if found is None:
        return
    if item in CODES and item in said and not _agree(said[item], found):
        raise RecordingError(path, CODES[item], f"Expected one {item} in the {where}. Received two that differ.")
    said[item] = found


def sidecar_files(file: str) -> tuple[str, ...]:
    """Where what is said beside `file` may lie: `NAME.json`, `NAME.EXTENSION.json` and the folder's `signal.json`."""
    return f"{os.path.splitext(file)[0]}.json", f"{file}.json", os.path.join(os.path.dirname(file), "signal.json")


def read_sidecar(path: str, file: str) -> Statement:
    """What the JSON objects of `sidecar_files` say.

    Each item is taken from the first of them that has it. Keys other than those of `known_names.SAYS` are ignored.

    Raises:
        RecordingError: one of them is not a JSON object, or a key holds what cannot be meant.
    """
    said: dict[str, Any] = {}
    for name in sidecar_files(file):
        if not is_file(name) or file.lower().endswith(".json"):
            continue
        content = _read_json_object(path, name)
        here: dict[str, Any] = {}
        for key, value in content.items():
            item = SAYS.get(plain_name(key))
            if item is not None and not (item == "leads" and isinstance(value, int)):  # a count of them
                values = value if isinstance(value, list) else [value]
                _add(path, here, plain_name(key), "sidecar", values if isinstance(value, SIDECAR_TYPES[item]) else [])
        said = here | said
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
