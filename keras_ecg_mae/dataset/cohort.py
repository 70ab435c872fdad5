"""The table of a cohort: one row a recording, checked and brought into one form before any recording is opened."""

import hashlib
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError

LVSD = "lvsd"
ONLY_INSTITUTION = "all"
# A folder's name on every system and object store, and without the comma that separates names in a flag.
_FOLDER_NAME = re.compile(r"\w[\w .-]{0,99}(?<![ .])")
_RESERVED_NAMES = {"manifest.json", "rejected.csv"}
_EMPTY_NUMBERS = {"nan", "na", "n/a", "none", "null"}
_LABELS = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
_AGES = (0, 130)


@dataclass(frozen=True)
class Table:
    """A cohort's table in the package's own form.

    Attributes:
        rows: one row a recording with the columns `row` (its number in the file, the header being row 1), `path`,
            `record_id`, `patient_id`, `institution`, `sex` (text, sex may be empty), `label` (0.0, 1.0, NaN where
            unknown), `lvef` (percent) and `age` (years), both NaN where unknown.
        label_name: `"lvsd"` where the label is an ejection fraction under the threshold, else the label column's
            name; empty where the table has neither.
        sha256: checksum of the file.
    """

    rows: pd.DataFrame
    label_name: str
    sha256: str


def read_table(cohort: Cohort) -> Table:
    """Reads `cohort.labels`, a CSV table with a header.

    A patient is known by `patient_id` over the whole table, whatever the institution; a recording without one is
    its own patient.

    Raises:
        DatasetError: the file cannot be read, a column is missing, or a cell is wrong; names the row.
        ConfigError: an external institution that the table does not have.
    """
    cells, checksum = _read_cells(cohort.labels)
    columns = _Columns(cohort, cells)
    path = columns.required("path_column")
    columns.refuse("path_column", path, (path == "") | path.str.contains("\0", regex=False), "a path")
    record_id = columns.text("record_id_column")
    record_id = path if record_id is None else record_id.where(record_id != "", path)
    _refuse_duplicates(cohort, record_id)
    patient_id = columns.text("patient_id_column")
    patient_id = record_id if patient_id is None else patient_id.where(patient_id != "", record_id)
    institution = _institutions(cohort, columns)
    lvef = columns.numbers("lvef_column", 0, 100)
    label, label_name = _labels(cohort, columns, lvef)
    sex = columns.text("sex_column")
    unknown = pd.Series(np.nan, cells.index)
    rows = pd.DataFrame(
        {
            "row": cells.index,
            "path": path,
            "record_id": record_id,
            "patient_id": patient_id,
            "institution": institution,
            "label": label,
            "lvef": unknown if lvef is None else lvef,
            "age": _ages(cohort, columns),
            "sex": "" if sex is None else sex,
        }
    )
    return Table(rows.reset_index(drop=True), label_name, checksum)


def _read_cells(path: str) -> tuple[pd.DataFrame, str]:
    """Every cell as text, the index being the row's number, and the file's checksum."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: Expected a CSV table (--labels). Received: {error.strerror}.") from error
    try:
        # Blank lines are read, then dropped, so that the rows keep their numbers.
        cells = pd.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig"
        )
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: Expected text in UTF-8. Received byte {error.start} that is not.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DatasetError(f"{path}: Expected a CSV table with a header. Received: {str(error).strip()}.") from error
    if not isinstance(cells.index, pd.RangeIndex):
        raise DatasetError(f"{path}: Expected as many cells in a row as in the header. Received rows with more.")
    cells.index = pd.RangeIndex(2, 2 + len(cells))
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    cells = cells[(cells != "").any(axis=1)]
    if cells.empty:
        raise DatasetError(f"{path}: Expected at least one recording. Received a table without rows.")
    return cells, hashlib.sha256(content).hexdigest()


class _Columns:
    """The table's columns by the names that the settings give them."""

    def __init__(self, cohort: Cohort, cells: pd.DataFrame):
        self.cohort, self.cells = cohort, cells

    def required(self, setting: str) -> pd.Series:
        """A column that the table must have."""
        name = getattr(self.cohort, setting)
        if name not in self.cells.columns:
            raise DatasetError(
                f'{self.cohort.labels}: Expected a column "{name}" (--{Cohort.flag(setting)}). '
                f"Received columns: {', '.join(map(str, self.cells.columns))}."
            )
        return self.cells[name]

    def text(self, setting: str) -> pd.Series | None:
        """A column, or None where it is absent and nobody asked for it: a name other than the default asks."""
        name = getattr(self.cohort, setting)
        if name not in self.cells.columns and name == getattr(Cohort, setting):
            return None
        return self.required(setting)

    def numbers(self, setting: str, lowest: float, highest: float) -> pd.Series | None:
        """A column of numbers, NaN where empty; refuses others and those out of range."""
        text = self.text(setting)
        if text is None:
            return None
        values = pd.to_numeric(text, errors="coerce").astype(float)
        wrong = ~_is_empty(text) & ~values.between(lowest, highest)
        self.refuse(setting, text, wrong, f"a number from {lowest:g} to {highest:g} or nothing")
        return values

    def refuse(self, setting: str, text: pd.Series, wrong: pd.Series, expected: str) -> None:
        if wrong.any():
            row = wrong.idxmax()
            raise DatasetError(
                f'{self.cohort.labels}, row {row}, column "{getattr(self.cohort, setting)}" '
                f"(--{Cohort.flag(setting)}): Expected {expected}. Received {text[row]!r}"
                + (f", and in {wrong.sum() - 1} more rows." if wrong.sum() > 1 else ".")
            )


