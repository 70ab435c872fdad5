"""The predictions table comes back from disk as it went, or says which cell is wrong."""

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.evaluation.predictions import COLUMNS, read_predictions, write_predictions

# NUL is left out: Python 3.10's csv module refuses it.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
rows = st.lists(
    st.tuples(
        text,
        text,
        st.one_of(text, st.sampled_from(["NA", "007", "1e5", "nan", "a,b", 'say "x"', "two\r\nlines"])),
        st.sampled_from(["validation", "test"]),
        st.integers(0, 1),
        st.floats(0, 1, allow_subnormal=True),
    ),
    max_size=8,
)


@given(rows)
def test_round_trip_is_exact(content: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.csv"
        write_predictions(path, pd.DataFrame(content, columns=list(COLUMNS)))
        table = read_predictions(path)
    assert list(table.itertuples(index=False, name=None)) == content
    assert table["label"].dtype == "int64"
    assert table["probability"].dtype == "float64"


GOOD = "r1,p1,A,test,1,0.25\n"
HEADER = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Expected a CSV table in UTF-8"),
        ("record_id,label\n", "Received none called 'patient_key'"),
        (HEADER + GOOD + "r2,p1,A,test,2,0.5\n", "row 3, column label: Expected 0 or 1. Received '2'"),
        (HEADER + "r1,p1,A,test,1,nan\n", "row 2, column probability: Expected a number from 0 to 1. Received 'nan'"),
        (HEADER + "r1,p1,A,test,1,1.5\n", "row 2, column probability: .* Received '1.5'"),
        (HEADER + "r1,p1,A,test,1,much\n", "row 2, column probability: .* Received 'much'"),
        (HEADER + "r1,p1,A,holdout,1,0.5\n", "row 2, column split: Expected one of .* Received 'holdout'"),
        (HEADER + GOOD + "r2,p1,A\n", "row 3, column split: .* Received ''"),
        (HEADER + 'r1,"p1', "EOF"),
    ],
)
def test_a_wrong_table_names_file_row_and_column(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(str(path))


def test_other_columns_and_another_order_are_read(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("note,probability,label,split,institution,patient_key,record_id\nx,0.25,1,test,A,p1,r1\n")
    assert list(read_predictions(path).iloc[0]) == ["r1", "p1", "A", "test", 1, 0.25]


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Received no such file"):
        read_predictions(tmp_path / "absent.csv")
