"""A report's files: whole, safe, and without a request to anybody."""

import base64
import re
from pathlib import Path

from keras_ecg_mae.pages.tables import Row, Table
from keras_ecg_mae.reports.document import Document, Part, Picture

PNG = b"\x89PNG and more"


def table(name: str) -> Table:
    return Table(name, f"Caption of {name}", ("<script>",), (Row.of("a & b", ["1"]),))


DOCUMENT = Document(
    title="Detection of <b>lvsd</b>",
    origin="Made by hand.",
    parts=(
        Part("Tables & more", ("A remark with <i>.",), (table("one"), table("two"))),
        Part("Pictures", pictures=(Picture("figure_1_2", "A [caption] & more", PNG),)),
    ),
    attachments=(table("three"),),
)


def test_files_written(tmp_path: Path) -> None:
    DOCUMENT.write(tmp_path / "new" / "folder")
    written = {path.name: path for path in (tmp_path / "new" / "folder").iterdir()}
    assert set(written) == {"report.md", "report.html", "one.csv", "two.csv", "three.csv", "figure_1_2.png"}
    assert written["figure_1_2.png"].read_bytes() == PNG
    assert written["report.md"].read_text(encoding="utf-8") == DOCUMENT.markdown()
    assert written["report.html"].read_text(encoding="utf-8") == DOCUMENT.html()
    assert written["three.csv"].read_bytes() == b",<script>\r\na & b,1\r\n"


def test_markdown_has_every_part_and_links_the_pictures() -> None:
    text = DOCUMENT.markdown()
    assert text.startswith(
        "# Detection of \\<b>lvsd\\</b>\n\n## Tables & more\n\nA remark with \\<i>.\n\n**Caption of one**"
    )
    assert text.index("Caption of one") < text.index("Caption of two") < text.index("## Pictures")
    assert "![A \\[caption\\] & more](figure_1_2.png)" in text
    assert "three" not in text
    assert text.endswith("Made by hand.\n")


def test_html_holds_its_pictures_and_asks_nobody_for_anything() -> None:
    text = DOCUMENT.html()
    assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"' in text
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', text) == []
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    assert "<link" not in text


def test_html_escapes_every_text() -> None:
    text = DOCUMENT.html()
    assert "<script" not in text
    assert "<b>" not in text
    assert "<title>Detection of &lt;b&gt;lvsd&lt;/b&gt;</title>" in text
    assert "<p>A remark with &lt;i&gt;.</p>" in text
    assert 'alt="A [caption] &amp; more"' in text
    assert text.startswith("<!DOCTYPE html>")
    for element in ("html", "head", "body", "main", "section", "table", "figure", "div"):
        assert text.count(f"<{element}>") + text.count(f"<{element} ") == text.count(f"</{element}>"), element
