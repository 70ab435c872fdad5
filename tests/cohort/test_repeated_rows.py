"""Rows that repeat or contradict one another, and one ECG a patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keras_ecg_mae.cohort.read import Table, read_table
from keras_ecg_mae.config import Cohort

if TYPE_CHECKING:
    from tests.conftest import Rows


@pytest.fixture
def read(write_table: Callable[[Rows], Path]) -> Callable[..., Table]:
    return lambda rows, **settings: read_table(Cohort(labels=str(write_table(rows)), **settings))


def rejected(table: Table) -> dict[str, str]:
    return {f"{path} {detail.split(':')[0]}": reason for path, reason, detail in table.rejected.to_numpy()}


def kept(table: Table) -> list[str]:
    return list(table.rows["path"])


OTHER = {"path": "z", "record_id": "z", "patient_id": "z"}


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"path": "a", "lvef": "50"}, {"path": "a", "lvef": "50"}, "repeated"),
        ({"path": "a", "lvef": "50"}, {"path": "x/../a", "lvef": "50 %"}, "repeated"),
        ({"path": "a", "lvef": ""}, {"path": "a", "lvef": ""}, "repeated"),
        ({"path": "a", "lvef": "50"}, {"path": "a", "lvef": "30"}, "contradiction"),
        ({"path": "a", "lvef": "50"}, {"path": "a", "lvef": "55"}, "contradiction"),
        ({"path": "a", "lvef": "50"}, {"path": "./a", "lvef": ""}, "contradiction"),
        ({"path": "a", "patient_id": "p"}, {"path": "a", "patient_id": "q"}, "contradiction"),
        ({"path": "a", "institution": "x"}, {"path": "a", "institution": "y"}, "contradiction"),
        ({"path": "a", "sex": "F"}, {"path": "a", "sex": "M"}, "contradiction"),
        ({"path": "a", "record_id": "1"}, {"path": "b", "record_id": "1"}, "contradiction"),
    ],
)
def test_a_recording_that_stands_in_two_rows(
    read: Callable[..., Table], first: dict[str, str], second: dict[str, str], reason: str
) -> None:
    first, second = {"patient_id": "p", "institution": "x", **first}, {"patient_id": "p", "institution": "x", **second}
    table = read([OTHER | {"institution": "x"}, first, second])
    if reason == "repeated":
        assert kept(table) == ["z", "a"]
        assert rejected(table) == {f"{second['path']} row 4 of the table": "repeated"}
    else:
        assert kept(table) == ["z"]
        assert rejected(table) == {
            f"{row['path']} row {number} of the table": reason for number, row in ((3, first), (4, second))
        }
    assert table.problems.counts()[0].consequence == "left out"


def test_which_of_repeated_rows_stays_does_not_depend_on_their_order(read: Callable[..., Table]) -> None:
    rows = [{"path": "a", "record_id": name, "patient_id": "p"} for name in ("2", "1", "3")]
    assert list(read(rows).rows["record_id"]) == list(read(rows[::-1]).rows["record_id"]) == ["1"]


@pytest.mark.parametrize(
    ("rows", "column"),
    [
        ([{"sex": "F"}, {"sex": "M"}], "sex"),
        ([{"sex": "F"}, {"sex": "female"}], None),
        ([{"sex": "W"}, {"sex": ""}], None),
        ([{"age": 20}, {"age": 71}], "age"),
        ([{"age": 20}, {"age": 60}], None),
        ([{"age": 60, "ecg_date": "2010-01-01"}, {"age": 65, "ecg_date": "2015-01-01"}], None),
        ([{"age": 60, "ecg_date": "2010-01-01"}, {"age": 66, "ecg_date": "2015-12-31"}], None),
        ([{"age": 60, "ecg_date": "2010-01-01"}, {"age": 58, "ecg_date": "2015-01-01"}], "age"),
        (
            [{"born": "1950-01-01", "ecg_date": "2010-01-01"}, {"born": "1950-01-02", "ecg_date": "2010-01-01"}],
            "born",
        ),
    ],
)
def test_patients_that_may_be_two_people_are_listed_and_kept(
    read: Callable[..., Table], rows: list[dict[str, Any]], column: str | None
) -> None:
    rows = [{"path": str(number), "patient_id": "p"} | row for number, row in enumerate(rows)]
    dated = {"ecgs_per_patient": "all", "birth_date_column": "born"} if "ecg_date" in rows[0] else {}
    for row in rows if dated else ():
        row.setdefault("born", "")
    table = read([*rows, {"path": "other", "patient_id": "q", "sex": "M", "age": 99}], **dated)
    assert len(table.rows) == 3
    found = table.problems.counts()
    assert [(kind.column, kind.consequence, kind.rows) for kind in found] == ([(column, "kept", 2)] if column else [])


VISITS = [
    {"path": "d", "patient_id": "p", "ecg_date": "2020-04-01", "lvef": ""},
    {"path": "c", "patient_id": "p", "ecg_date": "2020-03-01", "lvef": "50"},
    {"path": "b", "patient_id": "p", "ecg_date": "2020-02-01", "lvef": "50"},
    {"path": "B", "patient_id": "p", "ecg_date": "2020-02-01", "lvef": "50"},
    {"path": "a", "patient_id": "p", "ecg_date": "2020-01-01", "lvef": ""},
    {"path": "e", "patient_id": "p", "ecg_date": "", "lvef": "50"},
    {"path": "g", "patient_id": "q", "ecg_date": "2020-02-01", "lvef": ""},
    {"path": "f", "patient_id": "q", "ecg_date": "2020-01-01", "lvef": ""},
    {"path": "i", "patient_id": "r", "ecg_date": "", "lvef": "50"},
    {"path": "h", "patient_id": "r", "ecg_date": "", "lvef": "50"},
    {"path": "k", "patient_id": "", "ecg_date": "2020-01-01", "lvef": ""},
    {"path": "j", "patient_id": "NA", "ecg_date": "2020-01-01", "lvef": ""},
    {"path": "m", "patient_id": "NA", "ecg_date": "2020-01-01", "lvef": ""},
]


@pytest.mark.parametrize(("which", "expected"), [("first", "B f h j k m"), ("last", "c g h j k m")])
@pytest.mark.parametrize("order", [1, -1])
def test_one_ecg_a_patient(read: Callable[..., Table], which: str, expected: str, order: int) -> None:
    table = read(VISITS[::order], ecgs_per_patient=which)
    assert sorted(kept(table)) == expected.split()
    assert table.summary["not_chosen"] == 7
    assert len(table.rejected) == 0


def test_the_ecg_nearest_to_its_echocardiogram(read: Callable[..., Table], tmp_path: Path) -> None:
    echoes = tmp_path / "echoes.csv"
    echoes.write_text("patient_id,echo_date,lvef\np,2020-03-20,35\nq,2020-01-16,60\nr,2020-01-01,60\n")
    table = read(VISITS, ecgs_per_patient="nearest_echo", echoes=str(echoes), echo_window_days=20)
    assert sorted(kept(table)) == ["d", "f", "h", "j", "k", "m"]
    assert list(table.rows.set_index("path").loc[["d", "f"], "lvef"]) == [35, 60]
