"""Pairs of ECG and echocardiogram, held against a search of all pairs."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.cohort.cells import EjectionFraction
from keras_ecg_mae.cohort.labels import nearest_echo
from keras_ecg_mae.cohort.read import Table, read_table
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import ConfigError, DatasetError

# Days with times of day, few of each, so that there are ties.
MOMENTS = st.integers(0, 40).map(lambda quarters: 730_000 + quarters / 4)


@given(
    st.lists(st.tuples(st.sampled_from("pqr"), st.none() | MOMENTS), min_size=1, max_size=12),
    st.dictionaries(st.tuples(st.sampled_from("pqs"), MOMENTS), st.integers(2, 100), min_size=1, max_size=12),
    st.integers(0, 6),
)
def test_no_other_pair_is_nearer(
    ecgs: list[tuple[str, float | None]], echoes: dict[tuple[str, float], int], window: int
) -> None:
    rows = [(patient, at, EjectionFraction(percent)) for (patient, at), percent in echoes.items()]
    patients, moments = (pd.Series(column) for column in zip(*ecgs, strict=True))
    nearest = nearest_echo(
        patients, moments.astype(float), pd.DataFrame(rows, columns=["patient", "moment", "lvef"]), window
    )
    for row, (patient, moment) in enumerate(ecgs):
        # In whole days; of equals the earlier.
        own = [
            (abs(int(at) - int(moment)), at, percent)
            for (whose, at), percent in echoes.items()
            if whose == patient and moment is not None
        ]
        distance, _, percent = min(own, default=(np.inf, 0, 0))
        if distance > window:
            assert nearest["lvef"][row] is None
            assert np.isnan(nearest["days"][row])
        else:
            assert nearest["lvef"][row] == EjectionFraction(percent)
            assert nearest["days"][row] == distance


Tables = Callable[..., Table]


@pytest.fixture
def read(tmp_path: Path) -> Tables:
    """Reads a table of ECGs with one of echocardiograms, both given as text."""

    def read_both(ecgs: str, echoes: str, **settings: Any) -> Table:
        (tmp_path / "ecgs.csv").write_text(ecgs)
        (tmp_path / "echoes.csv").write_text(echoes)
        return read_table(Cohort(labels=str(tmp_path / "ecgs.csv"), echoes=str(tmp_path / "echoes.csv"), **settings))

    return read_both


ECGS = """path,patient_id,ecg_date
a,1,2020-01-10
b,1,2020-03-01 08:00
c,2,2020-01-10
d,3,2020-01-10
e,2,
f,4,2020-01-10
"""
ECHOES = """patient_id,echo_date,lvef,referrer
1,2020-01-01,30,Dr Doe
1,2020-01-12 23:50,35-40,Dr Doe
1,2020-02-28,60,Dr Doe
2,2020-02-09,55,Dr Doe
2,,20,Dr Doe
4,2020-01-11,<50,Dr Doe
"""


def test_two_tables(read: Tables) -> None:
    table = read(ECGS, ECHOES)
    assert table.label_name == "lvsd"
    np.testing.assert_array_equal(table.rows["lvef"], [37.5, 60, 55, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(table.rows["label"], [1, 0, 0, np.nan, np.nan, np.nan])
    assert list(table.rows.columns) == [
        *("row", "path", "record_id", "patient_id", "institution", "label", "lvef", "age", "sex", "split"),
    ]
    assert table.summary["pairing"] == {
        "window_days": 30,
        "echoes": 6,
        "usable_echoes": 5,
        "ecgs": 6,
        "paired": 4,
        "same_day": 0,
        "median_days": 2.0,
        "without_date": 1,
        "without_echo": 1,
        "outside_window": 0,
    }
    problems = table.problems.counts()
    assert [(found.table, found.column, found.first_row, found.consequence) for found in problems] == [
        ("labels", "", 7, "unlabelled"),
    ]


def test_an_ecg_without_a_patient_takes_nobodys_echocardiogram(read: Tables) -> None:
    ecgs = "path,record_id,patient_id,ecg_date\nr1,1,,2020-01-10\nr2,8,unknown,2020-01-10\nr3,9,2,2020-01-10\n"
    table = read(ecgs, f"{ECHOES}unknown,2020-01-10,20,Dr Doe\n")
    np.testing.assert_array_equal(table.rows["lvef"], [np.nan, np.nan, 55])
    assert table.summary["pairing"]["without_echo"] == 2


def test_ids_that_may_be_one_patients_in_both_tables(read: Tables) -> None:
    table = read(ECGS.replace(",1,", ",001,").replace(",3,", ",0002.0,"), ECHOES)
    found = {(problem.table, problem.column, problem.first_row): problem for problem in table.problems.counts()}
    assert set(found) == {("labels", "patient_id", 2), ("labels", "patient_id", 4), ("labels", "", 7)}
    between = found["labels", "patient_id", 2]
    assert (between.rows, between.consequence) == (3, "taken as different patients")
    assert "--echoes" in between.problem
    within = read(ECGS, f"{ECHOES}04,2020-01-10,60,Dr Doe\n").problems.counts()
    assert [
        (problem.table, problem.rows, problem.first_row) for problem in within if problem.column == "patient_id"
    ] == [
        ("echoes", 2, 7),
        ("labels", 1, 7),
    ]


def test_rounded_ids_in_either_table_end_it(read: Tables) -> None:
    for ecgs, echoes in ((ECGS.replace(",2,", ",1.2E+11,"), ECHOES), (ECGS, ECHOES.replace("\n2,", "\n1.2E+11,"))):
        with pytest.raises(DatasetError, match=r"in 2 of 6 rows .* a number that a spreadsheet has rounded"):
            read(ecgs, echoes)


def test_the_window(read: Tables) -> None:
    assert read(ECGS, ECHOES, echo_window_days=2).summary["pairing"]["paired"] == 3
    assert read(ECGS, ECHOES, echo_window_days=1).summary["pairing"]["paired"] == 1
    assert read(ECGS, ECHOES, echo_window_days=1).summary["pairing"]["outside_window"] == 3


def test_what_is_wrong_with_echocardiograms_is_listed(read: Tables) -> None:
    echoes = """PatientID,date,lvef
