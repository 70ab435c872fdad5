"""A table as hospitals hand it over, CSV, TSV, Excel or Parquet: every cell as the text that its CSV would have."""

import csv
import hashlib
import io
import math
import re
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
from openpyxl.utils.cell import column_index_from_string, coordinate_from_string
from pyarrow import parquet

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError

_ZIP, _PARQUET, _OLE = b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_DELIMITERS = ",\t;|"
# Follows the last row: it stands in a record by itself unless a quote before it was never closed.
_END = "\x1aend of the table\x1a"
# What Excel's own sheets cannot exceed, a million rows of 32 columns, and what a workbook may unfold to: its XML
# shrinks ten- to thirtyfold, that of a zip bomb a thousandfold.
_EXCEL_ROWS = 1 << 20
_MOST_EXCEL_CELLS = 1 << 25
_MOST_UNFOLDED_BYTES, _UNFOLDED_BYTES_WORTH_A_LOOK, _MOST_UNFOLDING = 1 << 30, 1 << 26, 100
_MOST_PARQUET_ROWS = 1 << 26
# Of a number format, what is shown as it stands: in quotes, behind a backslash.
_LITERAL = re.compile(r'"[^"]*"|\\.')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s+ref="([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})"')
_LONGEST_MERGE = 100  # bytes of such an element, which a piece may end within
_EXACT_IN_A_FLOAT, _EXACT_IN_EXCEL = 2.0**53, 10**15


@dataclass(frozen=True)
class TableFile:
    """The columns in use of one table.

    Attributes:
        path: the file, as the user named it.
        header: the names of all its columns.
        cells: text without blanks around it, empty where the table has nothing; one column a name in use, one row a
            row that is not blank, the index being its number in the sheet. The header is row 1 where the table begins
            with it, as a spreadsheet and a text editor count; in Parquet the first row is row 2 all the same.
        long_rows: numbers of rows with more cells than the header, whose cells may stand under a wrong name.
        sha256: checksum of the file.
    """

    path: str
    header: tuple[str, ...]
    cells: pd.DataFrame
    long_rows: frozenset[int]
    sha256: str


def read_table_file(path: str, setting: str, wanted: Collection[str], sheet_setting: str, sheet: str) -> TableFile:
    """Reads a table, told apart by its content: a zip with `xl/` in it, Parquet's magic number, else text.

    Text is UTF-8, its columns divided by commas, tabs, semicolons or bars, by which `sep=` in the first line names or
    whichever divide the header into the most. Excel's numbers are written as short as they are exact (35, 35.5), those
    that are not in scientific notation, and percentages as they are shown (35%, stored as 0.35); its dates and those of
    Parquet as ISO 8601 has them; what a formula gave when the workbook was saved counts, not the formula.

    Args:
        path: the file.
        setting: the setting that names it, for messages.
        wanted: names of columns; the cells of all others are dropped as they are read.
        sheet_setting: the setting that names the sheet, for messages.
        sheet: an Excel table's sheet; empty for the first that is not hidden.

    Raises:
        DatasetError: the file is no such table, is unsafe to unfold, or has no rows.
        ConfigError: a sheet is named and the table is not Excel's, or has no such sheet.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path}: Expected a table: CSV, TSV, Excel or Parquet (--{Cohort.flag(setting)}). "
            f"Received: {error.strerror}."
        ) from error
    is_excel = content.startswith(_ZIP)
    if sheet and not is_excel:
        raise ConfigError(f"Expected --{Cohort.flag(sheet_setting)} with an Excel table only. Received {sheet!r}.")
    checksum = hashlib.sha256(content).hexdigest()
    if content.startswith(_PARQUET):
        header, cells = _read_parquet(path, content, wanted)
        return TableFile(path, header, _expect_rows(path, cells), frozenset(), checksum)
    if content.startswith(_OLE):
        raise DatasetError(
            f"{path}: Expected a table that is not encrypted: CSV, TSV, Excel's .xlsx or Parquet. Received Excel's "
            "older format .xls, or an encrypted workbook: save it as .xlsx without a password."
        )
    records = _excel_records(path, content, sheet_setting, sheet) if is_excel else _text_records(path, content)
    header, cells, long_rows = _gather(path, records, wanted)
    return TableFile(path, header, _expect_rows(path, cells), long_rows, checksum)


def _expect_rows(path: str, cells: pd.DataFrame) -> pd.DataFrame:
    if len(cells) == 0:
        raise DatasetError(f"{path}: Expected at least one row. Received a table without rows.")
    return cells


def _gather(
    path: str, records: Iterable[list[str]], wanted: Collection[str]
) -> tuple[tuple[str, ...], pd.DataFrame, frozenset[int]]:
    """Header, cells and rows that are too long, of records without blanks around their cells.

    The first record that is not blank is the header.
    """
    numbered = ((row, record) for row, record in enumerate(records, 1) if any(record))
    _, header = next(numbered, (0, []))
    if not header:
        raise DatasetError(f"{path}: Expected a table with a header. Received nothing but blanks.")
    positions = _positions(path, header, wanted)
    columns: list[list[str]] = [[] for _ in positions]
    rows, long_rows = [], set()
    for row, record in numbered:
        rows.append(row)
        if len(record) > len(header) and any(record[len(header) :]):
            long_rows.add(row)
        for column, position in zip(columns, positions.values(), strict=True):
            column.append(record[position] if position < len(record) else "")
    cells = dict(zip(positions, columns, strict=True))
    return tuple(header), pd.DataFrame(cells, index=rows, dtype=object), frozenset(long_rows)


def _positions(path: str, header: list[str], wanted: Collection[str]) -> dict[str, int]:
    positions = {name: header.index(name) for name in header if name in wanted and name}
    for name in positions:
        if header.count(name) > 1:
            raise DatasetError(f'{path}: Expected one column "{name}". Received {header.count(name)}.')
    return positions


def _text_records(path: str, content: bytes) -> Iterator[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: Expected text in UTF-8. Received byte {error.start} that is not: from Excel, save the table as "
            '"CSV UTF-8" or as a workbook.'
        ) from None  # the error has the whole text
    if "\0" in text:
        raise DatasetError(f"{path}: Expected text, a workbook or Parquet. Received a zero byte.")
    del text
    row, stated = 0, _stated_delimiter(content)
    try:
        for record in csv.reader(chain(_lines(content), [_END]), delimiter=stated or _delimiter(content)):
            if record == [_END]:
                return
            row += 1
            if record and record[-1].endswith(_END):
                raise DatasetError(
                    f"{path}, row {row}: Expected a quote at the end of each cell that begins with one. "
                    "Received none to the end of the file."
                )
            yield [] if stated and row == 1 else [cell.strip() for cell in record]
    except csv.Error as error:
        raise DatasetError(f"{path}: Expected CSV. Received, after row {row}: {error}.") from None


def _lines(content: bytes) -> Iterator[str]:
    """Line by line: the text in one piece would take four bytes a character."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")


