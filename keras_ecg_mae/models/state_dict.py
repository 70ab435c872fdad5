"""Files of named weights: safetensors, NumPy archives, PyTorch checkpoints."""

import argparse
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from keras_ecg_mae.errors import RunError

ZIP, LEGACY_PYTORCH = b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# What NumPy and zipfile raise on an archive that ends early, was changed, or holds pickles.
BROKEN_ARCHIVE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads every tensor of a weights file. No code that a file may carry is run.

    Args:
        path: `.safetensors`, `.npz`, or `.pth` and `.pt`, which need PyTorch 2.5 or newer to be installed. A checkpoint
            that keeps its weights under `model`, as the published masked autoencoders do, is unwrapped.

    Returns:
        Each tensor under its name in the file, float32 whatever floating-point type it was stored in.

    Raises:
        RunError: the file is missing, truncated or of another format than its name says; PyTorch is needed and not
            installed; an element is no tensor of floating-point numbers, or not finite. Names the file and tensor.
    """
    path = Path(path)
    readers = {
        ".safetensors": ("a safetensors file", _read_safetensors),
        ".npz": ("a NumPy archive", _read_npz),
        ".pth": ("a PyTorch checkpoint", _read_pytorch),
        ".pt": ("a PyTorch checkpoint", _read_pytorch),
    }
    if path.suffix not in readers:
        raise RunError(f"{path}: Expected a weights file named {', '.join(readers)}. Received {path.suffix!r}.")
    expected, read = readers[path.suffix]
    received = _format(path)
    if received != expected:
        raise RunError(f"{path}: Expected {expected}, as its name says. Received {received}.")
    return {name: _float32(path, name, value) for name, value in read(path)}


def _format(path: Path) -> str:
    """What a file is by its content."""
    try:
        with path.open("rb") as file:
            head = file.read(len(LEGACY_PYTORCH))
        members = []
        if head.startswith(ZIP):
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
    except FileNotFoundError:
        raise RunError(f"{path}: Expected a weights file. Received no such file.") from None
    except BROKEN_ARCHIVE as error:
        raise RunError(f"{path}: Expected a whole weights file. Received: {error}.") from error
    if head == LEGACY_PYTORCH or any(member.endswith("/data.pkl") for member in members):
        return "a PyTorch checkpoint"
    if members and all(member.endswith(".npy") for member in members):
        return "a NumPy archive"
    # A safetensors file begins with its header's length, 8 bytes, and the header, JSON.
    if head[8:9] == b"{":
        return "a safetensors file"
    return f"a file that begins with {head!r}"


def _float32(path: Path, name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or (value.dtype.kind != "f" and value.dtype != ml_dtypes.bfloat16):
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise RunError(f"{path}: Expected floating-point numbers in tensor {name!r}. Received {kind}.")
    with np.errstate(over="ignore"):  # a float64 too large for float32 is refused with the others
        value = value.astype(np.float32, copy=False)
    broken = value.size - np.count_nonzero(np.isfinite(value))
    if broken:
        raise RunError(f"{path}: Expected finite numbers in tensor {name!r}. Received {broken} that are not.")
    return value


def _read_safetensors(path: Path) -> Iterator[tuple[str, Any]]:
    name = None
    try:
        # safetensors asks NumPy for bfloat16 by name, which NumPy knows since ml_dtypes was imported.
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: Expected a whole safetensors file. Received: {error}.") from error
    except (TypeError, AttributeError) as error:  # a type that NumPy has not
        raise RunError(f"{path}: Expected floating-point numbers in tensor {name!r}. Received: {error}.") from error


def _read_npz(path: Path) -> Iterator[tuple[str, Any]]:
    name = None
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                yield name, archive[name]
    except BROKEN_ARCHIVE as error:
        where = "archive" if name is None else f"tensor {name!r}"
        raise RunError(f"{path}: Expected a whole {where} without pickled objects. Received: {error}.") from error


def _read_pytorch(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        import torch  # imported where it is used: nothing else needs PyTorch
    except ImportError:
        raise RunError(
            f"{path}: Expected PyTorch, to read its checkpoint. Received an environment without it. Install it "
            "(pip install 'torch>=2.5'), or turn the file into a .safetensors where it is installed: "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True)['model'], 'weights.safetensors')"
        ) from None
    try:
        # The published training script stores its settings beside the weights, as a plain Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a broken file leads it to
        raise RunError(
            f"{path}: Expected a whole PyTorch checkpoint of tensors and plain values. Received one that PyTorch does "
            f"not load with weights_only: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    state = content["model"] if isinstance(content, dict) and isinstance(content.get("model"), dict) else content
    if not isinstance(state, dict):
        raise RunError(f"{path}: Expected a checkpoint that maps names to tensors. Received {type(state).__name__}.")
    for name, value in state.items():
        is_number = isinstance(value, torch.Tensor) and value.is_floating_point()
        yield str(name), value.detach().to(torch.float32).numpy() if is_number else value
