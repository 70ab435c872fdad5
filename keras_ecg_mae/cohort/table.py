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

import openpyxl
import pandas as pd
import pyarrow as pa
from openpyxl.utils.cell import range_boundaries
from pyarrow import parquet

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError

_ZIP, _PARQUET, _OLE = b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SHEET_SETTING = {"labels": "labels_sheet", "echoes": "echo_sheet"}
_DELIMITERS = ",\t;|"
# As programs write for Excel, which hides this line.
_STATED_DELIMITER = re.compile(rb"(?:\xef\xbb\xbf)?sep=([,\t;|])(?=[\r\n]|$)", re.IGNORECASE)
# Follows the last row: it stands in a record by itself unless a quote before it was never closed.
_END = "\x1aend of the table\x1a"
# Of a number format, what is shown as it stands: in quotes, behind a backslash.
_LITERAL = re.compile(r'"[^"]*"|\\.')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s+ref="([A-Z]{1,3}\d{1,7}:[A-Z]{1,3}\d{1,7})"')
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
        is_long: which rows have more cells than the header. Their cells are empty here, since they may stand under a
            wrong name.
        sha256: checksum of the file.
    """

    path: str
    header: tuple[str, ...]
    cells: pd.DataFrame
    is_long: pd.Series
    sha256: str

    @property
    def too_many_cells(self) -> str:
        """The sentence of what is wrong with long rows."""
        return f"Expected at most {len(self.header)} cells, as in the header. Received more."


def read_table_file(cohort: Cohort, table: str, wanted: Collection[str]) -> TableFile:
    """Reads a table, told apart by its content: a zip with `xl/` in it, Parquet's magic number, else text.

    Text is UTF-8, its columns divided by commas, tabs, semicolons or bars, by which `sep=` in the first line names or
    whichever divide the header into the most. Excel's numbers are written as short as they are exact (35, 35.5), those
    that are not in scientific notation, and percentages as they are shown (35%, stored as 0.35); its dates and those of
    Parquet as ISO 8601 has them; what a formula gave when the workbook was saved counts, not the formula.

    Args:
        cohort: the settings.
        table: `"labels"` or `"echoes"`, the setting that names the file.
        wanted: names of columns; the cells of all others are dropped as they are read.

    Raises:
        DatasetError: the file is no such table, or has no rows.
        ConfigError: a sheet is named and the table is not Excel's, or has no such sheet.
    """
    path, sheet_setting = getattr(cohort, table), _SHEET_SETTING[table]
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path}: Expected a table: CSV, TSV, Excel or Parquet (--{Cohort.flag(table)}). Received: "
            f"{error.strerror}."
        ) from error
    is_excel = content.startswith(_ZIP)
    cohort.expect(sheet_setting, is_excel or not getattr(cohort, sheet_setting), "with an Excel table only")
    if content.startswith(_OLE):
        raise DatasetError(
            f"{path}: Expected a table that is not encrypted: CSV, TSV, Excel's .xlsx or Parquet. Received Excel's "
            "older format .xls, or an encrypted workbook: save it as .xlsx without a password."
        )
    if is_excel:
        kind, records = "Excel workbook", _excel_records(path, content, cohort, sheet_setting)
    elif content.startswith(_PARQUET):
        kind, records = "Parquet file", _parquet_records(content)
    else:
        kind, records = "text", _text_records(path, content)
    try:
        header, cells, is_long = _gather(path, records, wanted)
    except (ConfigError, DatasetError):
        raise
    # Libraries raise whatever a damaged part leads to, with the part's text in the message.
    except Exception as error:
        cause = type(error.__cause__ or error).__name__
        raise DatasetError(f"{path}: Expected a whole {kind}. Received {cause}.") from None
    return TableFile(path, header, cells, is_long, hashlib.sha256(content).hexdigest())


def _gather(
    path: str, records: Iterable[list[str]], wanted: Collection[str]
) -> tuple[tuple[str, ...], pd.DataFrame, pd.Series]:
    """`header`, `cells` and `is_long` of a `TableFile`. The first record that is not blank is the header."""
    numbered = ((row, record) for row, record in enumerate(records, 1) if any(record))
    _, header = next(numbered, (0, []))
    if not header:
        raise DatasetError(f"{path}: Expected a table with a header. Received nothing but blanks.")
    names = [name for name in header if name and name in wanted]
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(f'{path}: Expected one column "{name}". Received {names.count(name)}.')
    places = [header.index(name) for name in names]
    rows, is_long, cells = [], [], []
    for row, record in numbered:
        rows.append(row)
        is_long.append(any(record[len(header) :]))
        whole = [""] * len(header) if is_long[-1] else record + [""] * (len(header) - len(record))
        cells.append([whole[place] for place in places])
    if not rows:
        raise DatasetError(f"{path}: Expected at least one row. Received a table without rows.")
    return tuple(header), pd.DataFrame(cells, rows, names, dtype=object), pd.Series(is_long, rows)


def _text_records(path: str, content: bytes) -> Iterator[list[str]]:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: Expected text in UTF-8. Received byte {error.start} that is not: from Excel, save the table as "
            '"CSV UTF-8" or as a workbook.'
        ) from None  # the error has the whole text
    if b"\0" in content:
        raise DatasetError(f"{path}: Expected text, a workbook or Parquet. Received a zero byte.")
    stated = _STATED_DELIMITER.match(content)
    delimiter = stated[1].decode() if stated else _delimiter(content)
    row = 0
    try:
        for row, record in enumerate(csv.reader(chain(_lines(content), [_END]), delimiter=delimiter), 1):
            if record == [_END]:
                return
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


def _delimiter(content: bytes) -> str:
    """What divides the header into the most columns; of equals, the comma before others."""

    def columns(delimiter: str) -> int:
        return next((len(record) for record in csv.reader(_lines(content), delimiter=delimiter) if any(record)), 0)

    return max(_DELIMITERS, key=columns)


def _excel_records(path: str, content: bytes, cohort: Cohort, sheet_setting: str) -> Iterator[list[str]]:
    """The rows of one sheet; what is merged downwards stands in each of its rows."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive, warnings.catch_warnings():
        if "xl/workbook.xml" not in archive.namelist():
            raise DatasetError(
                f"{path}: Expected a table: CSV, TSV, Excel's .xlsx or Parquet. Received a zip file without "
                "xl/workbook.xml."
            )
        warnings.simplefilter("ignore")  # about styles, validation and other things of no account here
        workbook = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        worksheet = _sheet(path, workbook, cohort, sheet_setting)
        worksheet.reset_dimensions()  # some programs write wrong ones
        merged = _merged_downwards(archive.read(worksheet._worksheet_path))
        held: dict[int, tuple[int, str]] = {}  # by column: the last row, and what stands in each
        has_header = False
        for row, values in enumerate(worksheet.iter_rows(), 1):
            record = [_excel_text(cell) for cell in values]
            for column, (last, text) in held.items():
                if row <= last:
                    record += [""] * (column + 1 - len(record))
                    record[column] = text
            for column, last in merged.get(row, ()) if has_header else ():
                if column < len(record):
                    held[column] = last, record[column]
            has_header = has_header or any(record)
            yield record