def _stated_delimiter(content: bytes) -> str:
    """What `sep=` in the first line says, as programs write for Excel, which hides it; empty where it says nothing."""
    line = next(_lines(content), "").rstrip("\r\n").lower()
    return line.removeprefix("sep=") if line in {f"sep={delimiter}" for delimiter in _DELIMITERS} else ""


def _delimiter(content: bytes) -> str:
    """What divides the header into the most columns; of equals, the comma before others."""

    def columns(delimiter: str) -> int:
        return next((len(record) for record in csv.reader(_lines(content), delimiter=delimiter) if any(record)), 0)

    return max(_DELIMITERS, key=columns)


def _excel_records(path: str, content: bytes, sheet_setting: str, sheet: str) -> Iterator[list[str]]:
    """The rows of one sheet, up to the last that has cells; what is merged downwards stands in each of its rows."""
    cells = 0
    try:
        _expect_safe_workbook(path, content)
        with warnings.catch_warnings():
            # About styles, validation and other things of no account here.
            warnings.simplefilter("ignore")
            workbook = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
            worksheet = _sheet(path, workbook, sheet_setting, sheet)
            worksheet.reset_dimensions()  # some programs write wrong ones
            merged = _merged_downwards(content, worksheet._worksheet_path)
            held: dict[int, tuple[int, str]] = {}  # by column: the last row, and what stands in each
            has_header = False
            for row, values in enumerate(worksheet.iter_rows(), 1):
                cells += len(values)
                if row > _EXCEL_ROWS or cells > _MOST_EXCEL_CELLS:
                    raise DatasetError(
                        f"{path}: Expected a sheet of at most {_EXCEL_ROWS:,} rows and {_MOST_EXCEL_CELLS:,} cells. "
                        "Received more: save it as CSV or Parquet."
                    )
                record = [_excel_text(cell) for cell in values]
                held = {column: (last, text) for column, (last, text) in held.items() if row <= last}
                record += [""] * (max(held, default=0) + 1 - len(record))
                for column, (_, text) in held.items():
                    record[column] = text
                for column, last in merged.get(row, ()) if has_header else ():
                    if column < len(record):
                        held[column] = last, record[column]
                has_header = has_header or any(record)
                yield record
    except (ConfigError, DatasetError):
        raise
    # openpyxl raises whatever a damaged part leads to, with the part's text in the message.
    except Exception as error:
        cause = type(error.__cause__ or error).__name__
        raise DatasetError(f"{path}: Expected a whole Excel workbook. Received {cause}.") from None


