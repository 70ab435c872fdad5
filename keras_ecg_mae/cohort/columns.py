"""The columns of a cohort's table by the names that the settings give them, and what is wrong with their cells."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import pandas as pd

from keras_ecg_mae.cohort.cells import EMPTY
from keras_ecg_mae.cohort.table import read_table_file
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
    """The columns of a table, of the rows that are still in it.

    Args:
        cohort: the settings.
        table: `"labels"` or `"echoes"`, the setting that names the file.
        settings: those that name its columns.
        problems: where problems are listed.

    Attributes:
        file: the table as it was read.
        cells: text by column, rows by their number in the sheet.
        institution: of each row, once that is known.

    Raises:
        DatasetError: the file is no table.
        ConfigError: a sheet is named that it does not have.
    """

    def __init__(self, cohort: Cohort, table: str, settings: Iterable[str], problems: TableProblems):
        self.cohort, self.table, self.problems = cohort, table, problems
        self.file = read_table_file(cohort, table, {getattr(cohort, setting) for setting in settings})
        self.cells = self.file.cells
        self.institution: pd.Series | None = None

    def name(self, setting: str) -> str:
        """A column's name, empty for no setting."""
        return getattr(self.cohort, setting) if setting else ""

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

    def list_rows(self, is_wrong: pd.Series, setting: str, problem: str, consequence: str) -> None:
        """Lists rows that have a problem; `is_wrong` is a mask whose index is the rows' numbers."""
        self.problems.add(self.table, self.name(setting), is_wrong.index[is_wrong], problem, consequence)

    def leave_out(self, is_wrong: pd.Series, setting: str, reason: str, problem: str) -> None:
        """Lists rows of `--labels` and takes them out. `reason` is one of `errors.REASONS`."""
        rows = is_wrong.index[is_wrong]
        self.problems.reject(self.name(setting), rows, reason, problem)
        self.cells = self.cells.drop(rows)

    def read(
        self, setting: str, read: Callable[[str], Any], consequence: str, *, decides: bool, optional: bool = False
    ) -> pd.Series:
        """What each cell of a column says, NaN where it is empty or cannot be read; the latter are listed.

        Args:
            setting: the column.
            read: reads a cell, or raises `ValueError` with a sentence that does not quote it.
            consequence: what follows for a row whose cell cannot be read.
            decides: whether the result depends on it, so that a column of which more than half cannot be read must be
                the wrong one, also where that is so at one institution, which may write it in another way.
            optional: whether the column may be absent, as for `text`.

        Raises:
            DatasetError: there is no such column, or it is the wrong one.
        """
        text = self.text(setting) if optional else self.required(setting)
        if text is None:
            return pd.Series(float("nan"), self.cells.index)
        says_something = ~is_empty(text)
        readings = {cell: _reading(read, cell) for cell in text[says_something].unique()}
        wrong = {cell: str(value) for cell, value in readings.items() if isinstance(value, ValueError)}
        sentences = text.map(wrong).dropna()
        if decides:
            self._expect_most_to_be_readable(setting, says_something, sentences)
        for sentence in sorted(set(wrong.values())):
            self.list_rows(sentences == sentence, setting, sentence, consequence)
        return text.map({cell: value for cell, value in readings.items() if cell not in wrong})

    def _expect_most_to_be_readable(self, setting: str, says_something: pd.Series, sentences: pd.Series) -> None:
        """Raises `DatasetError` where more than half of the cells that say something cannot be read.

        Args:
            setting: the column.
            says_something: which cells do.
            sentences: of those that cannot be read.
        """
        groups = [("", sentences, says_something)]
        if self.institution is not None:
            cells = says_something.groupby(self.institution[says_something.index])
            wrong = sentences.groupby(self.institution[sentences.index])
            groups += [(f" of {name}", own, cells.get_group(name)) for name, own in wrong if len(own) >= _LEAST_WRONG]
        for whose, unreadable, cells_of_group in groups:
            if len(unreadable) > cells_of_group.sum() / 2:
                raise DatasetError(
                    f'{self.file.path}, row {unreadable.index[0]}, column "{self.name(setting)}" '
                    f"(--{Cohort.flag(setting)}): {unreadable.iloc[0]} So it is in {len(unreadable):,} of "
                    f"{cells_of_group.sum():,} cells{whose} that are not empty: is it the right column"
                    f"{', and written alike' if whose else ''}?"
                )


def _reading(read: Callable[[str], Any], cell: str) -> Any:
    """What a cell says, or the error that says why it cannot be read."""
    try:
        return read(cell)
    except ValueError as error:
        return error


def is_empty(text: pd.Series) -> pd.Series:
    """Which cells say nothing: blank, or a word that programs write for nothing."""
    return text.str.lower().isin(EMPTY)
