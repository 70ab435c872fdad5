"""A report as Markdown, as one HTML file that needs nothing else, and as a CSV file a table."""

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_ecg_mae.files import write_whole
from keras_ecg_mae.reports.tables import Table, markdown_text

MARKDOWN, HTML = "report.md", "report.html"

# System fonts and colours only: the file asks no host for anything.
STYLE = """
:root { color-scheme: light; --ink: #16161d; --pale: #5c5f6b; --line: #d9dce3; --mark: #eef4fb; --accent: #0b5fc0; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 2.5rem 1.5rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Noto Sans JP", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; padding-top: .9rem; border-top: 2px solid var(--ink); }
p { margin: .4rem 0; max-width: 50rem; }
header p, footer { color: var(--pale); }
footer { margin-top: 3rem; font-size: .85rem; }
figure { margin: 1.6rem 0 2.2rem; }
figcaption { font-weight: 600; margin-bottom: .6rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead { border-bottom: 1.5px solid var(--ink); }
thead th { vertical-align: bottom; white-space: normal; overflow-wrap: anywhere; max-width: 15rem; }
colgroup + colgroup + colgroup { border-left: 1px solid var(--line); }
.groups th { text-align: center; color: var(--accent); border-bottom: 1px solid var(--line); }
tbody tr { border-bottom: 1px solid var(--line); }
thead th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tbody th { text-align: left; font-weight: 600; position: sticky; left: 0; background: #fff; }
td.marked { background: var(--mark); }
td small { display: block; color: var(--pale); white-space: normal; }
td small span { white-space: nowrap; }
.prose td small span { white-space: normal; }
.prose th, .prose td { text-align: left; white-space: normal; }
.prose td { overflow-wrap: anywhere; min-width: 7rem; }
ul { margin: .7rem 0 0; padding-left: 1.1rem; max-width: 60rem; font-size: .85rem; color: var(--pale); }
img { display: block; width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } .scroll { overflow: visible; }
  figure { break-inside: avoid; } th { position: static !important; } td.marked { print-color-adjust: exact; } }
"""


@dataclass(frozen=True)
class Picture:
    """A PNG file: the name it is written under, without the ending, a caption, and its content."""

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Part:
    """A part of a report: its head, remarks, then tables, then pictures."""

    title: str
    remarks: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        title: its head.
        origin: one sentence on what made it, and when.
        parts: in their order.
        attachments: tables that are written as CSV only.
    """

    title: str
    origin: str
    parts: tuple[Part, ...]
    attachments: tuple[Table, ...] = ()

    def markdown(self) -> str:
        """Everything but the attachments; pictures are linked."""
        blocks = [f"# {markdown_text(self.title)}"]
        for part in self.parts:
            blocks.append(f"## {markdown_text(part.title)}")
            blocks += [markdown_text(remark) for remark in part.remarks]
            blocks += [table.markdown().rstrip() for table in part.tables]
            blocks += [f"![{markdown_text(picture.caption)}]({picture.name}.png)" for picture in part.pictures]
        blocks.append(markdown_text(self.origin))
        return "\n\n".join(blocks) + "\n"

    def html(self) -> str:
        """One file: its style and its pictures are in it."""
        return "\n".join(self._html_lines()) + "\n"

    def _html_lines(self) -> Iterator[str]:
        title = html.escape(self.title)
        yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
        yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
        yield f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>"
        yield f"<header><h1>{title}</h1></header>\n<main>"
        for part in self.parts:
            yield f"<section>\n<h2>{html.escape(part.title)}</h2>"
            yield from (f"<p>{html.escape(remark)}</p>" for remark in part.remarks)
            yield from (table.html() for table in part.tables)
            for picture in part.pictures:
                caption, content = html.escape(picture.caption), base64.b64encode(picture.png).decode()
                yield f"<figure>\n<figcaption>{caption}</figcaption>"
                yield f'<img alt="{caption}" src="data:image/png;base64,{content}">\n</figure>'
            yield "</section>"
        yield f"</main>\n<footer>{html.escape(self.origin)}</footer>\n</body>\n</html>"

    def write(self, folder: Path) -> None:
        """Writes `report.md`, `report.html`, a CSV file a table and the pictures; files of these names are replaced."""
        for table in (*(table for part in self.parts for table in part.tables), *self.attachments):
            write_whole(folder / f"{table.name}.csv", table.csv())
        for picture in (picture for part in self.parts for picture in part.pictures):
            write_whole(folder / f"{picture.name}.png", picture.png)
        write_whole(folder / MARKDOWN, self.markdown())
        write_whole(folder / HTML, self.html())
