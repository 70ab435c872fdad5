"""Tables of samples as text: separated by commas, semicolons or tabs.

A row a sample, below a row of lead names: `time (s),I,II,III` or `I (mV);II (mV)`, with or without a time, from which
the sampling rate follows; or a row a lead, its name first; or numbers alone. NumPy reads the numbers.
"""

import io
import re
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from keras_ecg_mae.config import Signal
from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.array_signal import LARGEST_RECORD_SAMPLES, is_leads_first, to_recording
from keras_ecg_mae.recordings.conform import lead_name
from keras_ecg_mae.recordings.quotable_unit import QUOTABLE_UNIT
from keras_ecg_mae.recordings.record_path import read_head, split_record_path
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.signal_statement import (
    FURTHER_LEAD,
    MOST_LEADS,
    NOTHING_SAID,
    UNIT_SPELLINGS,
    Statement,
    check_said,
    plain_name,
    what_is_said,
)
from keras_ecg_mae.recordings.time_column import rate_of_times

# Half an hour of twelve leads at 500 Hz.
LARGEST_FILE_BYTES = 1 << 27
# Two rows must lie in it, of 5000 samples each where a row is a lead.
HEAD_BYTES = 1 << 18
# A table of numbers without the name of a lead in it has at least the eight leads that a recording must have.
FEWEST_UNNAMED_COLUMNS = 8

NUMBER = re.compile(
    r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]{1,3})?|[+-]?(nan|inf(inity)?)", re.IGNORECASE
)
# `I (mV)`, `I [uV]`, `I_mV`, `time_ms`.
COLUMN = re.compile(
    r"(?P<name>[^()\[\]]*?)\s*"
    r"([(\[]\s*(?P<unit>[^()\[\]]*?)\s*[)\]]|[_ /](?P<suffix>[mu\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]?[Vv]|m?s))?"
)
TIME_NAMES = {"time", "times", "t", "timestamp", "elapsedtime"}
SECONDS_PER = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s"), 1e-6),
}
COUNTS = {"", "index", "sample", "samples", "samplenumber", "sampleindex", "samplenr", "sampleno", "unnamed0"}
# Times without a unit are seconds if they count in steps that an ECG is sampled in: 100 Hz to 10 kHz.
LONGEST_STEP_S, SHORTEST_STEP_S = 1e-2, 1e-4


@dataclass(frozen=True)
class Table:
    """How a text is a table of numbers.

    Attributes:
        start: where the numbers begin in it, as a count of characters.
        delimiter: between cells.
        names: of the columns, empty where they have none; of the rows of a table with a row a lead.
        units: a row of its own with units, empty where there is none.
        leads_are_rows: whether each row begins with a name.
    """

    start: int
    delimiter: str
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    leads_are_rows: bool = False


@dataclass(frozen=True)
class Column:
    """What a column's name says: its kind (`lead`, `time`, `count` or `other`), name, and unit, if it has one."""

    kind: str
    name: str
    unit: str


def is_csv(path: str) -> bool:
    """Whether the file begins as a table of numbers, under names of leads or with eight columns or more."""
    head = read_head(path, HEAD_BYTES)
    return bool(head) and find_table(decode(head), whole=len(head) < HEAD_BYTES) is not None


