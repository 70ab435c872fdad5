"""Tables of samples as text, a row a sample, below the names of leads or with eight columns or more.

`time (s),I,II,III` or `I (mV);II (mV)`, or names and then a row of units, as PhysioNet's `rdsamp -c` writes them. The
time may be that of a clock. Decimal commas, quotes and comments are understood; pandas reads the numbers.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from keras_ecg_mae.recordings.formats.times import SECONDS_PER, rate_of_times, with_seconds
from keras_ecg_mae.recordings.leads_and_units import FURTHER_LEAD, QUOTABLE_UNIT, lead_name, lead_names
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import HEAD_BYTES, Source

if TYPE_CHECKING:
    import pandas as pd

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
# Times without a unit are seconds if they count in steps that an ECG is sampled in: 100 Hz to 10 kHz.
SHORTEST_STEP_S, LONGEST_STEP_S = 1e-4, 1e-2
# "0,12" between commas.
QUOTED_COMMA = re.compile(r'(?:^|(?<=[, ]))"([^",\n]*),([^",\n]*)"(?=[, ]|$)', re.MULTILINE)
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
    """How a text is a table of numbers.

    Attributes:
        body: where the numbers begin, as a count of characters.
        delimiter: between cells, of `DELIMITERS`.
        columns: those that have names, else none.
    """

    body: int
    delimiter: str
    columns: tuple[Column, ...]


def is_csv(source: Source) -> bool:
    """Whether the file begins as a table of numbers, under names of leads or with eight columns or more."""
    return find_table(decode(source.head)) is not None


def read_csv(source: Source) -> Recording:
    """Reads a table of samples. An empty cell is NaN; columns that are no lead are left out where others are.

    Sampling rate, unit and leads that it does not tell come from the sidecar or `signal`.

    Raises:
        RecordingError: a cell is no number, the times are not evenly spaced, or nobody says what the numbers mean.
    """
    path = source.path
    text = decode(source.content)
    table = find_table(text[:HEAD_BYTES])
    if table is None:
        raise source.refusal("unknown_format", "Expected a table of numbers. Received another text.")
    cells = read_cells(source, text, table)
    columns = table.columns or tuple(Column("other", "", "") for _ in cells)
    places, names = leads_of_columns(source, columns)
    units = [columns[place].unit for place in places]
    in_file = Statement(
        sampling_rate_hz=rate_of_columns(source, columns, cells),
        unit=meant(source, "unit", "file", [unit or "none" for unit in units]) if any(units) else (),
        leads=names,
    )
    said = what_is_said(source, in_file)
    samples = np.array([numbers(source, cells, place) for place in places])
    check_said(source, said, min(samples.shape))
    if table.columns and samples.shape[0] != len(said.leads):
        raise source.refusal("leads", f"Expected {len(said.leads)} columns of leads. Received {len(places)}.")
    if not table.columns and not is_leads_first(source, samples.shape, len(said.leads)):
        samples = samples.T
    return to_recording(source, "csv", samples, said)


def decode(content: bytes) -> str:
    """Text in UTF-8, UTF-16 (as spreadsheets write it, with its mark) or Latin-1; lines end in line feeds alone."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\N{MINUS SIGN}", "-")


def find_table(text: str) -> Table | None:
    """How a text, of which this is the beginning or all, is a table of numbers; None where it is none."""
    if "\0" in text or text.lstrip()[:1] in ("<", "{", "["):
        return None
    lines = [(match.start(), match.end() + 1, match[0]) for match in re.finditer(r"[^\n]*\S[^\n]*", text)]
    lines = lines[: 2 * MOST_LINES_BEFORE]
    for number, (start, next_line, line) in enumerate(lines[:MOST_LINES_BEFORE]):
        for delimiter in DELIMITERS:
            cells = split_cells(line.lstrip("#% "), delimiter)
            columns = [read_column(cell) for cell in cells]
            named = sum(column.kind == "lead" for column in columns)
            if named > 1 and not any(map(is_number, filter(None, cells))):
                rows = [
                    (after, split_cells(below, delimiter))
                    for _, after, below in lines[number + 1 :]
                    if not is_remark(below)
                ]
                body = next_line
                if rows and is_row_of_units(rows[0][1]) and len(rows[0][1]) == len(cells):
                    body, units = rows.pop(0)
                    columns = [
                        Column(column.kind, column.name, column.unit or unit.strip("()[] "))
                        for column, unit in zip(columns, units, strict=True)
                    ]
                first = rows[0][1] if rows else []
                fits = len(first) - (first[-1:] == [""]) <= len(cells) <= len(first)
                has_numbers = len(rows) > 1 and sum(map(is_number, filter(None, first))) > 1
                begins = all(is_remark(before) for _, _, before in lines[:number])
                if (fits and has_numbers) or (named >= FEWEST_COLUMNS and (fits or begins)):
                    return Table(body, delimiter, tuple(columns))
            elif len(cells) >= FEWEST_COLUMNS and any(cells) and all(map(is_number, cells)):
                if cells[1:] in ([str(place + first) for place in range(len(cells) - 1)] for first in (0, 1)):
                    return Table(next_line, delimiter, tuple(columns))  # pandas counts columns that have no names
                above = split_cells(lines[number - 1][2].lstrip("#% "), delimiter) if number else []
                has_names = len(above) == len(cells)
                return Table(start, delimiter, tuple(map(read_column, above)) if has_names else ())
    return None