1,10/01/2020,30
1,10/01/2020,30
2,10/01/2020,30
2,10/01/2020,60
3,10/01/2020,normal
3,12/01/2020,45
4,2020,45
4,11/01/2020,50,late
"""
    table = read(ECGS, echoes, echo_patient_id_column="PatientID", echo_date_column="date", date_format="%d/%m/%Y")
    np.testing.assert_array_equal(table.rows["lvef"], [30, np.nan, np.nan, 45, np.nan, np.nan])
    found = {(problem.first_row, problem.rows): problem for problem in table.problems.counts()}
    assert set(found) == {(4, 2), (6, 1), (8, 1), (9, 1)}
    assert {problem.table for problem in found.values()} == {"echoes"}
    assert {problem.consequence for problem in found.values()} == {"not used"}
    assert found[4, 2].problem.startswith("Expected one ejection fraction of a patient at a date and time")


def test_a_change_of_either_table_changes_the_checksum(read: Tables) -> None:
    checksums = [
        read(ECGS, ECHOES).sha256,
        read(ECGS.replace("a,", "z,"), ECHOES).sha256,
        read(ECGS, ECHOES.replace("60", "61")).sha256,
    ]
    assert len(set(checksums)) == 3
    assert read(ECGS, ECHOES).sha256 == checksums[0]


@pytest.mark.parametrize(
    ("ecgs", "echoes", "sentence"),
    [
        ("path,patient_id\na,1\n", ECHOES, r'ecgs\.csv: Expected a column "ecg_date" \(--ecg_date_column\)'),
        ("path,ecg_date\na,2020-01-01\n", ECHOES, r'ecgs\.csv: Expected a column "patient_id"'),
        (ECGS, "patient_id,lvef\n1,30\n", r'echoes\.csv: Expected a column "echo_date" \(--echo_date_column\)'),
        (ECGS, "echo_date,lvef\n1,30\n", r'echoes\.csv: Expected a column "patient_id" \(--echo_patient_id_column\)'),
        (ECGS, "patient_id,echo_date\n1,2020-01-01\n", r'echoes\.csv: Expected a column "lvef" \(--lvef_column\)'),
        (ECGS, ECHOES.replace("\n1,", "\n01,").replace("\n2,", "\n02,").replace("\n4,", "\n04,"), "leading zeros"),
        (ECGS.replace("2020-01-10", "10/01/2020"), ECHOES, "row 2.*--date_format says. .*in 4 of 5 cells"),
    ],
)
def test_tables_that_cannot_be_paired(read: Tables, ecgs: str, echoes: str, sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence):
        read(ecgs, echoes)


def test_no_date_leaves_the_tables(
    read: Tables, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    birth = ECGS.replace("ecg_date", "ecg_date,born").replace("2020-01-10\n", "2020-01-10,1931-12-05\n")
    table = read(birth + "g,1,2020-13-77,1931-99-05\n", ECHOES, birth_date_column="born")
    everything = " ".join(
        [table.rows.to_csv(), table.rejected.to_csv(), table.problems.csv(), str(table.summary), caplog.text]
    ) + str(capsys.readouterr())
    for secret in ("2020-", "1931", "Doe", str(datetime.date(2020, 1, 10).toordinal())):
        assert secret not in everything
    assert list(table.rows["age"].dropna()) == [88, 88, 88, 88]


def test_settings_that_contradict_one_another() -> None:
    with pytest.raises(ConfigError, match="Expected --label_column without --echoes"):
        Cohort(label_column="y", echoes="echoes.csv")
    with pytest.raises(ConfigError, match="Expected --ecgs_per_patient to be nearest_echo with --echoes only"):
        Cohort(ecgs_per_patient="nearest_echo")
    with pytest.raises(ConfigError, match="--echo_window_days"):
        Cohort(echo_window_days=-1)
