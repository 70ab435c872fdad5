"""What a training does when its disk is full, or its dataset is damaged under it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import write_whole
from keras_ecg_mae.training.checkpoints import Checkpoints


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small disk is not allowed here: {error}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def model_of(bytes_: int) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(bytes_ // 4, use_bias=False)])
    optimizer = keras.optimizers.SGD()
    optimizer.build(model.trainable_variables)
    return model, optimizer


def test_a_full_disk_is_named_and_what_was_saved_is_kept(small_disk: Path) -> None:
    model, optimizer = model_of(300_000)
    checkpoints = Checkpoints(small_disk / "checkpoints", model, optimizer, {"done": 0})
    weights = np.asarray(model.weights[0])
    checkpoints.save(done=1)
    checkpoints.save(done=2)
    (small_disk / "something else").write_bytes(b"0" * 300_000)
    model.weights[0].assign(weights * 2)
    checkpoints.save(done=3)
    with pytest.raises(
        RunError, match=rf"{small_disk}/checkpoints: Expected to write a checkpoint. Received: .*[Nn]o sp"
    ):
        checkpoints.wait()
    assert {path.name.split(".")[0] for path in (small_disk / "checkpoints").glob("ckpt-*")} == {"ckpt-1", "ckpt-2"}
    again = Checkpoints(small_disk / "checkpoints", model, optimizer, {"done": 0})
    assert again.restore() == {"done": 2.0}
    assert np.array_equal(np.asarray(model.weights[0]), weights)
    (small_disk / "something else").unlink()
    again.save(done=3)
    again.wait()
    assert again.restore() == {"done": 3.0}


def test_a_file_that_finds_the_disk_full_stays_as_it_was(small_disk: Path) -> None:
    (small_disk / "something else").write_bytes(b"0" * 800_000)
    write_whole(small_disk / "metrics.csv", "before")
    with pytest.raises(RunError, match=r"metrics.csv: Expected to write this file. Received: No space left"):
        write_whole(small_disk / "metrics.csv", "0" * 300_000)
    assert (small_disk / "metrics.csv").read_text() == "before"
    assert sorted(path.name for path in small_disk.iterdir()) == ["metrics.csv", "something else"]


@pytest.mark.parametrize("content", [None, b"", b"not a list"], ids=["missing", "empty", "garbled"])
def test_checkpoints_are_found_without_their_list(tmp_path: Path, content: bytes | None) -> None:
    model, optimizer = model_of(3_000)
    checkpoints = Checkpoints(tmp_path, model, optimizer, {"done": 0})
    for done in (1, 2):
        checkpoints.save(done=done)
    checkpoints.wait()
    (tmp_path / "checkpoint").unlink()
    if content is not None:
        (tmp_path / "checkpoint").write_bytes(content)
    again = Checkpoints(tmp_path, model, optimizer, {"done": 0})
    assert again.restore() == {"done": 2.0}
    for done in (3, 4):
        again.save(done=done)
    again.wait()
    assert [path.name for path in sorted(tmp_path.glob("*.index"))] == ["ckpt-2.index", "ckpt-3.index", "ckpt-4.index"]


def test_a_list_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-7"\n')
    with pytest.raises(
        RunError, match=r"checkpoint: Expected the checkpoints it lists. Received none: bring them back"
    ):
        Checkpoints(tmp_path, *model_of(3_000), {"done": 0})


def test_a_flipped_bit_in_a_checkpoint_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, optimizer = model_of(3_000)
    checkpoints = Checkpoints(tmp_path, model, optimizer, {"done": 0})
    for done in (1, 2):
        checkpoints.save(done=done)
    checkpoints.wait()
    path = tmp_path / "ckpt-2.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert Checkpoints(tmp_path, model, optimizer, {"done": 0}).restore() == {"done": 1.0}
    assert f"{tmp_path}/ckpt-2: Expected a whole checkpoint" in caplog.text


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    model, optimizer = model_of(3_000)
    checkpoints = Checkpoints(tmp_path, model, optimizer, {"done": 0})
    checkpoints.save(done=1)
    checkpoints.wait()
    (tmp_path / "ckpt-2_temp").mkdir()
    (tmp_path / "ckpt-2_temp" / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "ckpt-2.index").write_bytes(b"half")
    assert Checkpoints(tmp_path, model, optimizer, {"done": 0}).restore() == {"done": 1.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint",
        "ckpt-1.data-00000-of-00001",
        "ckpt-1.index",
    ]