def _merged_downwards(content: bytes, part: str) -> dict[int, list[tuple[int, int]]]:
    """Column, counted from 0, and last row of the cells that are merged with those below them, by their row.

    A patient's id that is merged over the rows of their ECGs is stored in the first alone. openpyxl leaves merged cells
    out where it reads row by row; they stand behind the rows.
    """
    found: set[bytes] = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(part) as sheet:
        text = b""
        while chunk := sheet.read(1 << 20):
            text = text[-_LONGEST_MERGE:] + chunk
            found.update(_MERGED.findall(text))
    merged: dict[int, list[tuple[int, int]]] = {}
    for first, last in (reference.decode().split(":") for reference in sorted(found)):
        column, row = coordinate_from_string(first)
        last_row = coordinate_from_string(last)[1]
        if last_row > row:
            merged.setdefault(row, []).append((column_index_from_string(column) - 1, last_row))
    return merged


def _expect_safe_workbook(path: str, content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
    if not any(entry.filename == "xl/workbook.xml" for entry in entries):
        raise DatasetError(
            f"{path}: Expected a table: CSV, TSV, Excel's .xlsx or Parquet. Received a zip file without "
            "xl/workbook.xml."
        )
    # No more than this is unfolded: zipfile stops at the size that an entry declares.
    unfolded = sum(entry.file_size for entry in entries)
    limit = max(_UNFOLDED_BYTES_WORTH_A_LOOK, min(_MOST_UNFOLDED_BYTES, _MOST_UNFOLDING * len(content)))
    if unfolded > limit:
        raise DatasetError(
            f"{path}: Expected a workbook that unfolds to at most {limit:,} bytes. Received {unfolded:,}: if it is no "
            "zip bomb, save it as CSV or Parquet."
        )


def _sheet(path: str, workbook: Any, sheet_setting: str, sheet: str) -> Any:
    for worksheet in workbook.worksheets:
        if worksheet.title == sheet or (not sheet and worksheet.sheet_state == "visible"):
            return worksheet
    if not sheet:
        raise DatasetError(f"{path}: Expected a sheet that is not hidden. Received none.")
    raise ConfigError(
        f"Expected --{Cohort.flag(sheet_setting)} to be one of the {len(workbook.worksheets)} sheets of {path}. "
        f"Received {sheet!r}."
    )


def _read_parquet(path: str, content: bytes, wanted: Collection[str]) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Header and cells; lists, structures and bytes are no cells, and columns of them none of the table's."""
    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        fields = [field for field in file.schema_arrow if not (pa.types.is_nested(field.type) or _is_bytes(field.type))]
        header = [field.name.strip() for field in fields]
        positions = _positions(path, header, wanted)
        rows = file.metadata.num_rows
        if rows > _MOST_PARQUET_ROWS:
            raise DatasetError(f"{path}: Expected at most {_MOST_PARQUET_ROWS:,} rows. Received {rows:,}.")
        blank = np.ones(rows, bool)
        cells = {}
        for position, field in enumerate(fields):  # one after another: tables are wide, and few columns are in use
            texts = [_text(value) for value in _values(file.read(columns=[field.name]).column(0))]
            blank &= np.array([text == "" for text in texts], bool)
            if positions.get(header[position]) == position:
                cells[header[position]] = texts
    except DatasetError:
        raise
    except Exception as error:  # as above
        raise DatasetError(f"{path}: Expected a whole Parquet file. Received {type(error).__name__}.") from None
    return tuple(header), pd.DataFrame(cells, index=range(2, 2 + rows), dtype=object)[~blank]


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Python's own values, None where null."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values = column.to_pylist()
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        # As short as they are exact in their own precision: 34.9, not 34.900001525878906.
        kind = column.type.to_pandas_dtype()
        return [None if value is None else float(str(kind(value))) for value in values]
    return values


def _excel_text(cell: Any) -> str:
    """What the sheet shows where its number format changes the number's meaning, else as `_text` has the value.

    35% is stored as 0.35, and the id 00123 may be stored as 123 with the format 00000. A number of more digits than
    Excel keeps of it shows that, whoever has stored more.
    """
    value = cell.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    if abs(value) >= _EXACT_IN_EXCEL:
        return f"{value:.14E}"
    number_format = _LITERAL.sub("", cell.number_format)
    if "%" in number_format:
        return f"{_text(float(f'{100 * value:.12g}'))}%"
    text = _text(value)
    return text.zfill(len(number_format)) if text.isdigit() and not number_format.strip("0") else text


def _text(value: Any) -> str:
    """What a table's CSV would say where a program has this value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value)) if abs(value) < _EXACT_IN_A_FLOAT else f"{value:.15E}"
    if isinstance(value, datetime):  # in its own time zone
        value = value.replace(tzinfo=None)
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    return value.isoformat() if isinstance(value, date | time) else str(value).strip()
