"""Tables of samples as text, a row a sample, below the names of leads or with eight columns or more.

`time (s),I,II,III` or `I (mV);II (mV)`, or names and then a row of units, as PhysioNet's `rdsamp -c` writes them. The
time may be that of a clock. Decimal commas, quotes and comments are understood.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_ecg_mae.recordings.formats.arrays import is_leads_first, to_recording
from keras_ecg_mae.recordings.formats.sidecar import (
    Statement,
    check_said,
    meant,
    plain_name,
    read_sidecar,
    what_is_said,
)
from keras_ecg_mae.recordings.formats.times import DATE_BESIDE_CLOCK, SECONDS_PER, rate_of_times, seconds_of_clock
from keras_ecg_mae.recordings.leads_and_units import FURTHER_LEAD, QUOTABLE_UNIT, lead_name, lead_names
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

# A line's number in the file, from 1, and its text or cells.
Line = tuple[int, str]
Row = tuple[int, list[str]]

DELIMITERS = (";", "\t", "|", ",", " ")  # a space: any run of spaces
# Names may stand in any of the first lines, below what is said of device and patient.
MOST_LINES_BEFORE = 64
# A table without the names of leads has at least the eight that a recording must have.
FEWEST_COLUMNS = 8
LONGEST_NAME = 80
# `I (mV)`, `I [uV]`, `I_mV`, `time_ms`, `t / s`.
COLUMN = re.compile(
    r"(?P<name>[^()\[\]]*?)\s*([(\[]\s*(?P<unit>[^()\[\]]*?)\s*[)\]]"
    r"|([_ /,]\s*|\sin\s+)(?P<suffix>[mMuU\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]?[Vv]|m?s))?"
)
TIME_NAMES = {
    *("time", "times", "t", "timestamp", "timestamps", "datetime", "timeanddate", "elapsedtime", "timeoffset"),
    *("zeit", "tijd", "temps", "tiempo", "tempo"),
}
COUNTS = {"", "index", "sample", "samples", "samplenumber", "sampleindex", "samplenr", "sampleno", "unnamed0", "lead"}
# Times without a unit are seconds if they count in steps that an ECG is sampled in: 100 Hz to 10 kHz, rounded.
SHORTEST_STEP_S, LONGEST_STEP_S = 0.9e-4, 1.1e-2
# A decimal comma has a zero or nothing before it, or not three digits behind it; what divides thousands never has.
DECIMAL_COMMA = re.compile(r"(?<![0-9])0?,[0-9]|,[0-9]{1,2}(?![0-9])|,[0-9]{4}")


@dataclass(frozen=True)
class Column:
    """What a column's name says: its kind (`lead`, `time`, `count` or `other`), name, and unit, if it has one."""

    kind: str
    name: str
    unit: str


@dataclass(frozen=True)
class Table:
    """How lines are a table of numbers.

    Attributes:
        body: how many lines stand above the numbers.
        delimiter: between cells, of `DELIMITERS`.
        columns: those that have names, else none.
    """

    body: int
    delimiter: str
    columns: tuple[Column, ...]


def is_csv(source: Source) -> bool:
    """Whether the file begins as a table of numbers, under names of leads or with eight columns or more."""
    return find_table(read_lines(source.head)) is not None


def read_csv(source: Source) -> Recording:
    """Reads a table of samples. An empty cell is NaN; columns that are no lead are left out where others are.

    Sampling rate, unit and leads that it does not tell come from the sidecar or `signal`.

    Raises:
        RecordingError: a cell is no number, the times are not evenly spaced, or nobody says what the numbers mean.
    """
    lines = read_lines(source.content)
    table = find_table(lines)
    if table is None:
        raise source.refusal("unknown_format", "Expected a table of numbers. Received another text.")
    rows = read_rows(source, lines, table)
    columns = table.columns or tuple(Column("other", "", "") for _ in rows[0][1])
    places, names = leads_of_columns(source, columns)
    units = [columns[place].unit for place in places]
    in_file = Statement(
        sampling_rate_hz=rate_of_columns(source, columns, rows),
        unit=meant(source, "unit", "file", [unit or "none" for unit in units]) if any(units) else (),
        leads=names,
    )
    said = what_is_said(source, in_file)
    samples = np.array([numbers(source, rows, place) for place in places])
    check_said(source, said, min(samples.shape))
    if table.columns:
        fits = len(samples) == len(said.leads)
        source.expect(fits, "leads", f"Expected {len(said.leads)} columns of leads. Received {len(places)}.")
    elif not is_leads_first(source, samples.shape, len(said.leads)):
        samples = samples.T
    return to_recording(source, "csv", samples, said)


