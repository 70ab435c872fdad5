"""A table in three forms, with names that are markup in one of them."""

import csv
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.pages import render
from keras_ecg_mae.pages.tables import Cell, Row, Table, markdown, percent

TABLE = Table(
    name="table_9",
    caption="A <caption> & more",
    columns=("a*b", "<b>", "c"),
    groups=("one|two", "one|two", "three"),
    rows=(
        Row("institution_1", (Cell("0.9", "p = 0.04", marked=True), Cell("-"), Cell("x\ny"))),
        Row("_<script>alert(1)</script>_", (Cell("1"), Cell("2"), Cell('"3", 4'))),
    ),
    notes=("A note with a | in it.",),
)


class Reader(HTMLParser):
    """Texts and attributes of each element, as a browser sees them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_markdown() -> None:
    assert TABLE.markdown() == (
        "**A \\<caption> & more**\n"
        "\n"
        "|  | one\\|two: a\\*b | one\\|two: \\<b> | three: c |\n"
        "|---|---:|---:|---:|\n"
        "| institution_1 | 0.9 †<br>p = 0.04 | - | x y |\n"
        '| \\_\\<script>alert(1)\\</script>\\_ | 1 | 2 | "3", 4 |\n'
        "\n"
        "- A note with a \\| in it."
    )


def test_html_says_the_same_and_runs_nothing() -> None:
    read = Reader(render("table.html.j2", table=TABLE))
    assert "script" not in read.tags
    assert "b" not in read.tags
    for text in ("A <caption> & more", "one|two", "a*b", "<b>", "_<script>alert(1)</script>_", "0.9 †", "p = 0.04"):
        assert text in read.texts
    # Equal neighbours share a head; the marked cell is one.
    assert [value for name, value in read.attributes if name == "colspan"] == ["2", "1"]
    assert read.attributes.count(("class", "marked")) == 1
    assert read.tags.count("tr") == 4


@pytest.mark.parametrize("text", ["p < 0.001", "institution_1", "a & b", "5 > 4", "80-90% (3)"])
def test_what_markdown_leaves_alone_is_left_alone(text: str) -> None:
    assert markdown(text) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("<br>", "\\<br>"), ("&lt;", "\\&lt;"), ("a\n\nb", "a b"), ("_x_", "\\_x\\_"), ("\\", "\\\\")]
)
def test_what_markdown_reads_is_escaped(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_csv_reads_back() -> None:
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows == [
        ["", "one|two: a*b", "one|two: <b>", "three: c"],
        ["institution_1", "0.9 †; p = 0.04", "-", "x\ny"],
        ["_<script>alert(1)</script>_", "1", "2", '"3", 4'],
    ]


@given(st.text())
def test_no_text_ends_a_cell_or_starts_markup(text: str) -> None:
    shown = markdown(text)
    assert "\n" not in shown
    plain = shown.replace("\\\\", "")
    for mark in "|*`[$~":
        assert plain.count(mark) == plain.count("\\" + mark)


def test_a_table_without_groups_has_one_line_of_heads() -> None:
    table = Table("t", "Caption", ("a", "b"), (Row.of("r", ("1", "2")),), head="Model")
    assert table.markdown() == "**Caption**\n\n| Model | a | b |\n|---|---:|---:|\n| r | 1 | 2 |"
    assert table.csv() == "Model,a,b\r\nr,1,2\r\n"
    assert "groups" not in render("table.html.j2", table=table)


def test_shares() -> None:
    assert (percent(1, 3), percent(0, 0)) == ("33.3%", "-")
