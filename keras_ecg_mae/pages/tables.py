"""A table as Markdown, as CSV and, by `table.html.j2`, as HTML."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

# A cell of which there is nothing to say.
NOTHING = "-"
# What Markdown would read as something else. It leaves alone an underscore within a word, as in institution_1, and
# what stands by itself, as in `p < 0.001`.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|<(?=[^\s\d])|&(?=[\w#])|(?<!\w)_|_(?!\w)")


@dataclass(frozen=True)
class Cell:
    """One cell: what it says, a second line in smaller print, and whether it is marked with a dagger."""

    text: str
    detail: str = ""
    marked: bool = False

    @property
    def first_line(self) -> str:
        return f"{self.text} †" if self.marked else self.text


@dataclass(frozen=True)
class Row:
    """A row: its head, and a cell a column."""

    head: str
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, head: str, texts: Iterable[str]) -> "Row":
        """A row of plain texts."""
        return cls(head, tuple(map(Cell, texts)))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(cell.text for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table with a head a row, and one or more a column.

    Attributes:
        name: of its CSV file, without the ending.
        caption: one sentence, without Markdown or HTML.
        columns: the columns' own heads.
        rows: each with as many cells as there are columns.
        notes: sentences below the table.
        groups: what stands above each column; neighbours that are equal are drawn as one. Empty for none.
        head: what the columns' own heads are, e.g. `Model`.
        subheads: further heads below them, a cell a column.
        prose: whether cells are texts and checksums rather than numbers: set to the left, broken where they are long.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    head: str = ""
    subheads: tuple[Row, ...] = ()
    prose: bool = False

    @property
    def spans(self) -> list[tuple[str, int]]:
        """Each group and how many columns it stands above; one nameless group where there are none."""
        return [(group, len(list(columns))) for group, columns in groupby(self.groups or ("",) * len(self.columns))]

    @property
    def heads(self) -> list[str]:
        """Of the rows and of each column, its group's before its own."""
        if not self.groups:
            return [self.head, *self.columns]
        return [self.head, *(f"{group}: {column}" for group, column in zip(self.groups, self.columns, strict=True))]

    def markdown(self) -> str:
        """A pipe table, its caption above and its notes below."""
        rows = [
            [markdown(row.head), *("<br>".join(map(markdown, _lines(cell))) for cell in row.cells)]
            for row in (*self.subheads, *self.rows)
        ]
        texts = len(self.heads) if self.prose else 1
        table = _pipes([[markdown(head) for head in self.heads], *rows], texts)
        notes = "".join(f"\n- {markdown(note)}" for note in self.notes)
        return f"**{markdown(self.caption)}**\n\n{table}" + (f"\n{notes}" if notes else "")

    def csv(self) -> str:
        """One line of heads, the subheads, then the rows; a cell's second line follows a semicolon."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.heads)
        for row in (*self.subheads, *self.rows):
            writer.writerow([row.head, *("; ".join(_lines(cell)) for cell in row.cells)])
        return text.getvalue()


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A pipe table of plain texts; all but the first `texts` columns hold numbers, set to the right."""
    return _pipes([[markdown(cell) for cell in row] for row in (heads, *rows)], texts)


def percent(count: int, total: int) -> str:
    """A share with one digit; nothing of nothing."""
    return f"{count / total:.1%}" if total else NOTHING


def _lines(cell: Cell) -> Iterable[str]:
    return filter(None, (cell.first_line, cell.detail))


def _pipes(rows: Sequence[Sequence[str]], texts: int) -> str:
    """A pipe table of cells in Markdown, the first row being the heads."""
    heads, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([heads, "|" + "---|" * texts + "---:|" * (len(rows[0]) - texts), *others])
