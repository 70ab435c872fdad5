from pathlib import Path

import pytest

from keras_ecg_mae.recordings.source import split_record_path


def test_what_stands_before_the_last_sign_after_a_file(tmp_path: Path) -> None:
    file = tmp_path / "many.h5"
    file.touch()
    assert split_record_path(str(file)) == (str(file), None)
    assert split_record_path(f"{file}#1") == (str(file), "1")
    assert split_record_path(f"{file}#a#b") == (str(file), "a#b")
    assert split_record_path(f"{file}#") == (str(file), "")
    assert split_record_path(f"{file}#../x/y") == (str(file), "../x/y")


def test_a_file_of_exactly_that_name(tmp_path: Path) -> None:
    for name in ("many.h5", "many.h5#1", "#2"):
        (tmp_path / name).touch()
    assert split_record_path(f"{tmp_path}/many.h5#1") == (f"{tmp_path}/many.h5#1", None)
    assert split_record_path(f"{tmp_path}/many.h5#1#7") == (f"{tmp_path}/many.h5#1", "7")
    assert split_record_path(f"{tmp_path}/#2") == (f"{tmp_path}/#2", None)


@pytest.mark.parametrize("path", ["", "#", "#1", "none#1", "null\0byte#1", "x" * 5000 + "#1", "/#1"])
def test_no_file(path: str) -> None:
    assert split_record_path(path) == (path, None)
