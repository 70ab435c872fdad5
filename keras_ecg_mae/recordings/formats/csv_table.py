"""How a text is a table of numbers: where they begin, what divides them, and what stands above them."""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

from keras_ecg_mae.recordings.formats.known_names import SAYS, plain_name
from keras_ecg_mae.recordings.formats.sidecar import Named
from keras_ecg_mae.recordings.leads_and_units import FURTHER_LEAD, lead_name, voltage_unit

DELIMITERS = (";", "\t", "|", ",", " ")  # a space: any run of spaces
# Names may stand in any of the first lines that are not blank, below what is said of device and patient.
MOST_LINES_BEFORE = 64
# So many below must be a table.
LINES_LOOKED_AT = 7
# A table of numbers without the name of a lead in it has at least the eight leads that a recording must have. With so
# many names, a text is a table of leads even where what follows is not understood.
FEWEST_COLUMNS = 8
MOST_COLUMNS = 512

NUMBER = re.compile(
    r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]{1,3})?|[+-]?(nan|inf(inity)?)", re.IGNORECASE
)
PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{0,15})?")
# 0:00:00.002, 2024-05-01T12:00:00.002, and 00:00.002 of the minute, which without a fraction may be hours.
_CLOCK = (
    r"(?<![0-9.:])(?:[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[T ])?"
    r"(?:(?P<hours>[0-9]{{1,2}}):)?(?P<minutes>[0-9]{{1,2}}):(?P<seconds>[0-9]{{2}})(?(hours)|(?=[{0}]))"
    r"(?:[{0}](?P<fraction>[0-9]{{1,9}}))?(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?(?![0-9:.])"
)
CLOCK_BETWEEN_COMMAS, CLOCK = re.compile(_CLOCK.format(".")), re.compile(_CLOCK.format(".,"))
# "0,12" between commas.
QUOTED_COMMA = re.compile(r'(?:^|(?<=[, ]))"([^",\n]*),([^",\n]*)"(?=[, ]|$)', re.MULTILINE)
# `I (mV)`, `I [uV]`, `I_mV`, `time_ms`, `t / s`, `Zeit in ms`.
COLUMN = re.compile(
    r"(?P<name>[^()\[\]]*?)\s*([(\[]\s*(?P<unit>[^()\[\]]*?)\s*[)\]]"
    r"|([_ /,]\s*|\sin\s+)(?P<suffix>[mMuU\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]?[Vv]|m?s))?"
)
LONGEST_NAME = 80
TIME_NAMES = {
    *("time", "times", "t", "timestamp", "timestamps", "datetime", "elapsedtime", "timeoffset"),
    *("zeit", "tijd", "temps", "tiempo", "tempo"),
}
SECONDS_PER = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"), 1e-6),
    **dict.fromkeys(("hh:mm:ss", "hh:mm:ss.mmm", "mm:ss.mmm"), 1.0),  # PhysioNet's rdsamp calls a `CLOCK` so
}
COUNTS = {"", "index", "sample", "samples", "samplenumber", "sampleindex", "samplenr", "sampleno", "unnamed0", "lead"}
# `# fs = 500`, `Sampling rate (Hz);500`.
REMARK = re.compile(r"[#%\s\"']*(?P<name>[A-Za-z][A-Za-z0-9_ ()\[\]]{0,40}?)[\"'\s]*[:=,;|\t](?P<values>.*)")


@dataclass(frozen=True)
class Table:
    """How a text is a table of numbers.

    Attributes:
        start: where the numbers begin in it, as a count of characters.
        lines: before them.
        delimiter: between cells, of `DELIMITERS`.
        names: of the columns, empty where they have none; of the rows of a table with a row a lead.
        units: a row of its own with units, empty where there is none.
        leads_are_rows: whether each row begins with a name.
        said: what stands before the table under well-known names.
    """

    start: int = 0
    lines: int = 0
    delimiter: str = ","
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    leads_are_rows: bool = False
    said: tuple[Named, ...] = ()


@dataclass(frozen=True)
class Column:
    """What a column's name says: its kind (`lead`, `time`, `count` or `other`), name, and unit, if it has one."""

    kind: str
    name: str
    unit: str


def find_table(text: str, *, whole: bool) -> Table | None:
    """How `text`, a file's beginning or all of it (`whole`), is a table of numbers; None where it is none."""
    if "\0" in text or text.lstrip()[:1] in ("<", "{", "["):
        return None
    lines = text.split("\n")
    if not whole:
        lines.pop()  # it may be cut
    filled = [(number, line) for number, line in enumerate(lines[: 2 * MOST_LINES_BEFORE]) if line.strip()]
    remarks = [line.lstrip().startswith(("#", "%")) for _, line in filled]
    begins = remarks.index(False) if False in remarks else len(filled)
    for place, (number, line) in enumerate(filled[:MOST_LINES_BEFORE]):
        is_first = place == begins
        below = [filled[row] for row in range(place + 1, len(filled)) if not remarks[row]][:LINES_LOOKED_AT]
        for delimiter in DELIMITERS:
            first = split_cells(line.lstrip("#% ") if remarks[place] else line, delimiter)
            if len(first) < 2 or not (is_first or (len(first) <= MOST_COLUMNS and count_leads(first) > 1)):
                continue
            rows = [split_cells(each, delimiter) for _, each in below]
            table = named_columns(first, rows, begins=is_first) or (bare_rows([first, *rows]) if is_first else None)
            if table is not None:
                numbers = [number, *(each for each, _ in below), len(lines)]
                begin = numbers[bool(table.names) + bool(table.units)]
                said = tuple(said_before([each for each_number, each in filled if each_number < begin]))
                start = sum(len(each) + 1 for each in lines[:begin])
                return replace(table, start=start, lines=begin, delimiter=delimiter, said=said)
    return None


