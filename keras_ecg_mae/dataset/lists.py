"""Tables beside the shards: what was left out of a dataset, and what was found in the rest."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pandas as pd

from keras_ecg_mae.cohort.description import CohortDescription
from keras_ecg_mae.cohort.page import COHORT_PAGE, cohort_page
from keras_ecg_mae.cohort.read import Table
from keras_ecg_mae.cohort.table_problems import TABLE_PROBLEMS
from keras_ecg_mae.dataset.manifest import FINDINGS, REJECTED
from keras_ecg_mae.files import storage_path, whole_file, write_whole


@contextmanager
def findings_file(folder: str) -> Iterator[Callable[[Sequence[object]], object]]:
    """Writes `findings.csv` row by row: file, finding, lead, value, detail. Raises `DatasetError`."""
    with _csv_file(f"{folder}/{FINDINGS}", ("file", "finding", "lead", "value", "detail")) as write:
        yield write


def write_rejected(folder: str, table: Table, rejected: Mapping[int, tuple[str, str]]) -> None:
    """Writes `rejected.csv`: the rows that the table itself ruled out, then the recordings, in the table's order.

    Args:
        folder: the dataset folder.
        table: the cohort's.
        rejected: reason and detail by a recording's position in the table's rows.

    Raises:
        DatasetError: it cannot be written.
    """
    paths: pd.Series = table.rows["path"]
    with _csv_file(f"{folder}/{REJECTED}", ("file", "reason", "detail")) as write:
        for row in table.rejected[["path", "reason", "detail"]].itertuples(index=False):
            write(row)
        for position in sorted(rejected):
            write((paths[position], *rejected[position]))


def write_reports(folder: str, table: Table, description: CohortDescription, title: str) -> None:
    """Writes `cohort.html`, and `table_problems.csv` where the table has any. Raises `DatasetError`."""
    problems = f"{folder}/{TABLE_PROBLEMS}"
    if table.problems.counts():
        write_whole(problems, table.problems.csv())
    else:
        storage_path(problems).unlink(missing_ok=True)  # of another table, by --table_only
    # Without the folder's name: the same dataset has the same bytes, wherever it lies.
    write_whole(f"{folder}/{COHORT_PAGE}", cohort_page(description, title))


@contextmanager
def _csv_file(path: str, columns: Sequence[str]) -> Iterator[Callable[[Sequence[object]], object]]:
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerow
        text.flush()
        text.detach()
