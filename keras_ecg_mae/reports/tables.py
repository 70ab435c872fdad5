"""A table of a report, as Markdown, HTML and CSV."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# What Markdown would read as something else. It leaves alone an underscore within a word, as in institution_1, and
# what stands by itself, as in `p < 0.001`.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|<(?=[^\s\d])|&(?=[\w#])|(?<!\w)_|_(?!\w)")
# A cell of which there is nothing to say.
NOTHING = "-"


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

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(cell.text for cell in self.cells)


@dataclass(frozen=True)
class Table:
    """A table with a head a row, and two or more a column.

    Attributes:
        name: of its CSV file, without the ending.
        caption: one sentence, without Markdown or HTML.
        groups: what stands above each column; neighbours that are equal are drawn as one.
        columns: the columns' own heads, one a group entry.
        rows: each with as many cells as there are columns.
        notes: sentences below the table.
        head: what the columns' own heads are, e.g. `Model`.
        subheads: further heads below them, a cell a column.
        prose: whether cells are texts and checksums rather than numbers: set to the left, broken where they are long.
    """

    name: str
    caption: str
    groups: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    head: str = ""
    subheads: tuple[Row, ...] = ()
    prose: bool = False

    def markdown(self) -> str:
        """A pipe table, its caption above and its notes below."""
        heads = [f"{group}: {column}" if group else column for group, column in self._heads()]
        lines = [f"**{markdown_text(self.caption)}**", "", _pipes([*map(markdown_text, (self.head, *heads))])]
        lines.append("|---|" + ("---|" if self.prose else "---:|") * len(self.columns))
        for row in (*self.subheads, *self.rows):
            cells = ["<br>".join(map(markdown_text, filter(None, (c.first_line, c.detail)))) for c in row.cells]
            lines.append(_pipes([markdown_text(row.head), *cells]))
        lines += ["", *(f"- {markdown_text(note)}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"

    def html(self) -> str:
        """A `figure` with the table; wide ones scroll on their own."""
        opening = '<table class="prose">' if self.prose else "<table>"
        lines = ["<figure>", f"<figcaption>{html.escape(self.caption)}</figcaption>", f'<div class="scroll">{opening}']
        spans = [(group, len(list(columns))) for group, columns in groupby(self.groups)]
        lines += ["<colgroup>", *(f'<colgroup span="{span}">' for _, span in spans), "<thead>"]
        if any(self.groups):
            heads = "".join(f'<th colspan="{span}" scope="colgroup">{html.escape(group)}</th>' for group, span in spans)
            lines.append(f'<tr class="groups"><td></td>{heads}</tr>')
        for head, columns in [(self.head, self.columns), *((row.head, row.texts) for row in self.subheads)]:
            heads = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
            lines.append(f'<tr><th scope="row">{html.escape(head)}</th>{heads}</tr>')
        lines += ["</thead>", "<tbody>"]
        for row in self.rows:
            cells = "".join(map(_html_cell, row.cells))
            lines.append(f'<tr><th scope="row">{html.escape(row.head)}</th>{cells}</tr>')
        lines += ["</tbody>", "</table></div>"]
        if self.notes:
            lines += ["<ul>", *(f"<li>{html.escape(note)}</li>" for note in self.notes), "</ul>"]
        return "\n".join([*lines, "</figure>"]) + "\n"

    def csv(self) -> str:
        """One line of heads, the subheads, then the rows; a cell's second line follows a semicolon."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([self.head, *(f"{group}: {column}" if group else column for group, column in self._heads())])
        for row in (*self.subheads, *self.rows):
            cells = ("; ".join(filter(None, (cell.first_line, cell.detail))) for cell in row.cells)
            writer.writerow([row.head, *cells])
        return text.getvalue()

    def _heads(self) -> list[tuple[str, str]]:
        return list(zip(self.groups, self.columns, strict=True))


def _html_cell(cell: Cell) -> str:
    # A line is broken between its parts, not within `p = 0.04`.
    parts = ", ".join(f"<span>{html.escape(part)}</span>" for part in cell.detail.split(", "))
    detail = f"<small>{parts}</small>" if cell.detail else ""
    opening = '<td class="marked">' if cell.marked else "<td>"
    return f"{opening}{html.escape(cell.first_line)}{detail}</td>"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Each path's last part, or as many of its last parts as tell it from the others; equal paths stay equal."""
    parts = {path: path.rstrip("/").split("/") for path in paths}
    names = {}
    for path in parts:
        length = 1
        while length < len(parts[path]) and any(
            parts[path][-length:] == other[-length:] for key, other in parts.items() if key != path
        ):
            length += 1
        names[path] = "/".join(parts[path][-length:])
    return [names[path] for path in paths]
