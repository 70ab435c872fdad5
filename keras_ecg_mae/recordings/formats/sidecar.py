"""What bare samples mean: sampling rate, unit, leads, gain; and who says so.

Asked are the file under a few well-known names, a JSON sidecar beside it, and the settings of `config.Signal`. The file
and its sidecar must agree; both are believed over the settings, which are said of many files at once. What nobody says
is refused, never guessed, with the sidecar to write.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError, UnsaidError
from keras_ecg_mae.recordings.formats.known_names import CODES, KNOWN_NAMES, meant, plain_name
from keras_ecg_mae.recordings.leads_and_units import lead_names
from keras_ecg_mae.recordings.source import Source, is_file

# More is no sidecar.
LARGEST_SIDECAR_BYTES = 1 << 20
FLAGS = {"sampling_rate_hz": "--signal_sampling_rate_hz", "unit": "--signal_unit", "leads": "--signal_leads"}
WORDS = {"sampling_rate_hz": "sampling rate", "unit": "unit", "leads": "leads"}

# A name in a file: the group, structure or array that has it (empty: the file), the name, and its values in one row.
Named = tuple[str, str, Sequence[object]]


@dataclass(frozen=True)
class Statement:
    """What is said of an array of samples; empty where nothing is.

    Attributes:
        sampling_rate_hz: samples a second, at most one value.
        unit: a key of `spec.MILLIVOLTS_PER`, one for all leads or one a lead.
        leads: names, one a lead.
        gain_per_mv: digital units a millivolt, one for all leads or one a lead.
        baseline: the digital value of 0 mV, one for all leads or one a lead.
        array: the name of the array in the file, which a sidecar alone says.
    """

    sampling_rate_hz: tuple[float, ...] = ()
    unit: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    gain_per_mv: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    array: str = ""


def what_is_said(path: str, file: str, in_file: Statement, signal: Signal) -> Statement:
    """All that is said of an array: by its file, the sidecar, the settings.

    Raises:
        RecordingError: the sidecar is not one, or says another thing than the file.
    """
    beside = read_sidecar(path, file)
    for item in CODES:
        one, two = getattr(in_file, item), getattr(beside, item)
        if one and two and not _agree(one, two):
            # The names may be anyone's.
            shown = "other leads" if item == "leads" else f"{_shown(one)} in the file and {_shown(two)} in the sidecar"
            raise RecordingError(
                path, CODES[item], f"Expected the file and its sidecar to agree on {item}. Received {shown}."
            )
    settings = Statement(
        sampling_rate_hz=(signal.sampling_rate_hz,) if signal.sampling_rate_hz else (),
        unit=meant(path, "unit", "settings", [signal.unit]) if signal.unit else (),
        leads=signal.leads,
    )
    return first_said(in_file, beside, settings)


def first_said(*statements: Statement) -> Statement:
    """Each item of the first of the statements that says it."""
    said: dict[str, Any] = {
        item.name: next((value for each in statements if (value := getattr(each, item.name))), item.default)
        for item in fields(Statement)
    }
    return Statement(**said)


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
    said = what_is_said(source.path, file, Statement(), source.signal)
    values: tuple = getattr(said, item)
    if not values:
        raise unsaid(source.path, file, said, [item], what=what)
    return values


def check_said(path: str, file: str, said: Statement, leads: int) -> None:
    """Raises `RecordingError` where nobody says the sampling rate, unit or leads, naming all that is missing.

    Args:
        path: for errors.
        file: the file beside which a sidecar may lie.
        said: all that is said.
        leads: how many there seem to be, for the sidecar to write.
    """
    missing = [item for item in FLAGS if not getattr(said, item) and not (item == "unit" and said.gain_per_mv)]
    if missing:
        raise unsaid(path, file, said, missing, leads=leads)
    for item in ("unit", "gain_per_mv", "baseline"):
        if len(getattr(said, item)) not in (0, 1, len(said.leads)):
            raise RecordingError(
                path,
                CODES[item],
                f"Expected {item} once, or once for each of {len(said.leads)} leads. "
                f"Received {len(getattr(said, item))}.",
            )


def unsaid(
    path: str, file: str, said: Statement, missing: Sequence[str], *, what: str = "", leads: int = 12
) -> UnsaidError:
    """The error that says what is missing, with the sidecar that would say it.

    Args:
        path: as the user named it.
        file: the file beside which the sidecar may lie.
        said: what is known.
        missing: items of `Statement`.
        what: is missing, in words.
        leads: how many names are missing, where these are.
    """
    to_say = {
        "sampling_rate_hz": "samples a second, a number",
        "unit": "mV, uV or V",
        "leads": [f"name of lead {number}" for number in range(1, leads + 1)],
        "gain_per_mv": "units a millivolt, 1000 where they are microvolts",
        "baseline": "the value of 0 mV",
        "array": "the name of the array of samples",
    }
    known: dict[str, object] = {
        item: values[0] if len(values) == 1 and item != "leads" else list(values)
        for item in CODES
        if (values := getattr(said, item))
    }
    known |= {"array": said.array} if said.array else {}
    sidecar = {item: to_say[item] if item in missing else known[item] for item in to_say if item in {*missing, *known}}
    flags = [FLAGS[item] for item in missing if item in FLAGS]
    return UnsaidError(
        path,
        CODES.get(missing[0], "unknown_format"),
        f"The file does not say {what or 'its ' + _listed([WORDS[item] for item in missing])}. "
        f"Give {_listed(missing)} in a sidecar beside it (NAME.json, or signal.json for all files of the folder)"
        f"{', or by ' + ', '.join(flags) if flags else ''}.",
        sidecar_files(file)[0],
        sidecar,
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def said_by_names(path: str, named: Iterable[Named]) -> Statement:
    """What a file says by the names of its variables, attributes or members; other names are ignored.

    Raises:
        RecordingError: a known name has a value that cannot be meant, or two of them contradict one another.
    """
    return _said(path, "file", named)


def sidecar_files(file: str) -> tuple[str, ...]:
    """Where what is said beside `file` may lie: `NAME.json`, `NAME.EXTENSION.json` and the folder's `signal.json`."""
    return f"{os.path.splitext(file)[0]}.json", f"{file}.json", os.path.join(os.path.dirname(file), "signal.json")


