"""The columns of a cohort's table by the names that the settings give them."""

from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import pandas as pd

from keras_ecg_mae.cohort.table_cells import EMPTY
from keras_ecg_mae.cohort.table_file import TableFile
from keras_ecg_mae.cohort.table_problems import TableProblems
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.recordings.formats.sidecar import plain_name

# A name of a column that is as near as this to a known one (patient, patient_nr) may be quoted: of a table without a
# header the first row is somebody's. Of short names none is, since surnames come near them.
_NEAR, _LEAST_LETTERS = 0.75, 6
# So many cells of one institution that cannot be read, and more than half, are no slips of the pen.
_LEAST_WRONG = 10


class TableColumns:
    """A table's columns, of the rows that are still in it.

    Args:
        cohort: the settings.
        table: `"labels"` or `"echoes"`.
        file: the table.
        problems: where cells that cannot be read are listed.

    Attributes:
        institution: of each row, once that is known.
    """

    institution: pd.Series | None = None

    def __init__(self, cohort: Cohort, table: str, file: TableFile, problems: TableProblems):
        self.cohort, self.table, self.file, self.problems = cohort, table, file, problems
        self.cells = file.cells

    def drop(self, rows: "pd.Series | pd.Index") -> None:
        """Takes rows out: a mask, or their numbers."""
        numbers = self.cells.index[rows] if isinstance(rows, pd.Series) else rows
        self.cells = self.cells.drop(numbers)

    def name(self, setting: str) -> str:
        """A column's name."""
        name: str = getattr(self.cohort, setting)
        return self.cohort.patient_id_column if setting == "echo_patient_id_column" and not name else name

    def required(self, setting: str) -> pd.Series:
        """The cells of a column that the table must have. Raises `DatasetError` where it has none of this name."""
        name = self.name(setting)
        if name in self.cells.columns:
            return self.cells[name]
        expected = f'{self.file.path}: Expected a column "{name}" (--{Cohort.flag(setting)}).'
        if spelling := self._other_spelling(name):
            raise DatasetError(
                f'{expected} Received "{spelling}": give --{Cohort.flag(setting)}="{spelling}" if that is meant, or '
                "name the column otherwise."
            )
        header = [column for column in self.file.header if column]
        known = [column for column in header if self._is_known(column)]
        among = f", among them {', '.join(known)}" if known else ""
        raise DatasetError(f"{expected} Received a first row of {len(header)} cells{among}.")

    def text(self, setting: str) -> pd.Series | None:
        """The cells, or None where the column is absent and nobody asked for it: a name other than the default asks.

        Raises:
            DatasetError: it was asked for, or is there in another spelling, which would be passed over in silence.
        """
        name = self.name(setting)
        is_there = name in self.cells.columns
        if not is_there and name == getattr(Cohort, setting) and not self._other_spelling(name):
            return None
        return self.required(setting)

    def _other_spelling(self, name: str) -> str:
        """A column whose name differs in case, blanks and punctuation only (`PatientID`), empty where none does."""
        return next((column for column in self.file.header if column and plain_name(column) == plain_name(name)), "")

    def _is_known(self, column: str) -> bool:
        """Whether a column has the name of one that may be in use, or nearly."""
        settings = [item.name for item in fields(Cohort) if item.name.endswith("_column")]
        names = {plain_name(getattr(each, setting)) for setting in settings for each in (Cohort, self.cohort)} - {""}
        plain, long_names = plain_name(column), [name for name in names if len(name) >= _LEAST_LETTERS]
        return plain in names or bool(get_close_matches(plain, long_names, cutoff=_NEAR))

    def read(self, setting: str, read: Callable[[str], Any], consequence: str, *, decides: bool) -> pd.Series:
        """What each cell of a column says, NaN where it is empty or cannot be read; the latter are listed.

        Args:
            setting: the column.
            read: reads a cell, or raises `ValueError` with a sentence that does not quote it.
            consequence: what follows for a row whose cell cannot be read.
            decides: whether the result depends on it, so that a column of which more than half cannot be read must be
                the wrong one, also where that is so at one institution, which may write it in another way.

        Raises:
            DatasetError: there is no such column, or it is the wrong one.
        """
        text = self.required(setting)
        said = ~is_empty(text)
        values: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for cell in text[said].unique():
            value, sentence = _read(read, cell)
            if sentence:
                wrong[cell] = sentence
            else:
                values[cell] = value
        sentences = text[said].map(wrong).dropna()
        if decides:
            self._expect_most_to_be_readable(setting, said, sentences)
        for sentence, rows in sentences.groupby(sentences):
            self.problems.add(self.table, self.name(setting), rows.index, sentence, consequence)
        return text.map(values)

    def _expect_most_to_be_readable(self, setting: str, said: pd.Series, sentences: pd.Series) -> None:
        """Raises `DatasetError` where more than half of the cells that say something cannot be read.

        Args:
            setting: the column.
            said: which cells say something.
            sentences: of those that cannot be read.
        """
        groups = [("", said, sentences)]
        if self.institution is not None:
            by_institution = sentences.groupby(self.institution[sentences.index])
            groups += [
                (f" of {name}", said[self.institution[said.index] == name], wrong)
                for name, wrong in by_institution
                if len(wrong) >= _LEAST_WRONG
            ]
        for whose, cells, wrong in groups:
            if len(wrong) > cells.sum() / 2:
                raise DatasetError(
                    f'{self.file.path}, row {wrong.index[0]}, column "{self.name(setting)}" '
                    f"(--{Cohort.flag(setting)}): {wrong.iloc[0]} So it is in {len(wrong):,} of {cells.sum():,} cells"
                    f"{whose} that are not empty: is it the right column{', and written alike' if whose else ''}?"
                )


def _read(read: Callable[[str], Any], cell: str) -> tuple[Any, str]:
    """What a cell says, and an empty sentence; or nothing, and the sentence of why not."""
    try:
        return read(cell), ""
    except ValueError as error:
        return None, str(error)


def is_empty(text: pd.Series) -> pd.Series:
    """Which cells say nothing: blank, or a word that programs write for nothing."""
    return text.str.lower().isin(EMPTY)