def _is_empty(text: pd.Series) -> pd.Series:
    return (text == "") | text.str.lower().isin(_EMPTY_NUMBERS)


def _refuse_duplicates(cohort: Cohort, record_id: pd.Series) -> None:
    repeated = record_id.duplicated()
    if repeated.any():
        second = repeated.idxmax()
        first = (record_id == record_id[second]).idxmax()
        raise DatasetError(
            f'{cohort.labels}: Expected every record id once (column "{cohort.record_id_column}", else the path). '
            f"Received the same in rows {first} and {second}."
        )


def _institutions(cohort: Cohort, columns: _Columns) -> pd.Series:
    text = columns.text("institution_column")
    if text is None:
        names = pd.Series(ONLY_INSTITUTION, columns.cells.index)
    else:
        names = text.map(lambda name: unicodedata.normalize("NFC", name))
        usable = {name for name in names.unique() if _FOLDER_NAME.fullmatch(name) and name not in _RESERVED_NAMES}
        expected = "a name that can be a folder's (letters, digits, spaces and . _ -)"
        columns.refuse("institution_column", names, ~names.isin(usable), expected)
        # One folder on a disk that does not tell upper from lower case, so a shard would overwrite another.
        spellings: dict[str, str] = {}
        for name in sorted(usable):
            first = spellings.setdefault(name.casefold(), name)
            columns.refuse("institution_column", names, (names == name) & (name != first), f"one spelling, {first!r}")
    known = sorted(names.unique())
    for name in cohort.external_institutions:
        if name not in known:
            raise ConfigError(
                f"Expected --external_institutions to be among {', '.join(known)} ({cohort.labels}). Received {name!r}."
            )
    return names


def _labels(cohort: Cohort, columns: _Columns, lvef: pd.Series | None) -> tuple[pd.Series, str]:
    """The label of each row and its name: a column of its own, or a low ejection fraction."""
    if cohort.label_column:
        text = columns.required("label_column")
        label = text.str.lower().map(_LABELS).astype(float)
        columns.refuse("label_column", text, label.isna() & ~_is_empty(text), "0, 1, true, false or nothing")
        return label, cohort.label_column
    if lvef is not None:
        return (lvef < cohort.lvef_threshold).astype(float).where(lvef.notna()), LVSD
    logging.warning(
        '%s: neither a column "%s" (--lvef_column) nor a --label_column: no recording has a label, so the dataset '
        "serves pretraining only.",
        cohort.labels,
        cohort.lvef_column,
    )
    return pd.Series(np.nan, columns.cells.index), ""


def _ages(cohort: Cohort, columns: _Columns) -> pd.Series:
    """Ages in years. Nothing is learnt from them, so one that makes no sense is dropped, not refused."""
    text = columns.text("age_column")
    if text is None:
        return pd.Series(np.nan, columns.cells.index)
    ages = pd.to_numeric(text, errors="coerce").astype(float)
    ages = ages.where(ages.between(*_AGES))
    dropped = ages.isna() & ~_is_empty(text)
    if dropped.any():
        logging.warning(
            '%s: %d cells of column "%s" are no age from %d to %d years and count as unknown (the first in row %d).',
            cohort.labels,
            dropped.sum(),
            cohort.age_column,
            *_AGES,
            dropped.idxmax(),
        )
    return ages
