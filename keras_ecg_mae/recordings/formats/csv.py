"""Tables of samples as text: separated by commas, semicolons, tabs, bars or spaces.

A row a sample, below a row of lead names: `time (s),I,II,III` or `I (mV);II (mV)`, with or without a time, from which
the sampling rate follows; or a row a lead, its name first; or numbers alone. NumPy reads the numbers.
"""

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.array_millivolts import to_recording
from keras_ecg_mae.recordings.formats.array_signal import LARGEST_RECORD_SAMPLES, is_leads_first
from keras_ecg_mae.recordings.formats.csv_table import (
    QUOTED_COMMA,
    SECONDS_PER,
    Column,
    Table,
    find_table,
    is_number,
    numbers_alike,
    read_column,
    split_cells,
)
from keras_ecg_mae.recordings.formats.known_names import MOST_LEADS
from keras_ecg_mae.recordings.formats.sidecar import (
    Statement,
    check_said,
    merged,
    read_sidecar,
    said_by_names,
    what_is_said,
)
from keras_ecg_mae.recordings.formats.time_column import rate_of_times
from keras_ecg_mae.recordings.leads_and_units import QUOTABLE_UNIT, lead_names, voltage_unit
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import HEAD_BYTES, Source

# Half an hour of twelve leads at 500 Hz.
LARGEST_FILE_BYTES = 1 << 27
# Times without a unit are seconds if they count in steps that an ECG is sampled in: 100 Hz to 10 kHz.
LONGEST_STEP_S, SHORTEST_STEP_S = 1e-2, 1e-4
# A decimal comma has a zero or nothing before it, or not three digits behind it; what divides thousands never has.
DECIMAL_COMMA = re.compile(r"(?<![0-9])0?,[0-9]|,[0-9]{1,2}(?![0-9])|,[0-9]{4}")


def is_csv(source: Source) -> bool:
    """Whether the file begins as a table of numbers, under names of leads or with eight columns or more."""
    head = source.head
    return bool(head) and find_table(decode(head), whole=len(head) < HEAD_BYTES) is not None


def read_csv(source: Source) -> Recording:
    """Reads a table of samples. An empty cell is NaN; columns that are no lead are left out where others are.

    Sampling rate, unit and leads that it does not tell come from the sidecar or `signal`.

    Raises:
        RecordingError: and nothing else, whatever the file holds.
    """
    path, file, signal = source.path, source.file, source.signal
    text = read_text(path)
    table = find_table(text[:HEAD_BYTES], whole=len(text) <= HEAD_BYTES)
    if table is None:
        raise RecordingError(path, "unknown_format", "Expected a table of numbers. Received another text.")
    columns = columns_of_table(path, text, table)
    leads, names = leads_of_columns(path, columns, read_sidecar(path, file).leads or signal.leads)
    unused = [place for place, column in enumerate(columns) if column.kind == "other" and place not in leads]
    cells = read_cells(path, text[table.start :], table, columns, unused)
    in_file = Statement(
        sampling_rate_hz=rate_of_columns(path, columns, cells),
        unit=units_of_columns(path, [columns[place] for place in leads]),
        leads=names,
    )
    in_file = merged(path, in_file, said_by_names(path, table.said), "what stands before the table")
    said = what_is_said(path, file, in_file, signal)
    check_said(path, said)
    samples = cells[:, leads].T if columns else cells
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
    text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    return text.replace("\N{MINUS SIGN}", "-") if not text.isascii() else text


def columns_of_table(path: str, text: str, table: Table) -> list[Column]:
    """The columns, or the rows of a table with a row a lead; none where they have no names."""
    names = table.names
    if table.leads_are_rows:
        lines = [line for line in text[table.start :].split("\n") if line.strip()]
        if len(lines) > MOST_LEADS:
            raise RecordingError(
                path, "malformed", f"Expected at most {MOST_LEADS} rows, each of a lead. Received more."
            )
        names = tuple(split_cells(line[:MOST_LEADS], table.delimiter)[0] for line in lines)
    columns = [read_column(name) for name in names]
    for place, lead in enumerate(lead_names([column.name for column in columns])):
        columns[place] = replace(columns[place], kind="lead") if lead else columns[place]
    for place, unit in enumerate(table.units):
        columns[place] = replace(columns[place], unit=columns[place].unit or unit)
    return columns


def read_cells(path: str, text: str, table: Table, columns: list[Column], unused: list[int]) -> np.ndarray:
    """The numbers of a table, `(rows, columns)`; NaN where a cell is empty, and in columns that are not used.

    Args:
        path: for errors.
        text: where the numbers begin.
        table: it is.
        columns: of the table, none where they have no names.
        unused: places of columns, which may be texts.
    """
    delimiter, body = table.delimiter, text
    if table.leads_are_rows:
        rows = [line.partition(delimiter)[2] for line in text.split("\n") if line.strip()]
        body, unused = "\n".join(rows), []
    body = body.strip("\n")
    count = body.count("\n") + body.count(delimiter) + 1
    if count > LARGEST_RECORD_SAMPLES:
        raise RecordingError(
            path, "too_long", f"Expected at most {LARGEST_RECORD_SAMPLES} cells in all. Received {count}."
        )
    if not body:
        raise RecordingError(path, "malformed", "Expected rows of numbers below the names. Received none.")
    check_commas(path, body, delimiter)
    used = [place for place in range(len(columns)) if place not in unused]
    try:
        cells = parse_numbers(body, delimiter, len(columns), used if unused else None)
    except ValueError as error:
        place = re.search(r"row ([0-9]{1,9})", str(error))
        raise _unlike(path, text, table, len(columns), unused, int(place[1]) if place else 0) from error
    if table.leads_are_rows:
        cells = cells.T
    elif unused:
        every = np.full((cells.shape[0], len(columns)), np.nan)
        every[:, used] = cells
        cells = every
    elif cells.shape[1] > (len(columns) or 1) and np.isnan(cells[:, -1]).all():
        cells = cells[:, :-1]  # rows end in a delimiter
    if columns and len(columns) != cells.shape[1]:
        raise _unlike(path, text, table, len(columns), unused, 0)
    return cells


