"""What is wrong with single rows and cells of a cohort's tables, and what follows from it."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from absl import logging

TABLE_PROBLEMS = "table_problems.csv"
LEFT_OUT = "left out"
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class ProblemCount:
    """How many cells have one problem.

    Attributes:
        table: `"labels"` or `"echoes"`, after the setting that names it.
        column: the column, empty where it is the row's.
        problem: one sentence, the same for all such cells, which quotes none of them.
        consequence: what was made of it, e.g. `"left out"`, `"unlabelled"`.
        first_row: number of the first.
        rows: how many.
    """

    table: str
    column: str
    problem: str
    consequence: str
    first_row: int
    rows: int


class TableProblems:
    """A list of problems: a bad row never ends a run of 100,000, nor is it passed over in silence.

    Attributes:
        rejected: reason code and sentence by row of `labels`, of rows that are left out.
    """

    def __init__(self) -> None:
        self.rejected: dict[int, tuple[str, str]] = {}
        self._found: dict[tuple[str, str, str, str], list[int]] = {}

    def add(self, table: str, column: str, rows: Iterable[int], problem: str, consequence: str) -> None:
        """Adds the same problem of some rows."""
        if numbers := [int(row) for row in rows]:
            self._found.setdefault((table, column, problem, consequence), []).extend(numbers)

    def reject(self, column: str, rows: Iterable[int], reason: str, problem: str) -> None:
        """Adds a problem for which rows of `labels` are left out; `reason` is one of `errors.REASONS`."""
        numbers = [int(row) for row in rows]
        self.add("labels", column, numbers, problem, LEFT_OUT)
        for row in numbers:
            self.rejected.setdefault(row, (reason, f"row {row} of the table: {problem}"))

    def counts(self) -> tuple[ProblemCount, ...]:
        """Each kind of problem, the most frequent first."""
        kinds = ((*key, min(rows), len(rows)) for key, rows in self._found.items())
        return tuple(sorted((ProblemCount(*kind) for kind in kinds), key=lambda kind: (-kind.rows, kind.first_row)))

    def tally(self) -> Counter[str]:
        """How many rows of `labels` are left out, by reason."""
        return Counter(reason for reason, _ in self.rejected.values())

    def csv(self) -> str:
        """The content of `table_problems.csv`: table, row, column, problem, consequence."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("table", "row", "column", "problem", "consequence"))
        writer.writerows(sorted(self._lines()))
        return text.getvalue()

    def log(self, path: str) -> None:
        """Warns of each kind of problem; `path` is the table."""
        for kind in self.counts():
            logging.warning(
                "%s: %s in --%s%s, the first being row %d: %s. %s",
                path,
                f"{kind.rows:,} rows" if kind.rows > 1 else "1 row",
                kind.table,
                f', column "{kind.column}"' if kind.column else "",
                kind.first_row,
                kind.consequence,
                kind.problem,
            )

    def _lines(self) -> Iterator[tuple[str, int, str, str, str]]:
        for (table, column, problem, consequence), rows in self._found.items():
            yield from ((table, row, column, problem, consequence) for row in rows)
