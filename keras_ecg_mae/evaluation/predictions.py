"""The predictions table: one row an ECG, as CSV that a spreadsheet opens and that reads back to the same numbers."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import read_if_there, write_whole

TEXT_COLUMNS = ("record_id", "patient_key", "institution", "split")
COLUMNS = (*TEXT_COLUMNS, "label", "probability")


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Writes the columns `COLUMNS` of `table`; probabilities with as many digits as give the same float64 back."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(
        (*row[:-2], int(row[-2]), repr(float(row[-1])))
        for row in table[list(COLUMNS)].itertuples(index=False, name=None)
    )
    write_whole(path, text.getvalue())


def read_predictions(path: Path) -> pd.DataFrame:
    """Reads and checks a predictions table; text columns stay text, so an institution called `NA` or `007` survives.

    Returns:
        A frame of `COLUMNS`: text, `label` int64 (0 or 1), `probability` float64 in [0, 1].

    Raises:
        DatasetError: names the file, and where there is one the column and the row (the header is row 1).
    """
    content = read_if_there(path)
    if content is None:
        raise DatasetError(f"{path}: Expected a predictions table. Received no such file.")
    try:
        rows = list(_rows(path, csv.reader(io.StringIO(content.decode(), newline=""), strict=True)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: Expected a CSV table in UTF-8. Received one that breaks off: {error}.") from error
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"label": "int64", "probability": "float64"})


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[list[object]]:
    header = next(reader, [])
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise DatasetError(f"{path}: Expected the columns {', '.join(COLUMNS)}. Received none called {missing[0]!r}.")
    places = [header.index(column) for column in COLUMNS]
    for number, cells in enumerate(reader, start=2):
        if len(cells) != len(header):
            raise DatasetError(f"{path}, row {number}: Expected {len(header)} cells. Received {len(cells)}.")
        *texts, label, probability = (cells[place] for place in places)
        if texts[-1] not in SPLITS:
            raise _wrong(path, number, "split", f"one of {', '.join(SPLITS)}", texts[-1])
        if label not in ("0", "1"):
            raise _wrong(path, number, "label", "0 or 1", label)
        yield [*texts, int(label), _probability(path, number, probability)]


def _probability(path: Path, row: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _wrong(path, row, "probability", "a number from 0 to 1", cell)
    return value


def _wrong(path: Path, row: int, column: str, expected: str, received: str) -> DatasetError:
    return DatasetError(f"{path}, row {row}, column {column}: Expected {expected}. Received {received!r}.")
