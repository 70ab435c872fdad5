"""What a training does when its disk is full, or its dataset is damaged under it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ecg_mae.errors import DivergedError, FileError, RunError
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


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "last.json")


def test_a_full_disk_is_named_and_what_was_saved_is_kept(small_disk: Path) -> None:
    model, optimizer = model_of(300_000)
    folder = small_disk / "checkpoints"
    checkpoints = Checkpoints(folder, model, optimizer)
    weights = np.asarray(model.weights[0])
    checkpoints.save({"done": 1})
    checkpoints.save({"done": 2})
    (small_disk / "something else").write_bytes(b"0" * 300_000)
    model.weights[0].assign(weights * 2)
    checkpoints.save({"done": 3})
    with pytest.raises(RunError, match=rf"{folder}/00003.npz: .*No space left.* same command goes on"):
        checkpoints.wait()
    assert names(folder) == ["00001.npz", "00002.npz"]
    again = Checkpoints(folder, model, optimizer)
    assert again.restore() == {"done": 2.0}
    assert np.array_equal(np.asarray(model.weights[0]), weights)
    (small_disk / "something else").unlink()
    again.save({"done": 3})
    again.wait()
    assert again.restore() == {"done": 3.0}


def test_a_file_that_finds_the_disk_full_stays_as_it_was(small_disk: Path) -> None:
    (small_disk / "something else").write_bytes(b"0" * 800_000)
    write_whole(small_disk / "metrics.csv", "before")
    with pytest.raises(FileError, match=r"metrics.csv: .*No space left"):
        write_whole(small_disk / "metrics.csv", "0" * 300_000)
    assert (small_disk / "metrics.csv").read_text() == "before"
    assert sorted(path.name for path in small_disk.iterdir()) == ["metrics.csv", "something else"]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [flip_a_bit, lambda content: content[:2000], lambda _: b""], ids=["flipped bit", "cut off", "empty"]
)
def test_a_damaged_checkpoint_is_named_and_the_next_is_newer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    model, optimizer = model_of(3_000)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    for done in (1, 2):
        checkpoints.save({"done": done})
    checkpoints.wait()
    path = tmp_path / "00002.npz"
    path.write_bytes(damage(path.read_bytes()))
    again = Checkpoints(tmp_path, model, optimizer)
    assert again.restore() == {"done": 1.0}
    assert f"{path}: Expected a whole checkpoint" in caplog.text
    for done in (3, 4):
        again.save({"done": done})
    again.wait()
    assert names(tmp_path) == ["00002.npz", "00003.npz", "00004.npz"]
    assert again.restore() == {"done": 4.0}


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, *model_of(3_000))
    checkpoints.save({"done": 1})
    checkpoints.wait()
    (tmp_path / ".00002.npz.123.partial").write_bytes(b"half")
    again = Checkpoints(tmp_path, *model_of(3_000))
    assert again.restore() == {"done": 1.0}
    again.save({"done": 2})
    again.wait()
    assert names(tmp_path) == ["00001.npz", "00002.npz"]


def test_without_saying_which_is_the_last_nothing_is_begun_anew(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, *model_of(3_000))
    checkpoints.save({"done": 1})
    checkpoints.wait()
    (tmp_path / "last.json").write_bytes(b"")
    with pytest.raises(FileError, match=r"last.json"):
        Checkpoints(tmp_path, *model_of(3_000)).restore()


def test_another_tensorflow_does_not_go_on(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, *model_of(3_000))
    checkpoints.save({"done": 1})
    checkpoints.wait()
    last = json.loads((tmp_path / "last.json").read_text())
    (tmp_path / "last.json").write_text(json.dumps({**last, "tensorflow": "2.15"}))
    with pytest.raises(RunError, match=r"Expected checkpoints of TensorFlow 2\.\d+, .* Received those of 2\.15"):
        Checkpoints(tmp_path, *model_of(3_000)).restore()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model, optimizer = model_of(3_000)
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    checkpoints.save({"done": 1})
    checkpoints.wait()
    kernel = model.layers[0].kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(DivergedError):
        checkpoints.save({"done": 2})
    assert checkpoints.restore() == {"done": 1.0}
    assert np.all(np.isfinite(np.asarray(kernel)))