def _sheet(path: str, workbook: Any, cohort: Cohort, sheet_setting: str) -> Any:
    sheet = getattr(cohort, sheet_setting)
    for worksheet in workbook.worksheets:
        if worksheet.title == sheet or (not sheet and worksheet.sheet_state == "visible"):
            return worksheet
    if not sheet:
        raise DatasetError(f"{path}: Expected a sheet that is not hidden. Received none.")
    raise ConfigError(
        f"Expected --{Cohort.flag(sheet_setting)} to be one of the {len(workbook.worksheets)} sheets of {path}. "
        f"Received {sheet!r}."
    )


def _merged_downwards(sheet: bytes) -> dict[int, list[tuple[int, int]]]:
    """Column, counted from 0, and last row of the cells that are merged with those below them, by their row.

    A patient's id that is merged over the rows of their ECGs is stored in the first alone. openpyxl leaves merged cells
    out where it reads row by row.
    """
    merged: dict[int, list[tuple[int, int]]] = {}
    for reference in _MERGED.findall(sheet):
        column, row, _, last_row = range_boundaries(reference.decode())
        if last_row > row:
            merged.setdefault(row, []).append((column - 1, last_row))
    return merged


def _parquet_records(content: bytes) -> Iterator[list[str]]:
    """Header and rows; lists, structures and bytes are no cells, and columns of them none of the table's."""
    file = parquet.ParquetFile(pa.BufferReader(content))
    names = [field.name for field in file.schema_arrow if not _is_no_cell(field.type)]
    yield [name.strip() for name in names]
    for batch in file.iter_batches(columns=names):
        for values in zip(*map(_values, batch.columns), strict=True):
            yield list(map(_text, values))


def _is_no_cell(kind: pa.DataType) -> bool:
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return pa.types.is_nested(kind) or is_bytes


def _values(column: pa.Array) -> list[Any]:
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
