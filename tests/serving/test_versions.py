"""Versions are there whole or not at all, each under a number of its own."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_ecg_mae.errors import FileError, RunError
from keras_ecg_mae.files import write_whole
from keras_ecg_mae.serving import versions as module
from keras_ecg_mae.serving.versions import newest_version, partial_version, publish, versions


def export(folder: Path, content: str) -> Path:
    with partial_version(folder) as partial:
        (partial / "variables").mkdir()
        (partial / "variables" / "data").write_text(content * 1000)
        (partial / "saved_model.pb").write_text(content)
        return publish(partial, folder)


def test_numbers_count_up_from_the_highest(tmp_path: Path) -> None:
    folder = tmp_path / "saved_models" / "lvsd"
    assert export(folder, "a") == folder / "1"
    assert export(folder, "b") == folder / "2"
    for name in ("17", "4", "008", "²", "next", ".hidden"):
        (folder / name).mkdir()
    (folder / "99").write_text("a file")
    assert versions(folder) == [1, 2, 4, 8, 17]
    assert export(folder, "c") == folder / "18"
    assert newest_version(folder) == folder / "18"
    assert (folder / "1" / "saved_model.pb").read_text() == "a"
    assert (folder / "18").stat().st_mode & 0o777 == 0o755


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with partial_version(tmp_path) as partial:
            (partial / "saved_model.pb").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    assert newest_version(tmp_path) is None
    assert versions(tmp_path / "none") == []


def test_exports_at_once_get_a_whole_version_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda number: export(tmp_path, str(number)), range(40)))
    assert sorted(int(path.name) for path in taken) == list(range(1, 41))
    contents = {(path / "saved_model.pb").read_text() for path in taken}
    assert contents == {str(number) for number in range(40)}
    assert all((path / "variables" / "data").exists() for path in taken)
    assert {path.name for path in tmp_path.iterdir()} == {str(number) for number in range(1, 41)}


def test_what_a_killed_export_left_long_ago_is_removed(tmp_path: Path) -> None:
    abandoned, in_work = tmp_path / ".partial-abandoned", tmp_path / ".partial-in-work"
    for partial in (abandoned, in_work):
        partial.mkdir()
        (partial / "saved_model.pb").write_text("half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(abandoned, (two_days_ago, two_days_ago))
    export(tmp_path, "a")
    assert {path.name for path in tmp_path.iterdir()} == {"1", ".partial-in-work"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "lvsd").write_text("a file")
    with pytest.raises(FileError, match=r"lvsd: Expected to write this file. Received: File exists"):
        export(tmp_path / "lvsd", "a")


def test_an_upload_ends_with_what_serving_needs_to_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []

    def upload(path: Path, content: bytes) -> None:
        write_whole(path, content)
        uploaded.append(path.name)
        if len(uploaded) == 3:
            raise RunError("cut off")

    monkeypatch.setattr(module, "is_remote", lambda path: True)
    monkeypatch.setattr(module, "write_whole", upload)
    assert export(tmp_path, "a") == tmp_path / "1"
    assert uploaded == ["data", "saved_model.pb"]
    with pytest.raises(RunError, match="cut off"):
        export(tmp_path, "b")
    assert versions(tmp_path) == [1, 2]
    assert newest_version(tmp_path) == tmp_path / "1"
