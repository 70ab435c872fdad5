"""What bare samples mean: sampling rate, unit, leads, gain; and who says so.

Asked are the file under a few well-known names, a JSON sidecar beside it, and the settings of `config.Signal`. The file
and its sidecar must agree; both are believed over the settings, which are said of many files at once. What nobody says
is refused, never guessed, with the sidecar to write.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from keras_ecg_mae.errors import UnsaidError
from keras_ecg_mae.recordings.leads_and_units import QUOTABLE_UNIT, lead_names, voltage_unit
from keras_ecg_mae.recordings.source import Source, is_file

# A name in a file: the group, structure or array that has it (empty: the file), the name, and its values in one row.
Named = tuple[str, str, Sequence[object]]

# As `plain_name` writes them, by the item of `Statement` that they say: the items' own names, and those of published
# files (CODE-15's curr_sample_rate, the NPZ files of ecg-records) and of sidecars for earlier versions.
KNOWN_NAMES = {
    **dict.fromkeys(("samplingratehz", "samplingrate", "fs", "currsamplerate"), "sampling_rate_hz"),
    **dict.fromkeys(("unit", "units"), "unit"),
    **dict.fromkeys(("leads", "leadnames"), "leads"),
    "gainpermv": "gain_per_mv",
    "baseline": "baseline",
}
# Beside whole numbers: units a millivolt or millivolts a unit, added or taken away. Everybody means something else.
SCALES = re.compile(r"gain|scal|offset|resolution|lsb|perbit")


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


class Item(NamedTuple):
    """An item of `Statement`.

    Attributes:
        code: the reason code where it is wrong or missing.
        expected: what its values must be, in words.
        parse: a value as `Statement` has it, None where it is none.
        to_say: what a sidecar to write has in place of it.
        flag: of the setting that says it, if there is one.
    """

    code: str
    expected: str
    parse: Callable[[object], float | str | None]
    to_say: str
    flag: str = ""


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]  # so it is one


def _positive(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


ITEMS = {
    "sampling_rate_hz": Item(
        "sampling_rate", "one positive number", _positive, "samples a second, a number", "--signal_sampling_rate_hz"
    ),
    "unit": Item(
        "unit",
        "mV, uV or V",
        lambda value: voltage_unit(value.lower()) if isinstance(value, str) else None,
        "mV, uV or V",
        "--signal_unit",
    ),
    "leads": Item(
        "leads", "names", lambda value: value.strip() if isinstance(value, str) else None, "", "--signal_leads"
    ),
    "gain_per_mv": Item("unit", "positive numbers", _positive, "units a millivolt, 1000 where they are microvolts"),
    "baseline": Item("unit", "numbers", _number, "the value of 0 mV"),
}


def plain_name(name: str) -> str:
    """A name without its case, underscores and spaces: `Sampling_Rate` and `samplingrate` are one."""
    return re.sub(r"[\W_]+", "", name).lower()


def says_something(name: str) -> bool:
    """Whether what a file calls so may change what its samples mean."""
    return plain_name(name) in KNOWN_NAMES or SCALES.search(plain_name(name)) is not None


def meant(source: Source, item: str, where: str, values: Iterable[object]) -> tuple:
    """The values of an item of `Statement`, said by numbers or texts in the `file`, `sidecar` or `settings`.

    Raises:
        RecordingError: they cannot be meant.
    """
    code, expected, parse, *_ = ITEMS[item]
    values = list(values)
    if item == "leads":  # one text may name them all, as the flag does
        values = [name for value in values for name in (value.split(",") if isinstance(value, str) else [value])]
    found = tuple(map(parse, values))
    if not found or None in found or (item == "sampling_rate_hz" and len(set(found)) > 1):
        is_quotable = item == "unit" and values and QUOTABLE_UNIT.fullmatch(str(values[0]))
        received = f" Received {values[0]}." if is_quotable else ""
        raise source.refusal(code, f"Expected {item} in the {where} to be {expected}.{received}")
    return found[:1] if item == "sampling_rate_hz" else found


def said_by_names(source: Source, named: Iterable[Named], where: str = "file") -> Statement:
    """What a file or sidecar says by the names of its variables, attributes or members; other names are ignored.

    Raises:
        RecordingError: a known name has a value that cannot be meant, or two of them contradict one another.
    """
    said: dict[str, Any] = {}
    for _, name, values in named:
        item = KNOWN_NAMES.get(plain_name(name))
        # Numbers called `leads` count them, or are their samples.
        if item is None or not values or (item == "leads" and not any(isinstance(each, str) for each in values)):
            continue
        found = meant(source, item, where, values)
        agrees = _agree(said.setdefault(item, found), found)
        source.expect(agrees, ITEMS[item].code, f"Expected one {item} in the {where}. Received two that differ.")
    return Statement(**said)


def sidecar_files(file: str) -> tuple[str, ...]:
    """Where what is said beside `file` may lie: `NAME.json`, `NAME.EXTENSION.json` and the folder's `signal.json`."""
    return f"{os.path.splitext(file)[0]}.json", f"{file}.json", os.path.join(os.path.dirname(file), "signal.json")