def read_csv(path: str, signal: Signal = NOTHING_SAID) -> Recording:
    """Reads a table of samples. An empty cell is NaN; columns that are no lead are left out where others are.

    Sampling rate, unit and leads that it does not tell come from the sidecar or `signal`.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    file, record_id = split_record_path(path)
    if record_id is not None:
        raise RecordingError(path, "missing", "Expected no #ID after a table of one recording. Received one.")
    text = read_text(path)
    table = find_table(text[:HEAD_BYTES], whole=len(text) <= HEAD_BYTES)
    if table is None:
        raise RecordingError(path, "unknown_format", "Expected a table of numbers. Received another text.")
    columns, cells = read_cells(path, text, table)
    leads = [place for place, column in enumerate(columns) if column.kind == "lead"]
    others = [place for place, column in enumerate(columns) if column.kind == "other"]
    in_file = Statement(
        sampling_rate_hz=rate_of_columns(path, columns, cells),
        unit=units_of_columns(path, [columns[place] for place in leads or others]),
        leads=tuple(columns[place].name for place in leads),
    )
    said = what_is_said(path, file, in_file, signal)
    check_said(path, said)
    samples = cells[:, leads or others].T if columns else cells
    if not columns and not is_leads_first(path, cells.shape, len(said.leads)):
        samples = cells.T
    if samples.shape[0] != len(said.leads):
        raise RecordingError(
            path, "leads", f"Expected {len(said.leads)} columns of leads. Received {samples.shape[0]}."
        )
    return to_recording(path, "csv", samples, said)


def read_text(path: str) -> str:
    """The file's text, lines ending in line feeds alone."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise RecordingError(path, "missing", f"Expected a readable file. Received {error.strerror}.") from error
    except ValueError as error:  # a path with a null byte
        raise RecordingError(path, "missing", "Expected a file at this path. Received none.") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise RecordingError(path, "too_long", f"Expected at most {LARGEST_FILE_BYTES} bytes. Received more.")
    return decode(content)


def decode(content: bytes) -> str:
    """Text in UTF-8, UTF-16 (as spreadsheets write it, with its mark) or Latin-1."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def find_table(text: str, *, whole: bool) -> Table | None:
    """How `text`, a file's beginning or all of it (`whole`), is a table of numbers; None where it is none."""
    if "\0" in text:
        return None
    lines = text.split("\n")
    if not whole:
        lines.pop()  # it may be cut
    start = 0
    while lines and (not lines[0].strip() or lines[0].startswith("#")):
        start += len(lines.pop(0)) + 1
    lines = list(takewhile(str.strip, lines[:8]))
    for delimiter in (";", "\t", ","):
        rows = [split_cells(line, delimiter) for line in lines]
        if rows and len(rows[0]) > 1:
            return table_of_rows(rows, start, delimiter, lines)
    return None


def table_of_rows(rows: list[list[str]], start: int, delimiter: str, lines: list[str]) -> Table | None:
    """The table that begins with these rows of cells."""
    table = Table(start, delimiter)
    first = [_is_number(cell) for cell in rows[0]]
    if not first[0] and all(first[1:]) and read_column(rows[0][0]).kind in ("lead", "time") and rows[0][1]:
        named = all(not _is_number(row[0]) and all(map(_is_number, row[1:])) for row in rows)
        return replace(table, leads_are_rows=True) if named and len(rows) > 1 else None
    if not all(first):
        columns = [read_column(cell) for cell in rows[0]]
        table = replace(table, names=tuple(rows[0]), start=table.start + len(lines[0]) + 1)
        rows, lines = rows[1:], lines[1:]
        if rows and len(rows[0]) == len(columns) and not any(_is_number(cell) and cell for cell in rows[0]):
            if not all(cell.lower() in {"", *UNIT_SPELLINGS, *SECONDS_PER} for cell in rows[0]):
                return None
            table = replace(table, units=tuple(rows[0]), start=table.start + len(lines[0]) + 1)
            rows = rows[1:]
        kinds = [column.kind for column in columns]
        if "lead" not in kinds and kinds.count("other") < FEWEST_UNNAMED_COLUMNS:
            return None
    elif len(first) < FEWEST_UNNAMED_COLUMNS:
        return None
    width = len(table.names or rows[0])
    is_table = len(rows) > 1 and all(len(row) == width and all(map(_is_number, row)) for row in rows)
    return table if is_table and any(cell for cell in rows[0]) else None


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line without spaces and quotes; a delimiter at the line's end ends the last one."""
    return [cell.strip().strip("\"'").strip() for cell in line.split(delimiter)]


def _is_number(cell: str) -> bool:
    """Whether a cell is empty or a number."""
    return cell == "" or NUMBER.fullmatch(cell) is not None


def read_column(text: str) -> Column:
    """What a column's name says."""
    match = COLUMN.fullmatch(text)
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