def read_lines(content: bytes) -> list[Line]:
    """The lines that are not blank of a text in UTF-8, UTF-16 (as spreadsheets write it, with its mark) or Latin-1."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    if "\0" in text or text.lstrip()[:1] in ("<", "{", "["):
        return []  # binary, XML or JSON
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\N{MINUS SIGN}", "-").split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def find_table(lines: Sequence[Line]) -> Table | None:
    """How lines, which are the beginning of a text or all, are a table of numbers; None where they are none."""
    for place, (_, line) in enumerate(lines[:MOST_LINES_BEFORE]):
        for delimiter in DELIMITERS:
            cells = split_cells(line.lstrip("#% "), delimiter)
            columns = tuple(map(read_column, cells))
            named = sum(column.kind == "lead" for column in columns)
            if named > 1 and not any(map(is_number, filter(None, cells))):
                table = table_below(lines, place, delimiter, columns)
                if table is not None:
                    return table
            elif len(cells) >= FEWEST_COLUMNS and any(cells) and all(map(is_number, cells)):
                if cells[1:] in ([str(number + first) for number in range(len(cells) - 1)] for first in (0, 1)):
                    return Table(place + 1, delimiter, columns)  # pandas counts columns that have no names
                above = split_cells(lines[place - 1][1].lstrip("#% "), delimiter) if place else []
                has_names = len(above) == len(cells)
                return Table(place, delimiter, tuple(map(read_column, above)) if has_names else ())
    return None


def table_below(lines: Sequence[Line], place: int, delimiter: str, columns: tuple[Column, ...]) -> Table | None:
    """The table of numbers below the names of its columns, which stand in the line at `place`; None without one."""
    below = lines[place + 1 : place + MOST_LINES_BEFORE]
    rows = [
        (row, split_cells(line, delimiter)) for row, (_, line) in enumerate(below, place + 1) if not is_remark(line)
    ]
    body = place + 1
    if rows and len(rows[0][1]) == len(columns) and is_row_of_units(rows[0][1]):
        number, units = rows.pop(0)
        body = number + 1
        columns = tuple(
            Column(column.kind, column.name, column.unit or unit.strip("()[] "))
            for column, unit in zip(columns, units, strict=True)
        )
    first = rows[0][1] if rows else []
    fits = len(first) - (first[-1:] == [""]) <= len(columns) <= len(first)
    has_numbers = len(rows) > 1 and sum(map(is_number, filter(None, first))) > 1
    begins = all(is_remark(line) for _, line in lines[:place])
    many = sum(column.kind == "lead" for column in columns) >= FEWEST_COLUMNS
    return Table(body, delimiter, columns) if (fits and has_numbers) or (many and (fits or begins)) else None


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line without spaces and quotes."""
    if delimiter == " ":
        cells = DATE_BESIDE_CLOCK.sub("", line).split()
    else:
        cells = next(csv.reader([line], delimiter=delimiter)) if '"' in line else line.split(delimiter)
    return [cell.strip().strip("\"'").strip() for cell in cells]


def is_remark(line: str) -> bool:
    """Whether a line is one beside the table."""
    return line.lstrip().startswith(("#", "%"))


def number(cell: str) -> float | None:
    """The number in a cell, with a decimal point or comma, or the seconds of a clock; NaN where it is empty."""
    try:
        return float(cell.replace(",", ".") or "nan")
    except ValueError:
        return seconds_of_clock(cell)


def is_number(cell: str) -> bool:
    """Whether a cell is empty or a number."""
    return number(cell) is not None


