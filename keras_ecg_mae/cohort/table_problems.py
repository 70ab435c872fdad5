"""What is wrong with single rows and cells of a cohort's tables, and what follows from it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from absl import logging

TABLE_PROBLEMS = "table_problems.csv"
LEFT_OUT = "left out"
UNLABELLED = "unlabelled"
_KIND = ["table", "column", "problem", "consequence"]
_WRITTEN = ["table", "row", "column", "problem", "consequence"]


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
    """A list of problems: a bad row never ends a run of 100,000, nor is it passed over in silence."""

    def __init__(self) -> None:
        self._found: list[tuple[str, int, str, str, str, str]] = []

    def add(
        self, table: str, column: str, rows: Iterable[int], problem: str, consequence: str, reason: str = ""
    ) -> None:
        """Adds the same problem of some rows."""
        self._found += [(table, int(row), column, problem, consequence, reason) for row in rows]

    def reject(self, column: str, rows: Iterable[int], reason: str, problem: str) -> None:
        """Adds a problem for which rows of `labels` are left out; `reason` is one of `errors.REASONS`."""
        self.add("labels", column, rows, problem, LEFT_OUT, reason)

    def rejected(self) -> pd.DataFrame:
        """The rows of `labels` that are left out, in their order: `row`, `reason` (its code), `detail` (a sentence)."""
        found = self._frame()
        first = found[found["reason"] != ""].drop_duplicates("row").sort_values("row")
        rows = first[["row", "problem"]].itertuples(index=False)
        detail = [f"row {row} of the table: {problem}" for row, problem in rows]
        return first[["row", "reason"]].assign(detail=detail)

    def tally(self) -> Counter[str]:
        """How many rows of `labels` are left out, by reason."""
        return Counter(self.rejected()["reason"])

    def counts(self) -> tuple[ProblemCount, ...]:
        """Each kind of problem, the most frequent first."""
        kinds = self._frame().groupby(_KIND, sort=False)["row"].agg(first_row="min", rows="size").reset_index()
        ordered = kinds.sort_values(["rows", "first_row"], ascending=[False, True], kind="stable")
        return tuple(ProblemCount(**kind) for kind in ordered.to_dict("records"))

    def csv(self) -> str:
        """The content of `table_problems.csv`: table, row, column, problem, consequence."""
        text: str = self._frame()[_WRITTEN].sort_values(_WRITTEN).to_csv(index=False, lineterminator="\n")
        return text

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

    def _frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._found, columns=[*_WRITTEN, "reason"])
