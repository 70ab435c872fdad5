"""Reading files of named weights."""

import argparse
import contextlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.models.state_dict import read_state_dict

WEIGHTS: dict[str, np.ndarray] = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.full((1, 1, 1), 0.5, np.float32),
}


def write_npz(path: Path, tensors: dict[str, np.ndarray]) -> None:
    np.savez(path, **tensors)


def write_pytorch(path: Path, tensors: dict[str, np.ndarray], **options: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"model": {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}}, path, **options)


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    writers = {".safetensors": lambda: save_file(tensors, path), ".npz": lambda: write_npz(path, tensors)}
    writers.get(path.suffix, lambda: write_pytorch(path, tensors))()
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.npz", "weights.pth", "weights.pt"])
def test_tensors_come_back_by_name(tmp_path: Path, name: str) -> None:
    state = read_state_dict(write(tmp_path / name, WEIGHTS))
    assert state.keys() == WEIGHTS.keys()
    for tensor, value in WEIGHTS.items():
        assert np.array_equal(state[tensor], value)
        assert state[tensor].dtype == np.float32


@settings(max_examples=30)
@given(
    tensors=st.dictionaries(
        # Not file, which is np.savez's own argument.
        st.from_regex(r"[a-z0-9_]{1,6}(\.[a-z0-9_]{1,6}){0,2}", fullmatch=True).filter(lambda name: name != "file"),
        arrays.arrays(
            st.sampled_from([np.float16, np.float32]),
            arrays.array_shapes(max_dims=4, max_side=4),
            elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=4,
    ),
    suffix=st.sampled_from([".safetensors", ".npz"]),
)
def test_any_names_and_shapes_come_back(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, np.ndarray], suffix: str
) -> None:
    state = read_state_dict(write(tmp_path_factory.mktemp("any") / f"weights{suffix}", tensors))
    assert state.keys() == tensors.keys()
    assert all(np.array_equal(state[name], value.astype(np.float32)) for name, value in tensors.items())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_are_read_as_float32(tmp_path: Path, dtype: Any) -> None:
    value = np.array([1.0, -0.1, 300.0]).astype(dtype)
    save_file({"a": value}, tmp_path / "weights.safetensors")
    read = read_state_dict(tmp_path / "weights.safetensors")["a"]
    assert read.dtype == np.float32
    assert np.array_equal(read, value.astype(np.float32))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, suffix: str, value: float) -> None:
    path = write(tmp_path / f"weights{suffix}", {"fine": np.zeros(2), "b.weight": np.array([0.0, value])})
    with pytest.raises(RunError, match=rf"weights{suffix}: Expected finite numbers in tensor 'b.weight'. Received 1"):
        read_state_dict(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_whole_numbers_are_no_weights(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"weights{suffix}", {"count": np.arange(3)})
    with pytest.raises(RunError, match=r"Expected floating-point numbers in tensor 'count'. Received int64"):
        read_state_dict(path)


def test_a_type_that_numpy_has_not_is_refused(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F8_E8M0","shape":[4],"data_offsets":[0,4]}}'
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(RunError, match=r"weights.safetensors: Expected floating-point numbers in tensor 'a'"):
        read_state_dict(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_file_that_ends_early_is_refused_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"weights{suffix}", WEIGHTS)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(RunError, match=rf"weights{suffix}: Expected"):
            read_state_dict(path)


@settings(max_examples=300)
@given(
    position=st.floats(0, 1, exclude_max=True),
    byte=st.integers(1, 255),
    suffix=st.sampled_from([".safetensors", ".npz"]),
)
def test_a_changed_byte_never_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, position: float, byte: int, suffix: str
) -> None:
    path = write(tmp_path_factory.getbasetemp() / f"changed{suffix}", WEIGHTS)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= byte
    path.write_bytes(content)
    with contextlib.suppress(RunError):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("written", "named", "expected"),
    [
        ("w.npz", "w.safetensors", "Expected a safetensors file, as its name says. Received a NumPy archive"),
        ("w.safetensors", "w.npz", "Expected a NumPy archive, as its name says. Received a safetensors file"),
        ("w.npz", "w.pth", "Expected a PyTorch checkpoint, as its name says. Received a NumPy archive"),
        ("w.npz", "w.bin", r"Expected a weights file named .safetensors, .npz, .pth, .pt. Received '.bin'"),
    ],
)
def test_a_name_that_the_content_belies_is_refused(tmp_path: Path, written: str, named: str, expected: str) -> None:
    path = write(tmp_path / written, WEIGHTS).rename(tmp_path / named)
    with pytest.raises(RunError, match=expected):
        read_state_dict(path)


def test_something_else_and_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    with pytest.raises(RunError, match=r"weights.npz: Expected a weights file. Received no such file"):
        read_state_dict(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(RunError, match=r"Received a file that begins with b'<html>"):
        read_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(RunError, match=r"Expected a NumPy archive, as its name says"):
        read_state_dict(path)


def test_a_pickle_in_an_npz_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write_npz(path, {"a": np.array([{"not": "a number"}], dtype=object)})
    with pytest.raises(RunError, match=r"weights.npz: Expected a whole tensor 'a' without pickled objects"):
        read_state_dict(path)


def test_without_pytorch_the_error_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", b"")
    monkeypatch.setitem(sys.modules, "torch", None)  # makes the import fail
    with pytest.raises(RunError, match=r"weights.pth: Expected PyTorch.*pip install.*safetensors.torch.save_file"):
        read_state_dict(path)


def test_pytorch_checkpoints_old_and_nested_and_with_settings(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(value).to(torch.bfloat16) for name, value in WEIGHTS.items()}
    torch.save(tensors, tmp_path / "flat.pth", _use_new_zipfile_serialization=False)
    torch.save(
        {"model": tensors, "epoch": 3, "args": argparse.Namespace(batch_size=64, device="cuda")},
        tmp_path / "trained.pth",
    )
    for name in ("flat.pth", "trained.pth"):
        state = read_state_dict(tmp_path / name)
        assert all(np.array_equal(state[tensor], value) for tensor, value in WEIGHTS.items())
        assert state.keys() == WEIGHTS.keys()


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was_run"),)


def test_a_pytorch_checkpoint_with_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "extra": Code()}, tmp_path / "weights.pth")
    with pytest.raises(RunError, match=r"weights.pth: Expected a whole PyTorch checkpoint of tensors"):
        read_state_dict(tmp_path / "weights.pth")
    assert not Path("was_run").exists()
    torch.save({"model": {"a": torch.arange(3)}}, tmp_path / "weights.pth")
    with pytest.raises(RunError, match=r"Expected floating-point numbers in tensor 'a'. Received Tensor"):
        read_state_dict(tmp_path / "weights.pth")
    torch.save([1, 2], tmp_path / "weights.pth")
    with pytest.raises(RunError, match=r"Expected a checkpoint that maps names to tensors. Received list"):
        read_state_dict(tmp_path / "weights.pth")
