"""NumPy's files: NPY, one array, and NPZ, a zip of them. Nothing is unpickled."""

import struct
import zipfile
from functools import partial
from typing import IO, Any

import numpy as np

from keras_ecg_mae.errors import RecordingError
from keras_ecg_mae.recordings.formats.arrays import StoredArray, read_arrays, values_in
from keras_ecg_mae.recordings.formats.known_names import says_something
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"


def is_npy(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names is one NumPy array."""
    return source.head.startswith(NPY_MAGIC)


def is_npz(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names is a zip whose first member is an array."""
    head = source.head[:1024]
    if not head.startswith(ZIP_MAGIC) or len(head) < 30:
        return False
    (name_length,) = struct.unpack_from("<H", head, 26)  # APPNOTE 4.3.7
    return head[30 : 30 + name_length].endswith(b".npy")


def read_npy(source: Source) -> Recording:
    """Reads an array of (leads, samples) or (samples, leads), or the record that `FILE#ID` names of three axes.

    Raises:
        RecordingError: see `read_arrays`.
    """
    with open(source.file, "rb") as content:
        _refuse_objects(source, _header(content)[1])
    array = np.load(source.file, mmap_mode="r", allow_pickle=False)  # a record of many is read alone
    stored = StoredArray("", array.shape, array.dtype, lambda row: np.array(array if row is None else array[row]))
    return read_arrays(source, "npy", [stored], [])


def read_npz(source: Source) -> Recording:
    """Reads the member of samples, or the record that `FILE#ID` names of one of three axes, or a member a lead.

    Members that are not needed are not read.

    Raises:
        RecordingError: see `read_arrays`.
    """
    arrays, named = [], []
    with zipfile.ZipFile(source.file) as archive, np.load(source.file, allow_pickle=False) as members:
        for member in archive.namelist():
            try:
                with archive.open(member) as content:
                    shape, dtype = _header(content)
            except Exception:  # damaged, or no array: what is not needed costs no ECG
                continue
            name = member.removesuffix(".npy")
            if says_something(name):
                # Lists of texts are often stored as Python objects. What they say, a sidecar or the settings may.
                named.append(("", name, [] if dtype.hasobject else values_in(members[name])))
            arrays.append(StoredArray(name, shape, dtype, partial(_member, members, name)))
        if not any(array.dtype.kind in "fiu" for array in arrays):
            for array in arrays:
                _refuse_objects(source, array.dtype)
        return read_arrays(source, "npz", arrays, named)


def _header(content: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    form: Any = np.lib.format  # which has no types
    version = form.read_magic(content)
    shape, _, dtype = (form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0)(content)
    return shape, dtype


def _refuse_objects(source: Source, dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise RecordingError(
            source.path, "unsafe", "Expected numbers. Received Python objects, which are not unpickled."
        )


def _member(members: np.lib.npyio.NpzFile, name: str, row: int | None) -> np.ndarray:
    array: np.ndarray = members[name]
    return array if row is None else array[row]
