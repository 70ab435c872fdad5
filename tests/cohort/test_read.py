"""The table of a cohort: what is understood, and the sentence for each thing that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from keras_ecg_mae.cohort.read import Table, read_table
from keras_ecg_mae.config import Cohort
from keras_ecg_mae.errors import REASONS, ConfigError, DatasetError

if TYPE_CHECKING:
    from tests.conftest import Rows


def read(labels: Path, **settings: Any) -> Table:
    return read_table(Cohort(labels=str(labels), **settings))


def test_every_column_is_read(write_table: Callable[[Rows], Path]) -> None:
    labels = write_table(
        [
            {
                "path": "a",
                "record_id": "1",
                "patient_id": "p",
                "institution": "x",
                "lvef": "39.9",
                "age": 60,
                "sex": "F",
            },
            {"path": "b", "record_id": "2", "patient_id": "q", "institution": "y z", "lvef": "40", "note": "ignored"},
            {"path": "c", "record_id": "NA", "patient_id": "q", "institution": "x", "lvef": "nan", "age": "300"},
        ]
    )
    table = read(labels)
    rows = table.rows
    assert table.label_name == "lvsd"
    assert list(rows["row"]) == [2, 3, 4]
    assert list(rows["record_id"]) == ["1", "2", "NA"]
    assert list(rows["institution"]) == ["x", "y z", "x"]
    np.testing.assert_array_equal(rows["label"], [1, 0, np.nan])
    np.testing.assert_array_equal(rows["lvef"], [39.9, 40, np.nan])
    np.testing.assert_array_equal(rows["age"], [60, np.nan, np.nan])
    assert list(rows["sex"]) == ["F", "", ""]


def test_a_path_alone_is_enough(write_table: Callable[[Rows], Path]) -> None:
    table = read(write_table([{"path": "a"}, {"path": "b"}]))
    assert table.label_name == ""
    assert list(table.rows["record_id"]) == ["a", "b"]
    assert table.rows["patient_id"].nunique() == 2
    assert set(table.rows["institution"]) == {"all"}
    assert table.rows["label"].isna().all()


@pytest.mark.parametrize("spelling", ["PatientID", "Patient_ID", "patient id", "PATIENT-ID"])
def test_a_column_in_another_spelling_is_not_passed_over(write_table: Callable[[Rows], Path], spelling: str) -> None:
    labels = write_table([{"path": "a", spelling: "p"}])
    with pytest.raises(DatasetError) as raised:
        read(labels)
    assert f'Expected a column "patient_id" (--patient_id_column). Received "{spelling}": give' in str(raised.value)
    assert list(read(labels, patient_id_column=spelling).rows["patient_id"]) == ["p"]
    both = write_table([{"path": "a", spelling: "p", "patient_id": "q"}])
    assert list(read(both).rows["patient_id"]) == ["q"]


@pytest.mark.parametrize("name", ["Path", "Record ID", "Institution", "LVEF", "AGE", "Sex"])
def test_nor_is_any_other(write_table: Callable[[Rows], Path], name: str) -> None:
    with pytest.raises(DatasetError, match=rf'Received "{name}": give --[a-z_]+_column="{name}"'):
        read(write_table([{"path": "a", name: "1"} if name != "Path" else {name: "1"}]))


@pytest.mark.parametrize("column", [{}, {"patient_id": ""}])
def test_a_table_without_patients_says_so(
    write_table: Callable[[Rows], Path], caplog: pytest.LogCaptureFixture, column: dict[str, str]
) -> None:
    table = read(write_table([{"path": "a"} | column, {"path": "b"} | column]))
    (found,) = table.problems.counts()
    assert (found.column, found.rows) == ("patient_id", 1)
    assert found.consequence == "each recording taken as a patient of its own"
    assert "what is trained on may be of those tested on" in found.problem
    assert found.problem in caplog.text
    assert table.summary["without_patient_id"] == 2


@pytest.mark.parametrize("nobody", ["", "NA", "unknown", "Unbekannt", "?", "#REF!", "#VALUE!", "#N/A", "#WERT!", "###"])
def test_an_empty_patient_id_is_a_patient_of_one_recording(write_table: Callable[[Rows], Path], nobody: str) -> None:
    rows = [{"path": "a", "patient_id": "b"}, {"path": "b", "patient_id": nobody}, {"path": "c", "patient_id": nobody}]
    table = read(write_table(rows))
    assert table.rows["patient_id"].nunique() == 3  # the first has the id that the second's record has
    assert table.rows["patient_id"][0] == "b"
    assert table.summary["without_patient_id"] == 2
    assert [(found.rows, found.first_row, found.consequence) for found in table.problems.counts()] == [
        (2, 3, "taken as a patient of its own")
    ]


@pytest.mark.parametrize("rounded", ["1.23457E+11", "1,23457E+11", "1e+15", "1.2345678901234568e+18"])
def test_patient_ids_that_a_spreadsheet_has_rounded(write_table: Callable[[Rows], Path], rounded: str) -> None:
    rows = [{"path": "a", "patient_id": "1"}, *({"path": str(n), "patient_id": rounded} for n in range(12))]
    with pytest.raises(DatasetError, match=r"in 12 of 13 rows \(3, .*, 12, \.\.\.\), a number that a spreadsheet has"):
        read(write_table(rows))
    ids = ["12E4", "1E5", "3e12"]  # which may well be ids
    assert list(read(write_table([{"path": each, "patient_id": each} for each in ids])).rows["patient_id"]) == ids


def test_patient_ids_with_more_digits_than_excel_keeps(tmp_path: Path) -> None:
    def write(kind: str, ids: list[Any]) -> Path:
        frame = pd.DataFrame({"path": [str(number) for number in range(len(ids))], "patient_id": ids})
        path = tmp_path / f"table.{kind}"
        frame.to_excel(path, index=False) if kind == "xlsx" else frame.to_parquet(path)
        return path

    longest = 123456789012345
    assert list(read(write("xlsx", [longest, longest + 1])).rows["patient_id"]) == [str(longest), str(longest + 1)]
    assert list(read(write("xlsx", [str(10 * longest)])).rows["patient_id"]) == [str(10 * longest)]
    for number in (10 * longest, 1000.0 * longest):
        with pytest.raises(DatasetError, match=r"in 1 of 2 rows \(3\), a number that a spreadsheet has rounded"):
            read(write("xlsx", [1, number]))
    assert list(read(write("parquet", [2**63 - 1])).rows["patient_id"]) == [str(2**63 - 1)]
    assert list(read(write("parquet", [float(2**53 - 1), None])).rows["patient_id"][:1]) == [str(2**53 - 1)]
    with pytest.raises(DatasetError, match="a number that a spreadsheet has rounded"):
        read(write("parquet", [float(2**53), None]))


def test_patient_ids_that_may_be_one_in_two_spellings(write_table: Callable[[Rows], Path]) -> None:
    ids = ["00123", "123", "7", "123.0", "70", "0", "00"]
    table = read(write_table([{"path": str(number), "patient_id": each} for number, each in enumerate(ids)]))
    (found,) = table.problems.counts()
    assert (found.column, found.rows, found.first_row) == ("patient_id", 5, 2)
    assert found.consequence == "taken as different patients"
    assert list(table.rows["patient_id"]) == ids


@pytest.mark.parametrize(
    ("one", "other"),
    [("P001", "p001"), ("P-001", "P001"), ("P001", "P1"), ("P 001", "P001"), ("P001", "P001\u200b"), ("\uff11", "1")],
)
def test_nor_do_they_differ_in_case_blanks_or_dashes_alone(
    write_table: Callable[[Rows], Path], one: str, other: str
) -> None:
    ids = [one, other, "Q"]
    table = read(write_table([{"path": str(number), "patient_id": each} for number, each in enumerate(ids)]))
    (found,) = table.problems.counts()
    assert (found.column, found.rows, found.consequence) == ("patient_id", 2, "taken as different patients")
    assert table.rows["patient_id"].nunique() == 3


def test_ids_that_only_look_alike_are_not_listed(write_table: Callable[[Rows], Path]) -> None:
    ids = ["a-1-11", "a-11-1", "100", "10", "1.5", "15", "P10", "P1", "1-2", "12"]
    table = read(write_table([{"path": str(number), "patient_id": each} for number, each in enumerate(ids)]))
    assert table.problems.counts() == ()


def test_paths_written_on_windows(write_table: Callable[[Rows], Path]) -> None:
    paths = ["2019\\00001.hea", "2019/00001.hea", ".\\2019\\00002", "C:\\ecg\\2019\\00003", "\\\\server\\ecg\\00004"]
    table = read(write_table([{"path": path, "patient_id": "p"} for path in paths]))
    assert list(table.rows["path"]) == ["2019/00001.hea", "./2019/00002"]
    assert list(table.rejected["reason"]) == ["repeated", "outside_root", "outside_root"]
    assert list(table.rejected["path"]) == paths[1:2] + paths[3:]


def test_an_institution_that_writes_in_another_way_is_not_lost_among_the_others(
    write_table: Callable[[Rows], Path],
) -> None:
    def rows(wrong: int) -> Rows:
        cells = ["0.35"] * wrong + ["35"] * 6
        return [
            *({"path": f"x{n}", "patient_id": f"x{n}", "institution": "x", "lvef": "50"} for n in range(90)),
            *({"path": f"y{n}", "patient_id": f"y{n}", "institution": "y", "lvef": v} for n, v in enumerate(cells)),
        ]

    with pytest.raises(DatasetError, match=r'column "lvef".* in 10 of 16 cells of y that are not empty'):
        read(write_table(rows(10)))
    # A few may be slips of the pen.
    assert read(write_table(rows(9))).rows["label"].isna().sum() == 9


def test_a_column_of_institutions_that_mostly_holds_something_else(write_table: Callable[[Rows], Path]) -> None:
    names = ["x", "N/A", "", "a/b"]
    rows = [{"path": str(n), "patient_id": str(n), "institution": name} for n, name in enumerate(names)]
    with pytest.raises(DatasetError, match=r"--institution_column\), row 3: .* in 3 of 4 rows"):
        read(write_table(rows))
    table = read(write_table([*rows, *({**rows[0], "path": path, "patient_id": path} for path in "pq")]))
    assert set(table.rows["institution"]) == {"x"}
    assert list(table.rejected["reason"]) == ["institution"] * 3


@pytest.mark.parametrize(
    ("cell", "years"),
    [("058Y", 58), ("58 years", 58), ("58 y", 58), ("58 yrs.", 58), ("006M", 0.5), ("026W", 0.5), ("010D", 0.03)],
)
def test_ages_with_a_unit(write_table: Callable[[Rows], Path], cell: str, years: float) -> None:
    table = read(write_table([{"path": "a", "patient_id": "p", "age": cell}]))
    assert table.rows["age"][0] == pytest.approx(years, abs=0.01)


def test_label_column_takes_what_tables_hold(write_table: Callable[[Rows], Path]) -> None:
    cells = ["0", "1", "0.0", "1.0", "TRUE", "False", "", "NaN"]
    table = read(write_table([{"path": str(i), "y": cell} for i, cell in enumerate(cells)]), label_column="y")
    assert table.label_name == "y"
    np.testing.assert_array_equal(table.rows["label"], [0, 1, 0, 1, 1, 0, np.nan, np.nan])


def test_blank_lines_do_not_shift_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(
        b"\xef\xbb\xbfpath,patient_id,lvef\na,1,50\n\n,,\nb,2,500\nc,3,50\n",
    )
    table = read(tmp_path / "labels.csv")
    assert list(table.rows["row"]) == [2, 5, 6]
    assert [problem.first_row for problem in table.problems.counts()] == [5]


GOOD = {"path": "good", "record_id": "good", "patient_id": "p", "institution": "x", "lvef": "50", "y": "1", "sex": "F"}


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"path": ""}, "table_row", "row 3 of the table: Expected a path. Received none."),
        ({"institution": "../x"}, "institution", "Expected a name that can be a folder's"),
        ({"institution": ""}, "institution", "Expected a name that can be a folder's"),
        ({"institution": "rejected.csv"}, "institution", "Expected a name that can be a folder's"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_and_listed(
    write_table: Callable[[Rows], Path], row: dict[str, str], reason: str, detail: str
) -> None:
    row = GOOD | {"path": "bad", "record_id": "bad"} | row
    table = read(write_table([GOOD, row]))
    assert list(table.rows["path"]) == ["good"]
    assert list(table.rejected["path"]) == [row["path"]]
    assert list(table.rejected["reason"]) == [reason]
    assert detail in table.rejected["detail"][0]
    assert reason in REASONS
    assert "labels,3," in table.problems.csv()


def test_a_row_with_too_many_cells_is_left_out_without_a_cell_of_it(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("note,path,lvef\nx,a,50\nDoe, Jane,b,50\nx,c,50\n")
    table = read(tmp_path / "labels.csv")
    assert list(table.rows["path"]) == ["a", "c"]
    assert table.rejected.to_numpy().tolist() == [
        ["", "table_row", "row 3 of the table: Expected at most 3 cells, as in the header. Received more."]
    ]


@pytest.mark.parametrize(
    ("row", "settings", "consequence", "unknown"),
    [
        ({"lvef": "Doe"}, {}, "unlabelled", ["label", "lvef"]),
        ({"lvef": "101"}, {}, "unlabelled", ["label", "lvef"]),
        ({"lvef": "0.35"}, {}, "unlabelled", ["label", "lvef"]),
        ({"lvef": "<45"}, {}, "unlabelled", ["label", "lvef"]),
        ({"lvef": "35-40"}, {"lvef_range": "refuse"}, "unlabelled", ["label", "lvef"]),
        ({"lvef": "Doe"}, {"label_column": "y"}, "ejection fraction unknown", ["lvef"]),
        ({"y": "Doe"}, {"label_column": "y"}, "unlabelled", ["label"]),
        ({"age": "Doe"}, {}, "age unknown", ["age"]),
        ({"age": "131"}, {}, "age unknown", ["age"]),
    ],
)
def test_a_cell_that_cannot_be_read_is_listed_and_not_quoted(
    write_table: Callable[[Rows], Path],
    caplog: pytest.LogCaptureFixture,
    row: dict[str, str],
    settings: dict[str, Any],
    consequence: str,
    unknown: list[str],
) -> None:
    table = read(write_table([GOOD, GOOD | {"path": "bad", "record_id": "bad", "age": "50"} | row, GOOD]), **settings)
    assert list(table.rows["path"]) == ["good", "bad"]
    (found,) = (kind for kind in table.problems.counts() if kind.consequence != "left out")
    assert (found.table, found.column, found.first_row) == ("labels", next(iter(row)), 3)
    assert found.consequence == consequence
    known = table.rows.iloc[1][["label", "lvef", "age"]].notna()
    assert list(known.index[~known]) == unknown
    assert f'column "{found.column}"' in caplog.text
    for text in (caplog.text, table.problems.csv(), str(table.summary)):
        assert "Doe" not in text


@pytest.mark.parametrize("word", ["F", "m", "0", "9", "female", "MALE", "weiblich", "Männlich", "女性", "other", "?"])
def test_words_of_sex_stay_as_they_are(write_table: Callable[[Rows], Path], word: str) -> None:
    assert list(read(write_table([{"path": "a", "sex": word}])).rows["sex"]) == [word]


@pytest.mark.parametrize("name", ["Jane Doe", "Li", "王", "王伟", "Ng"])
def test_a_name_in_the_column_of_sex_goes_no_further(write_table: Callable[[Rows], Path], name: str) -> None:
    table = read(write_table([GOOD | {"sex": name}, GOOD | {"path": "b", "record_id": "b"}]))
    assert list(table.rows["sex"]) == ["", "F"]
    assert [(kind.first_row, kind.consequence) for kind in table.problems.counts()] == [(2, "sex unknown")]
    assert name not in table.problems.csv()


def test_ages_over_the_cap(write_table: Callable[[Rows], Path]) -> None:
    labels = write_table([{"path": str(age), "age": age} for age in ("0", "89", "90", "90,5", "104", "90+")])
    assert list(read(labels).rows["age"]) == [0, 89, 90, 90, 90, 90]
    assert list(read(labels, age_cap=0).rows["age"]) == [0, 89, 90, 90.5, 104, 90]
    assert read(write_table([{"path": "a", "age": "55+"}])).rows["age"].isna().all()
    with pytest.raises(ConfigError, match="--age_cap"):
        Cohort(age_cap=-1)


def test_ages_from_birth_dates(write_table: Callable[[Rows], Path]) -> None:
    rows = [
        {"path": "a", "ecg_date": "2020-03-31 09:00", "born": "1950-03-31", "age": "1"},
        {"path": "b", "ecg_date": "2020-03-30 23:00", "born": "1950-03-31", "age": "1"},
        {"path": "c", "ecg_date": "2020-03-30", "born": "", "age": "33"},
        {"path": "d", "ecg_date": "2020-03-30", "born": "2020-03-31", "age": "44"},
        {"path": "e", "ecg_date": "", "born": "1950-03-31", "age": ""},
        {"path": "f", "ecg_date": "2020-03-31", "born": "19/3/50", "age": ""},
    ]
    table = read(write_table([row | {"patient_id": row["path"]} for row in rows]), birth_date_column="born")
    np.testing.assert_array_equal(table.rows["age"], [70, 69, 33, 44, np.nan, np.nan])
    assert sorted((kind.first_row, kind.column, kind.consequence) for kind in table.problems.counts()) == [
        (5, "born", "age unknown"),
        (7, "born", "age unknown"),
    ]


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        (
            [{"file": "a", "lvef": "50", "Patient_Nr": "1"}],
            {},
            'Expected a column "path" (--path_column). Received a first row of 3 cells, among them lvef, Patient_Nr.',
        ),
        ([{"path": "a"}], {"label_column": "y"}, 'Expected a column "y" (--label_column). Received a first row of 1 '),
        ([{"path": "a"}], {"lvef_column": "ef"}, 'Expected a column "ef" (--lvef_column). Received a first row of 1 '),
        ([{"path": "a"}], {"ecgs_per_patient": "first"}, 'Expected a column "ecg_date" (--ecg_date_column).'),
        ([{"path": "a"}], {"birth_date_column": "born"}, 'Expected a column "ecg_date" (--ecg_date_column).'),
        (
            [{"path": "a", "lvef": "0.5"}, {"path": "b", "lvef": "0.35"}, {"path": "c", "lvef": "55"}],
            {},
            'row 2, column "lvef" (--lvef_column): Expected a percentage over 1, up to 100: a number (35), a range '
            "(35-40) or a bound (<40). Received a number up to 1, as fractions are. So it is in 2 of 3 cells that are "
            "not empty: is it the right column?",
        ),
        (
            [{"path": "a", "y": "2"}],
            {"label_column": "y"},
            'row 2, column "y" (--label_column): Expected 0, 1, true, false or nothing. Received something else.',
        ),
        (
            [{"path": "", "lvef": "50"}, {"path": "", "lvef": "30"}],
            {},
            "Expected at least one usable row. Received none: all 2 are left out (table_row 2), the first because: row "
            "2 of the table: Expected a path. Received none.",
        ),
        (
            [{"path": "a", "lvef": "50"}, {"path": "a", "lvef": "30"}],
            {},
            "Received none: all 2 are left out (contradiction 2), the first because: row 2 of the table: Expected a "
            "path once.",
        ),
        ([{"path": "a", "institution": "../x"}], {}, "Received none: all 1 are left out (institution 1)"),
        (
            [{"path": "a", "institution": "PTB"}, {"path": "b", "institution": "ptb"}],
            {},
            "column \"institution\" (--institution_column), row 3: Expected one spelling, 'PTB'. Received 'ptb'.",
        ),
        (
            [{"path": "a", "institution": "North Hospital"}, {"path": "b", "institution": "north_hospital"}],
            {},
            "column \"institution\" (--institution_column), row 3: Expected one spelling, 'North Hospital'. Received "
            "'north_hospital'.",
        ),
        (
            [{"path": str(number), "institution": f"patient {number}"} for number in range(1001)],
            {},
            "Expected at most 1,000 institutions. Received 1,001.",
        ),
    ],
)
def test_each_bad_table_has_its_sentence(
    write_table: Callable[[Rows], Path], rows: Rows, settings: dict[str, Any], sentence: str
) -> None:
    labels = write_table(rows)
    with pytest.raises(DatasetError, match=re.escape(sentence)) as raised:
        read(labels, **settings)
    assert str(raised.value).startswith(str(labels))


@pytest.mark.parametrize("row", ["ecg/a,DOE-ROE,male,A17-HN", "Pathe,Sagel,Sexton,1931-12-05", "x,Institoris,Ege,F"])
def test_a_table_without_a_header_is_not_quoted(tmp_path: Path, row: str) -> None:
    (tmp_path / "labels.csv").write_text(f"{row}\n{row}\n")
    with pytest.raises(DatasetError, match=r"Received a first row of 4 cells\.$"):
        read(tmp_path / "labels.csv")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.csv: Expected a table: CSV.* Received: No such file"):
        read(tmp_path / "nowhere.csv")


def test_an_unknown_external_institution(write_table: Callable[[Rows], Path]) -> None:
    labels = write_table([{"path": "a", "institution": "x"}, {"path": "b", "institution": "y"}])
    with pytest.raises(ConfigError, match=r"Expected --external_institutions to be among x, y .* Received 'z'\."):
        read(labels, external_institutions=("y", "z"))


def test_excel_and_parquet_as_well(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"path": ["a", "b"], "patient_id": [4711, 4712], "lvef": [35.0, None], "age": [60, 61], "sex": ["F", "M"]}
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_parquet(tmp_path / "table.parquet")
    with pd.ExcelWriter(tmp_path / "table.xlsx") as writer:
        pd.DataFrame({"nothing": [1]}).to_excel(writer, sheet_name="notes", index=False)
        frame.to_excel(writer, sheet_name="ecgs", index=False)
    expected = read(tmp_path / "table.csv").rows
    pd.testing.assert_frame_equal(read(tmp_path / "table.parquet").rows, expected)
    pd.testing.assert_frame_equal(read(tmp_path / "table.xlsx", labels_sheet="ecgs").rows, expected)
