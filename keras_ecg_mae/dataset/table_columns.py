"""The columns of a cohort's table by the names that the settings give them."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.dataset.table_cells import EMPTY
from keras_ecg_mae.dataset.table_file import TableFile
from keras_ecg_mae.dataset.table_problems import TableProblems
from keras_ecg_mae.errors import DatasetError


class TableColumns:
    """A table's columns, of the rows that are still in it.

    Args:
        cohort: the settings.
        table: `"labels"` or `"echoes"`.
        file: the table.
        problems: where cells that cannot be read are listed.
    """

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
        header = [column for column in self.file.header if column]
        # A table without a header begins with somebody's data: cells that begin with a digit are no names of columns.
        received = (
            f"{len(header)} cells in the first row, of which some are no names of columns"
            if any(column[0].isdigit() for column in header)
            else f"columns: {', '.join(header)}"
        )
        raise DatasetError(
            f'{self.file.path}: Expected a column "{name}" (--{Cohort.flag(setting)}). Received {received}.'
        )

    def text(self, setting: str) -> pd.Series | None:
        """The cells, or None where the column is absent and nobody asked for it: a name other than the default asks."""
        name = self.name(setting)
        if name not in self.cells.columns and name == getattr(Cohort, setting):
            return None
        return self.required(setting)

    def read(self, setting: str, read: Callable[[str], Any], consequence: str, *, decides: bool) -> pd.Series:
        """What each cell of a column says, NaN where it is empty or cannot be read; the latter are listed.

        Args:
            setting: the column.
            read: reads a cell, or raises `ValueError` with a sentence that does not quote it.
            consequence: what follows for a row whose cell cannot be read.
            decides: whether the result depends on it, so that a column of which more than half cannot be read must be
                the wrong one.

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
        if decides and len(sentences) > said.sum() / 2:
            raise DatasetError(
                f'{self.file.path}, row {sentences.index[0]}, column "{self.name(setting)}" '
                f"(--{Cohort.flag(setting)}): {sentences.iloc[0]} So it is in {len(sentences):,} of {said.sum():,} "
                "cells that are not empty: is it the right column?"
            )
        for sentence, rows in sentences.groupby(sentences):
            self.problems.add(self.table, self.name(setting), rows.index, sentence, consequence)
        return text.map(values)


def _read(read: Callable[[str], Any], cell: str) -> tuple[Any, str]:
    """What a cell says, and an empty sentence; or nothing, and the sentence of why not."""
    try:
        return read(cell), ""
    except ValueError as error:
        return None, str(error)


def is_empty(text: pd.Series) -> pd.Series:
    """Which cells say nothing: blank, or a word that programs write for nothing."""
    return text.str.lower().isin(EMPTY)