def read_sidecar(path: str, file: str) -> Statement:
    """What the JSON objects of `sidecar_files` say.

    Each item is taken from the first of them that has it. Keys other than those of `KNOWN_NAMES` and `array` are
    ignored.

    Raises:
        RecordingError: one of them is not a JSON object, or a key holds what cannot be meant.
    """
    said = []
    for name in sidecar_files(file):
        if is_file(name) and not file.lower().endswith(".json"):
            content = _read_json_object(path, name)
            named = [("", key, value if isinstance(value, list) else [value]) for key, value in content.items()]
            said += [_said(path, "sidecar", named), Statement(array=str(content.get("array", "")))]
    return first_said(*said, Statement())


def _said(path: str, where: str, named: Iterable[Named]) -> Statement:
    said: dict[str, Any] = {}
    for _, name, values in named:
        item = KNOWN_NAMES.get(plain_name(name))
        # Numbers called `leads` count them, or are their samples.
        if item is None or not values or (item == "leads" and not any(isinstance(each, str) for each in values)):
            continue
        found = meant(path, item, where, values)
        if not _agree(said.setdefault(item, found), found):
            raise RecordingError(path, CODES[item], f"Expected one {item} in the {where}. Received two that differ.")
    return Statement(**said)


def _agree(said: tuple, other: tuple) -> bool:
    """Whether two sources say one thing: leads in any spelling, one value for all leads or that value for each."""
    length = max(len(said), len(other))
    if {len(said), len(other)} - {1, length}:
        return False
    said, other = said * (length // len(said)), other * (length // len(other))
    if isinstance(said[0], float):
        return all(math.isclose(one, two, rel_tol=1e-6) for one, two in zip(said, other, strict=True))
    spelled = [[lead or name for name, lead in zip(names, lead_names(names), strict=True)] for names in (said, other)]
    return spelled[0] == spelled[1]


def _shown(values: tuple) -> str:
    return f"{values[0]:g}" if isinstance(values[0], float) else str(values[0])


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
