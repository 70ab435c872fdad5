"""The table of a cohort: what is understood, and the sentence for each thing that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.dataset.cohort import Table, read_table
from keras_ecg_mae.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from tests.dataset.conftest import Rows


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
    assert list(table.rows["record_id"]) == list(table.rows["patient_id"]) == ["a", "b"]
    assert set(table.rows["institution"]) == {"all"}
    assert table.rows["label"].isna().all()


def test_an_empty_patient_id_is_a_patient_of_one_recording(write_table: Callable[[Rows], Path]) -> None:
    rows = read(write_table([{"path": "a", "patient_id": "p"}, {"path": "b"}])).rows
    assert list(rows["patient_id"]) == ["p", "b"]


def test_label_column_takes_what_tables_hold(write_table: Callable[[Rows], Path]) -> None:
    cells = ["0", "1", "0.0", "1.0", "TRUE", "False", "", "NaN"]
    table = read(write_table([{"path": str(i), "y": cell} for i, cell in enumerate(cells)]), label_column="y")
    assert table.label_name == "y"
    np.testing.assert_array_equal(table.rows["label"], [0, 1, 0, 1, 1, 0, np.nan, np.nan])


def test_blank_lines_do_not_shift_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfpath,lvef\na,50\n\n,\nb,500\n")
    with pytest.raises(DatasetError, match="row 5"):
        read(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        (
            [{"file": "a", "lvef": "50"}],
            {},
            'Expected a column "path" (--path_column). Received columns: file, lvef.',
        ),
        ([{"path": "a"}], {"label_column": "y"}, 'Expected a column "y" (--label_column). Received columns: path.'),
        ([{"path": "a"}], {"lvef_column": "ef"}, 'Expected a column "ef" (--lvef_column). Received columns: path.'),
        (
            [{"path": "a", "lvef": "50"}, {"path": "b", "lvef": "50-55"}],
            {},
            "row 3, column \"lvef\" (--lvef_column): Expected a number from 0 to 100 or nothing. Received '50-55'.",
        ),
        ([{"path": "a", "lvef": "101"}, {"path": "b", "lvef": "inf"}], {}, "Received '101', and in 1 more rows."),
        (
            [{"path": "a", "y": "2"}],
            {"label_column": "y"},
            "row 2, column \"y\" (--label_column): Expected 0, 1, true, false or nothing. Received '2'.",
        ),
        (
            [{"path": "a", "record_id": "1"}, {"path": "b", "record_id": "2"}, {"path": "c", "record_id": "1"}],
            {},
            "Received the same in rows 2 and 4.",
        ),
        ([{"path": "a"}, {"path": "a"}], {}, "Received the same in rows 2 and 3."),
        ([{"path": "", "lvef": "50"}], {}, "row 2, column \"path\" (--path_column): Expected a path. Received ''."),
        ([{"path": "a", "institution": "../x"}], {}, "Expected a name that can be a folder's"),
        ([{"path": "a", "institution": ""}], {}, "Expected a name that can be a folder's"),
        (
            [{"path": "a", "institution": "PTB"}, {"path": "b", "institution": "ptb"}],
            {},
            "Expected one spelling, 'PTB'. Received 'ptb'.",
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


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "Expected a CSV table with a header."),
        (b"path\n", "Expected at least one recording. Received a table without rows."),
        (b"path\na,b\n", "Expected as many cells in a row as in the header."),
        (b"path,x\na,b\nc,d,e\n", "Expected a CSV table with a header."),
        (b"path\n\xff\xfe\n", "Expected text in UTF-8."),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=re.escape(sentence)):
        read(tmp_path / "labels.csv")


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.csv: Expected a CSV table \(--labels\)\. Received: No such file"):
        read(tmp_path / "nowhere.csv")


def test_an_unknown_external_institution(write_table: Callable[[Rows], Path]) -> None:
    labels = write_table([{"path": "a", "institution": "x"}, {"path": "b", "institution": "y"}])
    with pytest.raises(ConfigError, match=r"Expected --external_institutions to be among x, y .* Received 'z'\."):
        read(labels, external_institutions=("y", "z"))
