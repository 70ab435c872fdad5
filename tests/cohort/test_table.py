"""Tables of every kind: the same cells from each, row numbers as a person counts them, and what is refused."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import random
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from keras_ecg_mae.cohort.table import TableFile, read_table_file
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError

NAMES = ("path", "lvef", "note")


def read(path: Path, wanted: tuple[str, ...] = NAMES, sheet: str = "") -> TableFile:
    return read_table_file(Cohort(labels=str(path), labels_sheet=sheet), "labels", wanted)


def cells(file: TableFile) -> list[list[str]]:
    return [[str(row), *values] for row, values in zip(file.cells.index, file.cells.to_numpy().tolist(), strict=True)]


def write_excel(path: Path, rows: list[list[Any]], **sheets: list[list[Any]]) -> Path:
    workbook = openpyxl.Workbook()
    workbook.active.title = "first"
    for row in rows:
        workbook.active.append(row)
    for name, others in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in others:
            sheet.append(row)
    workbook.save(path)
    return path


def repack(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """The workbook with its parts changed."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    path.write_bytes(content.getvalue())
    return path


def billion_laughs() -> bytes:
    """The beginning of an XML file in which `&l9;` would be two billion letters."""
    laughs = "".join(f"<!ENTITY l{n + 1} '{f'&l{n};' * 10}'>" for n in range(9))
    return f"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY l0 'ha'>{laughs}]>".encode()


# What CSV, TSV, Excel and Parquet can all hold: no control characters, no lone surrogates, no text openpyxl would take
# for a formula or an error, or read as an escape.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn"), exclude_characters="\u2028\u2029"),
    max_size=12,
).filter(lambda text: not text.startswith(("=", "#")) and "_x" not in text and "x005F" not in text)
NUMBERS = st.one_of(st.integers(-(10**14), 10**14), st.floats(-1e6, 1e6).map(lambda value: round(value, 3) + 0.0))
ROWS = st.lists(
    st.tuples(TEXTS.map(lambda text: "p" + text), st.none() | NUMBERS, st.none() | TEXTS), min_size=1, max_size=8
)


@settings(max_examples=25)
@given(ROWS)
def test_a_table_reads_the_same_in_every_format(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("formats")
    for name, delimiter in (("comma", ","), ("tab", "\t"), ("semicolon", ";"), ("bar", "|")):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter)
            # A whole number without a point, as spreadsheets and databases write it.
            writer.writerows(
                [NAMES, *((path, f"{lvef or 0:.15g}" * (lvef is not None), note) for path, lvef, note in rows)]
            )
    write_excel(folder / "excel", [list(NAMES), *map(list, rows)])
    columns = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    kinds = (pa.string(), pa.float64(), pa.large_string())
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns.values(), kinds, strict=True)], NAMES)
    parquet.write_table(table, folder / "parquet")
    expected = cells(read(folder / "comma"))
    assert [row[1] for row in expected] == [row[0].strip() for row in rows]
    assert [float(row[2]) if row[2] else None for row in expected] == [row[1] for row in rows]
    for name in ("tab", "semicolon", "bar", "excel", "parquet"):
        assert cells(read(folder / name)) == expected, name


def test_what_excel_stores_becomes_what_its_csv_would_say(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 3, 31, 12, 30)
    values = [35.0, 35.5, "0017", True, moment, datetime.date(2024, 3, 31), 4711, " 35 % ", None, 34.9]
    path = write_excel(tmp_path / "table.any", [["path"], *([value] for value in [*values, "end"])])
    assert list(read(path).cells["path"]) == [
        *("35", "35.5", "0017", "True", "2024-03-31 12:30:00", "2024-03-31", "4711", "35 %"),
        *("34.9", "end"),
    ]
    assert list(read(path).cells.index) == [2, 3, 4, 5, 6, 7, 8, 9, 11, 12]


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (0.35, "0%", "35%"),
        (0.29, "0%", "29%"),
        (0.355, "0.0 %", "35.5%"),
        (0.3996, "0%", "39.96%"),
        (1, "[Red]0%", "100%"),
        (35, '0"%"', "35"),
        (35, r"0\%", "35"),
        (0.35, "0.00", "0.35"),
        (123, "00000", "00123"),
        (1234567, "00000", "1234567"),
        (123, "0", "123"),
        (-5, "000", "-5"),
        (True, "0%", "True"),
    ],
)
def test_a_number_format_that_changes_the_meaning(tmp_path: Path, value: object, number_format: str, text: str) -> None:
    path = write_excel(tmp_path / "table.xlsx", [["path", "lvef"], ["a", value]])
    workbook = openpyxl.load_workbook(path)
    workbook.active["B2"].number_format = number_format
    workbook.save(path)
    assert cells(read(path)) == [["2", "a", text]]


