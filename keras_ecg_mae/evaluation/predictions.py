"""The predictions table: one row an ECG, as CSV that a spreadsheet opens and that reads back to the same numbers."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from keras_ecg_mae.config import SPLITS
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import read_if_there, write_whole

TEXT_COLUMNS = ("record_id", "patient_key", "institution", "split")
COLUMNS = (*TEXT_COLUMNS, "label", "probability")
# What a dataset may keep of a recording besides, as text: empty where it is unknown.
KEPT_COLUMNS = ("sex", "age", "lvef")


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Writes `COLUMNS` and the `KEPT_COLUMNS` there are; probabilities with as many digits as give the same float64."""
    write_whole(path, table.to_csv(columns=_present(table), index=False, lineterminator="\r\n"))


def read_predictions(path: Path) -> pd.DataFrame:
    """Reads and checks a predictions table; text columns stay text, so an institution called `NA` or `007` survives.

    Returns:
        A frame of `COLUMNS`: text, `label` int64 (0 or 1), `probability` float64 in [0, 1]; and those of `KEPT_COLUMNS`
        that are in the file, as text.

    Raises:
        DatasetError: names the file, and where there is one the column and the row (the header is row 1).
    """
    content = read_if_there(path)
    if content is None:
        raise DatasetError(f"{path}: Expected a predictions table. Received no such file.")
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=str, na_filter=False)
    except ValueError as error:
        raise DatasetError(f"{path}: Expected a CSV table in UTF-8. Received another file: {error}.") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise DatasetError(f"{path}: Expected the columns {', '.join(COLUMNS)}. Received none called {missing[0]!r}.")
    table = table[_present(table)]
    numbers = table["probability"].map(_number).astype("float64")
    for column, correct, expected in (
        ("split", table["split"].isin(SPLITS), f"one of {', '.join(SPLITS)}"),
        ("label", table["label"].isin(("0", "1")), "0 or 1"),
        ("probability", numbers.between(0, 1), "a number from 0 to 1"),
    ):
        if not correct.all():
            row = int(np.flatnonzero(~correct)[0])
            received = table[column].iloc[row]
            raise DatasetError(f"{path}, row {row + 2}, column {column}: Expected {expected}. Received {received!r}.")
    return table.assign(label=table["label"].astype("int64"), probability=numbers)


def _present(table: pd.DataFrame) -> list[str]:
    return [*COLUMNS, *(name for name in KEPT_COLUMNS if name in table)]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