def read_sidecar(source: Source) -> Statement:
    """What the JSON objects of `sidecar_files` say; each item is taken from the first that has it.

    Raises:
        RecordingError: one of them is not a JSON object, or a key holds what cannot be meant.
    """
    said = []
    for name in sidecar_files(source.file):
        if is_file(name) and not source.file.lower().endswith(".json"):
            content = _read_json(name)
            if not isinstance(content, dict):
                shown = "signal.json" if name.endswith("signal.json") else "NAME.json"
                raise source.refusal("malformed", f"Expected the sidecar {shown} to be readable, and a JSON object.")
            named = [("", key, value if isinstance(value, list) else [value]) for key, value in content.items()]
            said += [said_by_names(source, named, "sidecar"), Statement(array=str(content.get("array", "")))]
    return first_said(*said, Statement())


def _read_json(name: str) -> object:
    try:
        with open(name, "rb") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None


def what_is_said(source: Source, in_file: Statement) -> Statement:
    """All that is said of an array: by its file, the sidecar, the settings.

    Raises:
        RecordingError: the sidecar is not one, or says another thing than the file.
    """
    beside = read_sidecar(source)
    for item, (code, *_) in ITEMS.items():
        one, two = getattr(in_file, item), getattr(beside, item)
        if one and two and not _agree(one, two):
            # The names of leads may be anyone's.
            shown = "" if item == "leads" else f" Received {one[0]} in the file and {two[0]} in the sidecar."
            raise source.refusal(code, f"Expected the file and its sidecar to agree on {item}.{shown}")
    signal = source.signal
    settings = Statement(
        sampling_rate_hz=(signal.sampling_rate_hz,) if signal.sampling_rate_hz else (),
        unit=meant(source, "unit", "settings", [signal.unit]) if signal.unit else (),
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


def what_is_unsaid(source: Source, what: str, item: str) -> tuple:
    """An item of `Statement` that a file leaves unsaid, from its sidecar or the settings.

    Args:
        source: the recording.
        what: what the file leaves unsaid, for the message.
        item: `"sampling_rate_hz"`, `"unit"` or `"leads"`.

    Raises:
        RecordingError: nobody says it.
    """
    said = what_is_said(source, Statement())
    values: tuple = getattr(said, item)
    if not values:
        raise unsaid(source, said, [item], what=what)
    return values


def check_said(source: Source, said: Statement, leads: int) -> None:
    """Raises `RecordingError` where nobody says the sampling rate, unit or leads, naming all that is missing.

    Args:
        source: the recording.
        said: all that is said.
        leads: how many there seem to be, for the sidecar to write.
    """
    missing = [name for name, item in ITEMS.items() if item.flag and not getattr(said, name)]
    if said.gain_per_mv and "unit" in missing:
        missing.remove("unit")
    if missing:
        raise unsaid(source, said, missing, leads=leads)
    for item in ("unit", "gain_per_mv", "baseline"):
        count = len(getattr(said, item))
        fits = count in (0, 1, len(said.leads))
        source.expect(fits, "unit", f"Expected {item} once, or for each of {len(said.leads)} leads. Received {count}.")


def unsaid(source: Source, said: Statement, missing: Sequence[str], *, what: str = "", leads: int = 12) -> UnsaidError:
    """The error that says what is missing, with the sidecar that would say it.

    Args:
        source: the recording.
        said: what is known.
        missing: items of `Statement`.
        what: is missing, in words.
        leads: how many names are missing, where these are.
    """
    sidecar: dict[str, object] = {}
    for name, item in ITEMS.items():
        values = getattr(said, name)
        if name in missing:
            sidecar[name] = [f"name of lead {row}" for row in range(1, leads + 1)] if name == "leads" else item.to_say
        elif values:
            sidecar[name] = values[0] if len(values) == 1 and name != "leads" else list(values)
    if "array" in missing or said.array:
        sidecar["array"] = said.array or "the name of the array of samples"
    flags = [ITEMS[name].flag for name in missing if name in ITEMS and ITEMS[name].flag]
    words = _listed([name.removesuffix("_hz").replace("_", " ") for name in missing])
    return UnsaidError(
        source.path,
        ITEMS[missing[0]].code if missing[0] in ITEMS else "unknown_format",
        f"The file does not say {what or f'its {words}'}. "
        f"Give {_listed(missing)} in a sidecar beside it (NAME.json, or signal.json for all files of the folder)"
        f"{', or by ' + ', '.join(flags) if flags else ''}.",
        sidecar_files(source.file)[0],
        sidecar,
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


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
