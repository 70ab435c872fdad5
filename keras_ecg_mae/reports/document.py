"""A report as Markdown, as one HTML file that needs nothing else, and as a CSV file a table."""

import base64
from dataclasses import dataclass
from pathlib import Path

from keras_ecg_mae.files import write_whole
from keras_ecg_mae.pages import render
from keras_ecg_mae.pages.tables import Table


@dataclass(frozen=True)
class Picture:
    """A PNG file: its name without the ending, a caption, its content, and what it shows in words."""

    name: str
    caption: str
    png: bytes
    words: str = ""

    @property
    def address(self) -> str:
        """Of the picture within a page that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


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
        return render("report.md.j2", report=self)

    def html(self) -> str:
        """One file: its style and its pictures are in it."""
        return render("report.html.j2", title=self.title, report=self)

    def write(self, folder: Path) -> None:
        """Writes `report.md`, `report.html`, a CSV file a table and the pictures; files of these names are replaced."""
        for table in (*(table for part in self.parts for table in part.tables), *self.attachments):
            write_whole(folder / f"{table.name}.csv", table.csv())
        for picture in (picture for part in self.parts for picture in part.pictures):
            write_whole(folder / f"{picture.name}.png", picture.png)
        write_whole(folder / "report.md", self.markdown())
        write_whole(folder / "report.html", self.html())
