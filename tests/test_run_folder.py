"""The run folder: whole files, stages that refuse other settings, marks of what is done."""

from pathlib import Path

import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.run_folder import enter_stage, mark_done, read_done, write_whole


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file.txt"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, 7)  # type: ignore[arg-type]  # the failure under test
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_stage_goes_on_under_the_same_settings(tmp_path: Path) -> None:
    enter_stage(tmp_path, {"epochs": 3, "learning_rates": (1e-4, 3e-5)})
    enter_stage(tmp_path, {"epochs": 3, "learning_rates": (1e-4, 3e-5)})


def test_a_stage_names_each_changed_setting(tmp_path: Path) -> None:
    enter_stage(tmp_path, {"epochs": 3, "seed": 0, "size": "tiny"})
    write_whole(tmp_path / "1e-4" / "metrics.csv", "")
    with pytest.raises(RunError, match=r"epochs: 3 then, 4 now; size: 'tiny' then, 'small' now"):
        enter_stage(tmp_path, {"epochs": 4, "seed": 0, "size": "small"})


def test_a_stage_that_left_nothing_may_be_begun_with_others(tmp_path: Path) -> None:
    enter_stage(tmp_path, {"encoder": "broken.npz"})
    (tmp_path / "1e-4").mkdir()
    enter_stage(tmp_path, {"encoder": "whole.npz"})
    write_whole(tmp_path / "1e-4" / "metrics.csv", "")
    with pytest.raises(RunError, match=r"encoder: 'whole.npz' then, 'broken.npz' now"):
        enter_stage(tmp_path, {"encoder": "broken.npz"})


def test_done_is_read_back(tmp_path: Path) -> None:
    assert read_done(tmp_path) is None
    mark_done(tmp_path, {"validation_loss": 0.25})
    assert read_done(tmp_path) == {"validation_loss": 0.25}