def split_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line without spaces and quotes, clocks' times in seconds."""
    line = with_seconds(line, delimiter)
    line = QUOTED_COMMA.sub(r"\1.\2", line) if delimiter == "," and '"' in line else line
    return [cell.strip().strip("\"'").strip() for cell in line.split(None if delimiter == " " else delimiter)]


def is_remark(line: str) -> bool:
    """Whether a line is one beside the table."""
    return line.lstrip().startswith(("#", "%"))


def is_number(cell: str) -> bool:
    """Whether a cell is empty or a number, with a decimal point or comma."""
    try:
        float(cell.replace(",", ".") or 0)
    except ValueError:
        return False
    return True


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
        if spelled[place] not in (None, lead):
            raise source.refusal(
                "leads",
                f"Expected the leads in the order that is said. Received {spelled[place]} in column {place + 1}.",
            )
    return every, ()


def read_cells(source: Source, text: str, table: Table) -> "pd.DataFrame":
    """The cells of a table by the number of their line: numbers where all of a column are, NaN where one is empty."""
    import pandas as pd  # a third of a second in each process that needs it

    body = with_points(source, with_seconds(text[table.body :], table.delimiter), table.delimiter).replace("'", "")
    before = text.count("\n", 0, table.body)
    divider = None if table.delimiter == " " else table.delimiter
    width = len(table.columns) or len(split_cells(body.partition("\n")[0], table.delimiter))
    lines = []
    for number, line in enumerate(io.StringIO(body), start=before + 1):
        if line.strip() and not line.startswith("#"):
            lines.append(number)
            found = line.count(divider) + 1 if divider else len(line.split())
            if found < width:
                raise source.refusal(
                    "malformed", f"Expected {width} cells in each row. Received {found} in line {number}."
                )
    try:
        cells = pd.read_csv(
            io.StringIO(body),
            sep=r"\s+" if divider is None else divider,
            header=None,
            comment="#",
            keep_default_na=False,
            na_values=["", "nan", "NaN"],
            float_precision="round_trip",
        )
    except ValueError as error:  # pandas' own sentence may quote a cell
        place = re.search(r"in line ([0-9]+), saw ([0-9]+)", str(error))
        received = f"{place[2]} in line {int(place[1]) + before}" if place else "no row"
        raise source.refusal("malformed", f"Expected {width} cells in each row. Received {received}.") from None
    if cells.shape[1] > 1 and (cells.shape[1] > width or not table.columns) and cells.iloc[:, -1].isna().all():
        cells = cells.iloc[:, :-1]  # rows end in a delimiter
    if table.columns and cells.shape[1] != width:
        raise source.refusal(
            "malformed", f"Expected {width} cells in each row. Received {cells.shape[1]} in line {lines[0]}."
        )
    return cells.set_axis(lines if len(lines) == len(cells) else cells.index)


def with_points(source: Source, text: str, delimiter: str) -> str:
    """A text with points for its decimal commas. Between commas these are in quotes.

    Raises:
        RecordingError: `malformed`, they may divide thousands.
    """
    if "," not in text or (delimiter == "," and '"' not in text):
        return text
    quoted = QUOTED_COMMA if delimiter == "," else None
    within = " ".join(match[0].strip('"') for match in quoted.finditer(text)) if quoted else text
    if "," in within and not DECIMAL_COMMA.search(within):
        raise source.refusal(
            "malformed", "Expected decimal commas. Received three digits behind each: they may be thousands."
        )
    return quoted.sub(r"\1.\2", text) if quoted else text.replace(",", ".")


def numbers(source: Source, cells: "pd.DataFrame", place: int) -> np.ndarray:
    """The numbers of a column. Raises `RecordingError` `malformed` where a cell is another text."""
    import pandas as pd

    column = cells.iloc[:, place]
    found = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(found.isna() & column.notna())
    if wrong.size:
        raise source.refusal(
            "malformed",
            f"Expected numbers. Received another text in cell {place + 1} of line {column.index[wrong[0]]}.",
        )
    values: np.ndarray = found.to_numpy(np.float64)
    return values


def rate_of_columns(source: Source, columns: Sequence[Column], cells: "pd.DataFrame") -> tuple[float, ...]:
    """The sampling rate that a column of times tells, if there is one that tells it."""
    import pandas as pd

    for place, column in enumerate(columns):
        if column.kind != "time":
            continue
        unit = column.unit.lower()
        seconds_per_unit = 1.0 if ":" in unit else SECONDS_PER.get(unit)
        if pd.to_numeric(cells.iloc[:, place], errors="coerce").isna().all() or (unit and seconds_per_unit is None):
            continue  # written or counted otherwise: the sidecar or the settings may tell the rate
        times = numbers(source, cells, place)
        if seconds_per_unit is None:
            seconds_per_unit = 1.0
            if not SHORTEST_STEP_S <= np.median(np.diff(times)) <= LONGEST_STEP_S:
                continue  # in milliseconds, or a count of samples
        rate_hz = rate_of_times(times * seconds_per_unit)
        if rate_hz is None:
            raise source.refusal(
                "sampling_rate", f"Expected evenly spaced times in column {place + 1}. Received others."
            )
        return (rate_hz,)
    return ()