def read_cells(path: str, text: str, table: Table) -> tuple[list[Column], np.ndarray]:
    """The columns, none where they have no names, and the numbers, `(rows, columns)`."""
    names, body = table.names, text[table.start :]
    if table.leads_are_rows:
        rows = [line.split(table.delimiter, 1) for line in body.split("\n") if line.strip()]
        if len(rows) > MOST_LEADS or any(len(row) < 2 for row in rows):
            raise RecordingError(
                path, "malformed", f"Expected at most {MOST_LEADS} rows, each of a lead. Received others."
            )
        names = tuple(split_cells(name, table.delimiter)[0] for name, _ in rows)
        body = "\n".join(numbers for _, numbers in rows)
    cells = parse_numbers(path, body, table.delimiter)
    cells = cells.T if table.leads_are_rows else cells
    columns = [read_column(name) for name in names]
    for place, unit in enumerate(table.units):
        columns[place] = replace(columns[place], unit=columns[place].unit or unit)
    if columns and len(columns) != cells.shape[1]:
        raise RecordingError(
            path, "malformed", f"Expected {len(columns)} columns, as many as names. Received {cells.shape[1]}."
        )
    return columns, cells


def parse_numbers(path: str, text: str, delimiter: str) -> np.ndarray:
    """The numbers of a text, `(rows, columns)`; NaN where a cell is empty."""
    text = text.strip("\n")
    count = text.count("\n") + text.count(delimiter) + 1
    if count > LARGEST_RECORD_SAMPLES:
        raise RecordingError(
            path, "too_long", f"Expected at most {LARGEST_RECORD_SAMPLES} cells in all. Received {count}."
        )
    if delimiter != ",":
        text = text.replace(",", ".")
    text = text.replace('"', "")
    gap = re.escape(delimiter)
    if delimiter * 2 in text or f"{delimiter}\n" in text or f"\n{delimiter}" in text or text.endswith(delimiter):
        text = re.sub(rf"(?<={gap})(?={gap}|$)|^(?={gap})", "nan", text, flags=re.MULTILINE)
    try:
        cells: np.ndarray = np.loadtxt(io.StringIO(text), np.float64, comments=None, delimiter=delimiter, ndmin=2)
    except ValueError as error:
        place = re.search(r"row ([0-9]{1,9})", str(error))
        where = f"row {place[1]} of the numbers" if place else "a row"
        raise RecordingError(
            path, "malformed", f"Expected as many numbers in each row as in the first. Received others in {where}."
        ) from error
    return cells


def rate_of_columns(path: str, columns: list[Column], cells: np.ndarray) -> tuple[float, ...]:
    """The sampling rate that a column of times tells, if there is one that tells it."""
    for place, column in enumerate(columns):
        if column.kind != "time":
            continue
        times = cells[:, place]
        seconds_per_unit = SECONDS_PER.get(column.unit.lower())
        if column.unit and seconds_per_unit is None:
            raise RecordingError(path, "sampling_rate", "Expected times in s, ms or us. Received another unit.")
        if seconds_per_unit is None:
            step = (times[-1] - times[0]) / max(1, times.size - 1)
            if not SHORTEST_STEP_S <= step <= LONGEST_STEP_S:
                continue  # in milliseconds, or a count of samples
            seconds_per_unit = 1.0
        rate_hz = rate_of_times(times, seconds_per_unit)
        if rate_hz is None:
            raise RecordingError(
                path, "sampling_rate", f"Expected evenly spaced times in column {place + 1}. Received others."
            )
        return (rate_hz,)
    return ()


def units_of_columns(path: str, columns: list[Column]) -> tuple[str, ...]:
    """The units of these columns, none where none is given."""
    if not any(column.unit for column in columns):
        return ()
    units = []
    for column in columns:
        unit = UNIT_SPELLINGS.get(column.unit.lower())
        if unit is None:
            received = column.unit if QUOTABLE_UNIT.fullmatch(column.unit) else "another"
            raise RecordingError(
                path, "unit", f"Expected the unit mV, uV or V in the name of each lead's column. Received {received}."
            )
        units.append(unit)
    return tuple(units)