def test_cells_that_are_merged_with_those_below_them(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["", "of hearts", "note"],
        ["path", "lvef", "note"],
        ["a", 35, "x"],
        ["b", None, None],
        ["c", 50],
        ["d"],
    ]
    path = write_excel(tmp_path / "table.xlsx", rows)
    workbook = openpyxl.load_workbook(path)
    for merged in ("B3:B4", "C3:D3", "B5:C6"):
        workbook.active.merge_cells(merged)
    workbook.save(path)
    # Others are merged with nothing in them, beside the table.
    repack(
        path,
        lambda _, part: part.replace(b'<mergeCell ref="B3:B4"', b'<mergeCell ref="J3:J9" /><mergeCell ref="B3:B4"'),
    )
    assert cells(read(path, ("of hearts",)))[1:] == [["3", "35"], ["4", "35"], ["5", "50"], ["6", "50"]]


def test_a_header_that_is_merged_is_no_row(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "table.xlsx", [["path", "lvef"], [None, None], ["a", 35]])
    workbook = openpyxl.load_workbook(path)
    for merged in ("A1:A2", "B1:B2"):
        workbook.active.merge_cells(merged)
    workbook.save(path)
    assert cells(read(path)) == [["3", "a", "35"]]


def test_what_parquet_stores_becomes_what_its_csv_would_say(tmp_path: Path) -> None:
    utc = datetime.timezone.utc
    columns = {
        "path": pa.array(["a", None, "c"]).dictionary_encode(),
        "float": pa.array([34.9, None, 35.0], pa.float32()),
        "decimal": pa.array([decimal.Decimal("35.50"), None, decimal.Decimal("4")]),
        "date": pa.array([datetime.date(2024, 3, 31), None, datetime.date(1930, 1, 1)]),
        "moment": pa.array([datetime.datetime(2024, 3, 31, 15, tzinfo=utc)] * 3, pa.timestamp("ns", "Asia/Tokyo")),
        "bool": pa.array([True, None, False]),
        "signal": pa.array([[1.0], [], None]),
        "blob": pa.array([b"\xff", b"", None]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "table")
    file = read(tmp_path / "table", tuple(columns))
    assert file.header == ("path", "float", "decimal", "date", "moment", "bool")
    assert cells(file) == [
        ["2", "a", "34.9", "35.50", "2024-03-31", "2024-04-01", "True"],
        ["3", "", "", "", "", "2024-04-01", ""],
        ["4", "c", "35", "4.00", "1930-01-01", "2024-04-01", "False"],
    ]


def test_rows_are_numbered_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b'\xef\xbb\xbf\n,\n path ,"no\nte"\na,"x\ny\nz"\n\n , \nb\n"c","d "" e"')
    file = read(tmp_path / "table.csv", ("path", "no\nte"))
    assert file.header == ("path", "no\nte")
    assert cells(file) == [["4", "a", "x\ny\nz"], ["7", "b", ""], ["8", "c", 'd " e']]
    path = write_excel(tmp_path / "table", [[], ["Export of the ward"], [], ["a"]])
    assert cells(read(path, ("Export of the ward",))) == [["4", "a"]]


@pytest.mark.parametrize(("line", "delimiter"), [("sep=;\n", ";"), ("SEP=|\r\n", "|"), ("sep=\t\n", "\t")])
def test_the_delimiter_that_the_first_line_states(tmp_path: Path, line: str, delimiter: str) -> None:
    header, row = delimiter.join(["path", "one, two, three, four", "lvef"]), delimiter.join(["a", "", "30"])
    (tmp_path / "table.csv").write_bytes(f"{line}{header}\n{row}\n".encode())
    file = read(tmp_path / "table.csv")
    assert file.header == ("path", "one, two, three, four", "lvef")
    assert cells(file) == [["3", "a", "30"]]


