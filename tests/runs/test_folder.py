"""The run folder: whole files, stages that refuse other settings, marks of what is done."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from keras_ecg_mae import __version__
from keras_ecg_mae.errors import FileError, RunError
from keras_ecg_mae.files import write_whole
from keras_ecg_mae.runs.fingerprint import check_fingerprint, open_stage
from keras_ecg_mae.runs.folder import mark_done, read_done, read_made, run_lock


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file.txt"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, 7)  # type: ignore[arg-type]  # the failure under test
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_run_has_one_process_at_a_time_and_a_killed_one_does_not_count(tmp_path: Path) -> None:
    holds = "import pathlib, sys, time; from keras_ecg_mae.runs.folder import run_lock\n"
    holds += "with run_lock(pathlib.Path(sys.argv[1])):\n print(flush=True); time.sleep(600)"
    other = subprocess.Popen(
        [sys.executable, "-c", holds, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(RunError, match="another process is training"), run_lock(tmp_path / "run"):
        pass
    other.kill()
    other.communicate()
    with run_lock(tmp_path / "run"):
        pass


def test_a_stage_goes_on_under_the_same_settings(tmp_path: Path) -> None:
    open_stage(tmp_path, {"epochs": 3, "learning_rates": (1e-4, 3e-5)})
    open_stage(tmp_path, {"epochs": 3, "learning_rates": (1e-4, 3e-5)})


def test_a_stage_names_each_changed_setting(tmp_path: Path) -> None:
    open_stage(tmp_path, {"epochs": 3, "seed": 0, "size": "tiny"})
    write_whole(tmp_path / "1e-4" / "metrics.csv", "")
    with pytest.raises(RunError, match=r"epochs: 3 then, 4 now; size: 'tiny' then, 'small' now"):
        open_stage(tmp_path, {"epochs": 4, "seed": 0, "size": "small"})


def test_a_stage_that_left_nothing_may_be_begun_with_others(tmp_path: Path) -> None:
    open_stage(tmp_path, {"encoder": "broken.npz"})
    (tmp_path / "1e-4").mkdir()
    open_stage(tmp_path, {"encoder": "whole.npz"})
    write_whole(tmp_path / "1e-4" / "metrics.csv", "")
    with pytest.raises(RunError, match=r"encoder: 'whole.npz' then, 'broken.npz' now"):
        open_stage(tmp_path, {"encoder": "broken.npz"})


def test_settings_are_compared_without_being_noted(tmp_path: Path) -> None:
    check_fingerprint(tmp_path / "stage", {"epochs": 3})
    assert not (tmp_path / "stage").exists()
    open_stage(tmp_path / "stage", {"epochs": 3})
    write_whole(tmp_path / "stage" / "metrics.csv", "")
    with pytest.raises(RunError, match=r"settings.json: Expected .* epochs: 3 then, 4 now"):
        check_fingerprint(tmp_path / "stage", {"epochs": 4})


def test_done_is_read_back_with_when_and_by_what_it_was_done(tmp_path: Path) -> None:
    assert (read_done(tmp_path), read_made(tmp_path)) == (None, None)
    before = datetime.now(timezone.utc).replace(microsecond=0)
    mark_done(tmp_path, {"validation_loss": 0.25})
    assert read_done(tmp_path) == {"validation_loss": 0.25}
    made = read_made(tmp_path)
    assert made is not None
    assert before <= datetime.fromisoformat(made.done) <= datetime.now(timezone.utc)
    assert made.version == __version__
    # A checkout, of which this is one of the tests, has a revision; an installed package has none.
    in_checkout = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, check=False, capture_output=True, text=True
    )
    if in_checkout.returncode == 0 and made.git_revision is not None:
        assert made.git_revision.removesuffix("-dirty") == in_checkout.stdout.strip()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00"])
def test_a_file_that_a_power_cut_has_emptied_is_named(tmp_path: Path, content: bytes) -> None:
    open_stage(tmp_path, {"epochs": 3})
    write_whole(tmp_path / "metrics.csv", "")
    (tmp_path / "done.json").write_bytes(content)
    for read in (read_done, read_made):
        with pytest.raises(FileError, match=r"done.json: Expected a JSON object"):
            read(tmp_path)
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(FileError, match=r"settings.json: Expected a JSON object"):
        check_fingerprint(tmp_path, {"epochs": 3})


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def noted(name: str) -> Callable[..., None]:
        call = getattr(os, name)

        def noting(*arguments: Any) -> None:
            order.append(name)
            call(*arguments)

        return noting

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name))
    write_whole(tmp_path / "done.json", "{}")
    assert order == ["fsync", "replace", "fsync"]  # the content, and then the folder's names
