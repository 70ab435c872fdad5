"""What people read of a cohort: the page, `rejected.csv`, `table_problems.csv`, and what the command prints."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from keras_ecg_mae.cohort.description import CohortDescription, describe
from keras_ecg_mae.cohort.page import cohort_page
from keras_ecg_mae.config import Cohort, Config
from keras_ecg_mae.dataset import prepare, read_cohort, read_manifest, split_table
from keras_ecg_mae.errors import REASONS
from keras_ecg_mae.prepare import main

if TYPE_CHECKING:
    from tests.conftest import Rows
    from tests.dataset.conftest import Hospital

_VOID = {"meta", "br"}


class Page(HTMLParser):
    """The tables of a page by the head above them, as rows of texts; fails where a tag is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: Counter[str] = Counter()
        self._open: list[str] = []
        self._head = ""
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "h2":
            self._head = ""
        if tag in ("tr", "li"):
            self.tables.setdefault(self._head, []).append([])
        if tag in ("td", "th", "li"):
            self.tables[self._head][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "h2":
            self._head += data
        elif {"td", "th", "li"} & set(self._open):
            self.tables[self._head][-1][-1] += data


ROWS = pd.DataFrame(
    {
        "patient_id": ["p", "p", "q", "r", "s"],
        "institution": ["a", "a", "a", "a", "<b>"],
        "split": ["train", "train", "train", "test", "test"],
        "label": [1.0, 0.0, 1.0, None, 0.0],
        "age": [50.0, 52.0, 60.0, None, 40.0],
        "lvef": [30.0, 55.0, None, None, 60.0],
        "sex": ["F", "F", "M", "", "F"],
    }
)


TABLE = {"without_patient_id": 0, "not_chosen": 0, "problems": [], "pairing": None}


def page(description: CohortDescription, **settings: Any) -> Page:
    return Page(cohort_page(replace(description, table=TABLE, settings=settings), "A cohort"))


def test_by_eye() -> None:
    shown = page(describe(ROWS, "lvsd", ("<b>",)), age_cap=90.0, external_institutions=["<b>"], table_only=False)
    assert shown.tables["By institution and split"] == [
        [
            *("Institution", "ECGs", "Patients", "Positive (lvsd)", "Age, mean (SD)", "Sex F", "Sex M", "Sex unknown"),
            "LVEF in %, mean (SD)",
        ],
        ["a", "4", "3", "2 (66.7%)", "54.0 (5.3)", "50.0%", "25.0%", "25.0%", "42.5 (17.7)"],
        ["train", "3", "2", "2 (66.7%)", "54.0 (5.3)", "66.7%", "33.3%", "0.0%", "42.5 (17.7)"],
        ["test", "1", "1", "0 (-)", "-", "0.0%", "0.0%", "100.0%", "-"],
        ["<b>, external", "1", "1", "0 (0.0%)", "40.0 (-)", "100.0%", "0.0%", "0.0%", "60.0 (-)"],
        ["test", "1", "1", "0 (0.0%)", "40.0 (-)", "100.0%", "0.0%", "0.0%", "60.0 (-)"],
        ["all, train", "3", "2", "2 (66.7%)", "54.0 (5.3)", "66.7%", "33.3%", "0.0%", "42.5 (17.7)"],
        ["all, validation", "0", "0", "0 (-)", "-", "-", "-", "-", "-"],
        ["all, test", "2", "2", "0 (0.0%)", "40.0 (-)", "50.0%", "0.0%", "50.0%", "60.0 (-)"],
    ]
    settings = shown.tables["Settings"]
    assert settings == [["--age_cap=90"], ["--external_institutions=<b>"], ["--table_only=false"]]
    assert set(shown.tables) == {"By institution and split", "Settings"}


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    settings = {"labels_sheet": '"><script>alert(1)</script>'}
    text = cohort_page(replace(describe(ROWS, "", ()), table=TABLE, settings=settings), "<i>")
    assert not Page(text).tags.keys() & {"script", "img", "link", "iframe", "i", "b"}
    assert "http" not in text.replace("http-equiv", "")
    assert "Positive" not in text


@pytest.mark.parametrize(
    ("table", "without"),
    [("path,patient_id\na,p\nb,p\n", 0), ("path,patient_id\na,p\nb,\nc,?\n", 2), ("path\na\nb\n", 2)],
)
def test_the_page_says_of_whom_the_split_cannot_be_right(tmp_path: Path, table: str, without: int) -> None:
    (tmp_path / "ecgs.csv").write_text(table)
    split_table(Cohort(labels=str(tmp_path / "ecgs.csv"), output=str(tmp_path / "dataset"), table_only=True))
    text = (tmp_path / "dataset/cohort.html").read_text()
    assert (f"Of {without} ECGs the table names no patient: each counts as a patient of its own" in text) == bool(
        without
    )
    assert json.loads((tmp_path / "dataset/cohort.json").read_text())["table"]["without_patient_id"] == without


@pytest.fixture
def messy(hospital: Hospital, write_table: Callable[[Rows], Path], tmp_path: Path) -> Cohort:
    """The hospital's table with rows of which something is wrong."""
    with open(hospital.labels, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[0]["lvef"] = "reduced"
    rows[1]["path"] = ""
    rows += [rows[10], rows[11] | {"lvef": "20"}]
    return type(hospital)(hospital.recordings, write_table(rows), {}).cohort(tmp_path / "dataset", workers=1)


def test_everything_that_is_left_out_is_listed_counted_and_shown(
    messy: Cohort, hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(Config(cohort=messy), []) == 0
    printed = capsys.readouterr().out
    manifest = read_manifest(messy.output)
    expected = Counter(hospital.bad.values()) + Counter({"table_row": 1, "repeated": 1, "contradiction": 2})
    assert manifest.rejected == dict(sorted(expected.items()))
    assert manifest.count() == 40 - 1 - 1
    with open(f"{messy.output}/rejected.csv", encoding="utf-8") as file:
        rejected = list(csv.DictReader(file))
    assert Counter(row["reason"] for row in rejected) == expected
    with open(f"{messy.output}/table_problems.csv", encoding="utf-8") as file:
        problems = list(csv.DictReader(file))
    assert ("2", "lvef", "unlabelled") in [(row["row"], row["column"], row["consequence"]) for row in problems]
    assert "reduced" not in Path(f"{messy.output}/table_problems.csv").read_text()
    shown = Page(Path(f"{messy.output}/cohort.html").read_text()).tables
    assert {row[0]: (row[1], int(row[2])) for row in shown["Left out"][1:]} == {
        reason: (REASONS[reason], count) for reason, count in expected.items()
    }
    for reason, count in expected.items():
        assert f"Left out {count}: {REASONS[reason]} ({reason})." in printed
    assert shown["Wrong or doubtful in the table"][1:] == [
        [
            f"--{kind['table']}",
            kind["column"],
            kind["problem"],
            kind["consequence"],
            f"{kind['rows']}",
            f"{kind['first_row']}",
        ]
        for kind in json.loads(Path(manifest.path).read_text())["table"]["problems"]
    ]
    assert prepare(messy) == manifest


def test_table_only_lists_them_too(messy: Cohort, capsys: pytest.CaptureFixture[str]) -> None:
    cohort = Cohort(**{**messy.__dict__, "table_only": True})
    assert main(Config(cohort=cohort), []) == 0
    assert "Left out 2: the table has this path" in capsys.readouterr().out
    described = read_cohort(cohort.output)
    assert described.rejected == {"contradiction": 2, "repeated": 1, "table_row": 1}
    assert described.table["rows"] == 46
    shown = Page(Path(f"{cohort.output}/cohort.html").read_text()).tables
    assert {row[0] for row in shown["Left out"][1:]} == set(described.rejected)
    # What it left gives way to another table's, and to the dataset.
    Path(cohort.labels).write_text("path,patient_id\na,p\n")
    split_table(cohort)
    assert not Path(f"{cohort.output}/table_problems.csv").exists()
    assert Path(f"{cohort.output}/rejected.csv").read_text() == "file,reason,detail\n"


def test_pairs_and_choices_are_shown(tmp_path: Path) -> None:
    (tmp_path / "ecgs.csv").write_text("path,patient_id,ecg_date\na,p,2020-01-01\nb,p,2020-01-03\nc,q,2020-01-01\n")
    (tmp_path / "echoes.csv").write_text("patient_id,echo_date,lvef\np,2020-01-02,35\n")
    cohort = Cohort(
        labels=str(tmp_path / "ecgs.csv"),
        echoes=str(tmp_path / "echoes.csv"),
        output=str(tmp_path / "dataset"),
        ecgs_per_patient="nearest_echo",
        table_only=True,
    )
    described = split_table(cohort)
    assert described.count() == 2
    assert described.table["not_chosen"] == 1
    text = (tmp_path / "dataset/cohort.html").read_text()
    pairs = Page(text).tables["ECGs and echocardiograms"]
    assert [row[1:] for row in pairs[1:]] == [
        ["2", "66.7%"],
        ["0", "0.0%"],
        ["0", "0.0%"],
        ["1", "33.3%"],
        ["0", "0.0%"],
    ]
    assert pairs[1][0] == "paired with an echocardiogram at most 30 days away (median: 1)"
    assert "1 more are of patients of whom another ECG was taken" in text
    assert "2020" not in text