def count_leads(cells: Sequence[str]) -> int:
    """How many of the cells name a lead."""
    return sum(read_column(cell).kind == "lead" for cell in cells)


def named_columns(names: list[str], rows: list[list[str]], *, begins: bool) -> Table | None:
    """The table with these names, and perhaps units, above these rows of cells; None where they are no such table.

    Where the text `begins` with the names of many leads, it is one even if the rows are something else.
    """
    columns = [read_column(name) for name in names]
    kinds = [column.kind for column in columns]
    if all(map(is_number, names)) or ("lead" not in kinds and kinds.count("other") < FEWEST_COLUMNS):
        return None
    units: tuple[str, ...] = ()
    if rows and len(rows[0]) == len(names) and not any(is_number(cell) and cell for cell in rows[0]):
        spelled = tuple(cell.strip("()[] ") for cell in rows[0])
        if any(spelled) and all(cell.lower() in {"", *SECONDS_PER} or voltage_unit(cell.lower()) for cell in spelled):
            units, rows = spelled, rows[1:]
    texts = {place for place, kind in enumerate(kinds) if kind == "other" and "lead" in kinds}
    is_table = len(rows) > 1 and any(rows[0]) and all(are_numbers(row, len(names), texts) for row in rows[:2])
    is_table = is_table or (begins and kinds.count("lead") >= FEWEST_COLUMNS)
    return Table(names=tuple(names), units=units) if is_table else None


def bare_rows(rows: list[list[str]]) -> Table | None:
    """The table that begins with these rows of cells, each behind its lead's name or none of them named."""
    kinds = [read_column(row[0]).kind for row in rows if row[0] == "" or not is_number(row[0])]
    if len(rows) > 1 and len(kinds) == len(rows) and "other" not in kinds and "lead" in kinds and rows[0][1:2] != [""]:
        return Table(leads_are_rows=True) if all(are_numbers(row[1:], len(row) - 1) for row in rows[:2]) else None
    width = len(rows[0])
    is_table = len(rows) > 1 and all(are_numbers(row, width) for row in rows[:2])
    return Table() if is_table and width >= FEWEST_COLUMNS and any(rows[0]) else None


def said_before(lines: Sequence[str]) -> Iterator[Named]:
    """What lines before a table say under well-known names. Leads are named in the table; mm/mV are those of paper."""
    for line in lines:
        remark = REMARK.match(line)
        name = plain_name(remark["name"]) if remark else ""
        if remark is None or SAYS.get(name, "leads") == "leads" or "mm" in remark["values"].lower():
            continue
        cells = [cell.strip(" \"'()[]") for cell in re.split(r"[,;|\t]", remark["values"])]
        values = [float(cell) if PLAIN_NUMBER.fullmatch(cell) else cell for cell in cells if cell]
        if SAYS[name] != "baseline" or all(isinstance(value, float) for value in values):  # it may be told in words
            yield "", name, values


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line without spaces and quotes, clocks' times in seconds. One stands behind the last delimiter."""
    cells = numbers_alike(line, delimiter).split(None if delimiter == " " else delimiter)
    return [cell.strip().strip("\"'").strip() for cell in cells]


def numbers_alike(text: str, delimiter: str) -> str:
    """A text in which decimal commas between quotes are points, and times of a clock are seconds."""
    if delimiter == "," and '"' in text:
        text = QUOTED_COMMA.sub(r'"\1.\2"', text)
    clock = CLOCK_BETWEEN_COMMAS if delimiter == "," else CLOCK
    return clock.sub(_seconds, text) if ":" in text else text


def _seconds(clock: re.Match[str]) -> str:
    seconds = (int(clock["hours"] or 0) * 60 + int(clock["minutes"])) * 60 + int(clock["seconds"])
    return f"{seconds}.{clock['fraction'] or 0}"


def are_numbers(row: list[str], width: int, texts: Container[int] = ()) -> bool:
    """Whether a row has so many cells, numbers but in the places of `texts`. An empty one more ends the last one."""
    numbers = [cell for place, cell in enumerate(row) if place not in texts]
    return len(row) - (len(row) > width and row[-1] == "") == width and all(map(is_number, numbers))


def is_number(cell: str) -> bool:
    """Whether a cell is empty or a number."""
    return cell == "" or NUMBER.fullmatch(cell) is not None


def read_column(text: str) -> Column:
    """What a column's name says."""
    match = COLUMN.fullmatch(text) if len(text) <= LONGEST_NAME else None
    if match is None:
        return Column("other", "", "")
    name, unit = match["name"].strip(), match["unit"] or match["suffix"] or ""
    plain = plain_name(name)
    if plain in SECONDS_PER and not unit and len(plain) > 1:  # a column called seconds; one called s may be anything
        return Column("time", name, plain)
    if plain in TIME_NAMES:
        return Column("time", name, unit)
    if plain in COUNTS:
        return Column("count", name, unit)
    return Column("lead" if lead_name(name) or FURTHER_LEAD.fullmatch(name) else "other", name, unit)