def parse_numbers(text: str, delimiter: str, width: int, used: list[int] | None) -> np.ndarray:
    """The numbers of a text, `(rows, columns)`; of its `width` columns the `used` ones. `ValueError` for other rows."""
    text = numbers_alike(text, delimiter)
    if delimiter != ",":
        text = text.replace(",", ".")
    text = text.replace('"', "").replace("'", "")
    gap = re.escape(delimiter)
    gaps = delimiter * 2 in text or f"{delimiter}\n" in text or f"\n{delimiter}" in text or text.endswith(delimiter)
    if gaps and delimiter != " ":
        text = re.sub(rf"(?<={gap})(?={gap}|$)|^(?={gap})", "nan", text, flags=re.MULTILINE)
    divided_by = None if delimiter == " " else delimiter
    if used is not None:  # then NumPy does not count them
        for row, line in enumerate(filter(None, text.split("\n"))):
            row_cells = line.split(divided_by)
            if len(row_cells) - (len(row_cells) > width and row_cells[-1] == "nan") != width:
                raise ValueError(f"row {row}")
    options: dict[str, Any] = {"delimiter": divided_by, "comments": None, "usecols": used, "ndmin": 2}
    cells: np.ndarray = np.loadtxt(io.StringIO(text), np.float64, **options)
    return cells


def check_commas(path: str, text: str, delimiter: str) -> None:
    """Raises `RecordingError` where it cannot be told whether commas within numbers are decimal or divide thousands."""
    if delimiter == ",":
        within = [cell[0].strip('"') for cell in QUOTED_COMMA.finditer(text)] if '"' in text else []
    else:
        within = [text] if "," in text else []
    if within and not any(DECIMAL_COMMA.search(cell) for cell in within):
        raise RecordingError(
            path, "malformed", "Expected decimal commas. Received three digits behind each: they may be thousands."
        )


def _unlike(path: str, text: str, table: Table, width: int, texts: list[int], row: int) -> RecordingError:
    """What to say of a table's lines, one of which is another at about `row`; columns in the places `texts` may be."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=table.lines + 1) if line.strip()]
    if table.leads_are_rows or not width:
        width, texts = len(split_cells(lines[0][1], table.delimiter)), [0] if table.leads_are_rows else []
    for number, line in lines[max(0, row - 1) : row + 2]:
        cells = split_cells(line, table.delimiter)
        wrong = [place + 1 for place, cell in enumerate(cells) if place not in texts and not is_number(cell)]
        if len(cells) - (len(cells) > width and cells[-1] == "") != width:
            received = f"{len(cells)} in line {number}"
            return RecordingError(path, "malformed", f"Expected {width} cells in each line. Received {received}.")
        if wrong:
            received = f"another text in cell {wrong[0]} of line {number}"
            return RecordingError(path, "malformed", f"Expected numbers below the names. Received {received}.")
    return RecordingError(path, "malformed", "Expected as many numbers in each row as in the first. Received others.")


def leads_of_columns(path: str, columns: list[Column], stated: tuple[str, ...]) -> tuple[list[int], tuple[str, ...]]:
    """The places of the columns that are leads, and their names, none where it is `stated` that names them.

    Args:
        path: for errors.
        columns: of the table.
        stated: the leads that the sidecar or the settings say.

    Raises:
        RecordingError: `leads`, some stated leads may be columns of other names, and nobody says which.
    """
    leads = [place for place, column in enumerate(columns) if column.kind == "lead"]
    # A lead turned over (-aVR in Cabrera's sequence) is nobody's lead.
    others = [place for place, each in enumerate(columns) if each.kind == "other" and not each.name.startswith("-")]
    names = tuple(columns[place].name for place in leads)
    known = dict(zip(names, lead_names(names), strict=True))
    missing = set(lead_names(stated)) - set(known.values()) - {None}
    if not leads or not others or not 0 < len(missing) <= len(others):
        return leads or others, names
    both = sorted(leads + others)
    in_order = zip((columns[place] for place in both), lead_names(stated), strict=False)
    if len(both) == len(stated) and all(
        column.kind == "other" or known[column.name] == lead for column, lead in in_order
    ):
        return both, ()
    numbers = ", ".join(str(place + 1) for place in others[:12])
    raise RecordingError(
        path,
        "leads",
        f"Expected a column for each of the {len(stated)} stated leads, in their order. Received {len(leads)} with the "
        f"name of a lead; columns {numbers} have other names.",
    )


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
        unit = voltage_unit(column.unit.lower())
        if unit is None:
            received = column.unit if QUOTABLE_UNIT.fullmatch(column.unit) else "another"
            raise RecordingError(
                path, "unit", f"Expected the unit mV, uV or V in the name of each lead's column. Received {received}."
            )
        units.append(unit)
    return tuple(units)