def is_row_of_units(cells: Sequence[str]) -> bool:
    """Whether a row tells the units of the columns that are named above it."""
    units = [cell.strip("()[] ") for cell in cells]
    is_unit = any(QUOTABLE_UNIT.fullmatch(unit) for unit in units if unit != "NA")
    return is_unit and not any(map(is_number, filter(None, units)))


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
    is_turned = name.startswith("-") and lead_name(name[1:]) is not None  # -aVR in Cabrera's sequence is nobody's lead
    if plain in COUNTS or is_turned:
        return Column("count", name, unit)
    return Column("lead" if lead_name(name) or FURTHER_LEAD.fullmatch(name) else "other", name, unit)


def leads_of_columns(source: Source, columns: Sequence[Column]) -> tuple[list[int], tuple[str, ...]]:
    """The places of the columns that are leads, and their names, none where the sidecar or the settings name them.

    Columns of other names count as leads where they and the named leads are together as many as is said.

    Raises:
        RecordingError: `leads`, they are as many, but a named lead stands at another's place.
    """
    stated = lead_names(read_sidecar(source).leads or source.signal.leads)
    spelled = lead_names([column.name for column in columns])
    named = [place for place, column in enumerate(columns) if column.kind == "lead" or spelled[place]]
    every = [place for place, column in enumerate(columns) if column.kind in ("lead", "other")]
    if len(stated) != len(every) or named == every:
        return named or every, tuple(columns[place].name for place in named)
    for place, lead in zip(every, stated, strict=True):
        fits = spelled[place] in (None, lead)
        received = f"Expected the leads in the order that is said. Received {spelled[place]} in column {place + 1}."
        source.expect(fits, "leads", received)
    return every, ()


def read_rows(source: Source, lines: Sequence[Line], table: Table) -> list[Row]:
    """The cells of each row below the names.

    Raises:
        RecordingError: `malformed`, a row has more or fewer than others, or its commas may divide thousands.
    """
    rows = [(line, split_cells(text, table.delimiter)) for line, text in lines[table.body :] if not is_remark(text)]
    source.expect(rows, "malformed", "Expected rows of numbers. Received no row.")
    width = len(table.columns) or len(rows[0][1])
    if len(rows[0][1]) > len(table.columns) and all(not cells[-1] for _, cells in rows):
        rows = [(line, cells[:-1]) for line, cells in rows]  # they end in a delimiter
        width = len(table.columns) or width - 1
    for line, cells in rows:
        received = f"Expected {width} cells in each row. Received {len(cells)} in line {line}."
        source.expect(len(cells) == width, "malformed", received)
    commas = " ".join(cell for _, cells in rows for cell in cells if "," in cell)
    is_decimal = not commas or DECIMAL_COMMA.search(commas)
    source.expect(is_decimal, "malformed", "Expected decimal commas. Received three digits behind each: thousands?")
    return rows


def numbers(source: Source, rows: Sequence[Row], place: int) -> np.ndarray:
    """The numbers of a column. Raises `RecordingError` `malformed` where a cell is another text."""
    values = [number(cells[place]) for _, cells in rows]
    if None in values:
        line = rows[values.index(None)][0]
        raise source.refusal("malformed", f"Expected a number in cell {place + 1} of line {line}. Received other text.")
    return np.array(values, np.float64)


def rate_of_columns(source: Source, columns: Sequence[Column], rows: Sequence[Row]) -> tuple[float, ...]:
    """The sampling rate that a column of times tells, if there is one that tells it."""
    for place, column in enumerate(columns):
        unit = column.unit.lower()
        seconds_per_unit = 1.0 if ":" in unit else SECONDS_PER.get(unit)
        is_other = unit and seconds_per_unit is None
        if column.kind != "time" or is_other or not any(is_number(cells[place]) for _, cells in rows):
            continue  # written or counted otherwise: the sidecar or the settings may tell the rate
        times = numbers(source, rows, place)
        if seconds_per_unit is None:
            seconds_per_unit = 1.0
            if not SHORTEST_STEP_S <= np.median(np.diff(times)) <= LONGEST_STEP_S:
                continue  # in milliseconds, or a count of samples
        rate_hz = rate_of_times(times * seconds_per_unit)
        if rate_hz is None:
            raise source.refusal("sampling_rate", f"Expected evenly spaced times in column {place + 1}.")
        return (rate_hz,)
    return ()