def test_rows_with_more_cells_than_the_header_are_told(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,lvef\na,1,\nb,2,x\nc,3\n")
    file = read(tmp_path / "table.csv")
    assert list(file.is_long) == [False, True, False]
    assert cells(file)[1] == ["3", "", ""]  # which may stand under a wrong name


def test_columns_that_are_not_used_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,name\na,Doe\n,Poe\n")
    file = read(tmp_path / "table.csv")
    assert list(file.cells.columns) == ["path"]
    assert list(file.cells.index) == [2, 3]  # a row that says something elsewhere is not blank


def test_sheets(tmp_path: Path) -> None:
    path = write_excel(tmp_path / "book", [["path"], ["a"]], echo=[["path"], ["b"]])
    assert cells(read(path)) == [["2", "a"]]
    assert cells(read(path, sheet="echo")) == [["2", "b"]]
    with pytest.raises(ConfigError, match=r"--labels_sheet to be one of the 2 sheets .* Received 'none'"):
        read(path, sheet="none")
    workbook = openpyxl.load_workbook(io.BytesIO(path.read_bytes()))
    workbook["first"].sheet_state = "hidden"
    workbook.save(path)
    assert cells(read(path)) == [["2", "b"]]
    (tmp_path / "table.csv").write_text("path\na\n")
    with pytest.raises(ConfigError, match="--labels_sheet with an Excel table only"):
        read(tmp_path / "table.csv", sheet="first")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "Expected a table with a header. Received nothing but blanks"),
        (b" ,\n\n", "Expected a table with a header. Received nothing but blanks"),
        (b"path\n,,\n", "Expected at least one row. Received a table without rows"),
        (b"path\n\xff\xfe\n", "Expected text in UTF-8. Received byte 5 that is not"),
        ("path\nDöner\n".encode("cp1252"), "Expected text in UTF-8. Received byte 6 that is not"),
        ("path\na\n".encode("utf-16-le"), "Expected text, a workbook or Parquet. Received a zero byte"),
        (b'path\na\nb,"c\nd\ne\n', "row 3: Expected a quote at the end of each cell that begins with one"),
        (b"path\na" + b"a" * 200_000, "Expected CSV. Received, after row 1: field larger"),
        (b"path,lvef,path\na,b,c\n", 'Expected one column "path". Received 2'),
        (b"PK\x03\x04" + bytes(40), "Expected a whole Excel workbook. Received BadZipFile"),
        (b"PAR1" + bytes(40), "Expected a whole Parquet file. Received Arrow"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40), "save it as .xlsx without a password"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DatasetError) as raised:
        read(tmp_path / "table.csv")
    assert sentence in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "table.csv"))


def test_a_zip_that_is_no_workbook(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "table.ods", "w") as archive:
        archive.writestr("content.xml", "")
    with pytest.raises(DatasetError, match=r"Received a zip file without xl/workbook\.xml"):
        read(tmp_path / "table.ods")


@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml"])
def test_a_billion_laughs_in_a_workbook(tmp_path: Path, part: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        body = content.rpartition(b"?>")[2]
        return billion_laughs() + body.replace(b">path<", b">&l9;<") if name == part else content

    with pytest.raises(DatasetError, match=r"Expected a whole Excel workbook. Received EntitiesForbidden"):
        read(repack(write_excel(tmp_path / "table", [["path"], ["a"]]), change))


@pytest.mark.parametrize("kind", ["xlsx", "parquet", "csv"])
def test_damaged_tables(tmp_path: Path, kind: str) -> None:
    """Whatever the bytes: a table or this package's own error, without a cell in it."""
    frame = pd.DataFrame({"path": [f"Doe-{n}" for n in range(40)], "lvef": range(40), "note": "Doe"})
    path = tmp_path / kind
    if kind == "xlsx":
        write_excel(path, [list(frame), *frame.to_numpy().tolist()])
    else:
        frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    whole = path.read_bytes()
    generator = random.Random(0)

    def damage(content: bytes) -> bytes:
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        return bytes(damaged[: generator.choice([len(content), generator.randrange(1, len(content))])])

    def damage_one(chosen: str, name: str, content: bytes) -> bytes:
        return damage(content) if name == f"xl/{chosen}.xml" else content

    outcomes = set()
    for number in range(60):
        path.write_bytes(whole if kind == "xlsx" and number % 3 else damage(whole))
        if kind == "xlsx" and number % 3:  # in a part that its zip vouches for
            repack(path, partial(damage_one, ("worksheets/sheet1", "workbook", "styles")[number % 5 % 3]))
        try:
            outcomes.add(f"read {type(read(path)).__name__}")
        except DatasetError as error:
            outcomes.add(str(error))
    assert "read TableFile" in outcomes
    assert len(outcomes) > 1
    assert not any("Doe" in outcome for outcome in outcomes)
