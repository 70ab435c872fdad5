"""Local paths through the functions that also take addresses; addresses themselves are in test_cloud_storage.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_ecg_mae.errors import FileError
from keras_ecg_mae.files import files_under, local_copy, read_if_there, storage_path, write_whole

WITHOUT_TENSORFLOW = """
import sys
from keras_ecg_mae.runs.folder import mark_done, read_done
from keras_ecg_mae.files import storage_path
run = storage_path(sys.argv[1])
mark_done(run, {"loss": 1.5})
assert read_done(run) == {"loss": 1.5}
assert not {"tensorflow", "tensorflow_io", "etils"} & set(sys.modules)
"""


def test_a_local_path_needs_no_tensorflow(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, tmp_path], check=True)


def test_a_file_that_is_not_there_is_told_from_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_if_there(tmp_path / "empty") == b""
    assert read_if_there(tmp_path / "none") is None


def test_another_kind_of_address_is_refused() -> None:
    with pytest.raises(FileError, match=r"ftp://host/run: Expected .*s3:// or gs://"):
        storage_path("ftp://host/run")


def test_a_local_file_is_its_own_copy_and_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with local_copy(tmp_path / "file") as copy:
        assert copy == tmp_path / "file"
    assert copy.read_text() == "content"


def test_files_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    assert list(files_under(tmp_path)) == [tmp_path / "a" / "b" / "file"]
    assert list(files_under(tmp_path / "none")) == []


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        done.append((os.fstat(descriptor).st_size, os.listdir(tmp_path)))

    monkeypatch.setattr(os, "fsync", note)
    write_whole(f"{tmp_path}/manifest.json", "content")
    (size, before), (_, after) = done  # the file, then its folder
    assert size == len("content")
    assert before != ["manifest.json"]
    assert after == ["manifest.json"]
