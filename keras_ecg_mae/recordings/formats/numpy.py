"""NumPy's files: NPY, one array, and NPZ, a zip of them. Nothing is unpickled."""

import struct
from functools import partial

import numpy as np

from keras_ecg_mae.recordings.formats.arrays import StoredArray, read_arrays, values_in
from keras_ecg_mae.recordings.formats.sidecar import Named, says_something
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
OBJECTS = b"'descr': '|O'"
NO_OBJECTS = "Expected numbers. Received Python objects, which are not unpickled."


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
    """Reads an array of (leads, samples) or (samples, leads), or the record that `FILE#ID` names of three axes."""
    source.expect(OBJECTS not in source.head[:128], "unsafe", NO_OBJECTS)
    array = np.load(source.file, mmap_mode="r", allow_pickle=False)  # a record of many is read alone
    return read_arrays(source, "npy", [StoredArray("", array.shape, array.dtype, partial(row_of, array))], [])


def read_npz(source: Source) -> Recording:
    """Reads the member of samples, or the record that `FILE#ID` names of one of three axes, or a member a lead."""
    arrays: list[StoredArray] = []
    named: list[Named] = []
    with np.load(source.file, allow_pickle=False) as members:
        for name in members.files:
            try:
                array = np.asarray(members[name])
            except ValueError:  # Python objects
                array = np.array(None)
            if says_something(name):
                # Lists of texts are often stored as Python objects. What they say, a sidecar or the settings may.
                named.append(("", name, [] if array.dtype.hasobject else values_in(array)))
            arrays.append(StoredArray(name, array.shape, array.dtype, partial(row_of, array)))
    has_numbers = any(array.dtype.kind in "fiu" for array in arrays)
    source.expect(has_numbers or not any(array.dtype.hasobject for array in arrays), "unsafe", NO_OBJECTS)
    return read_arrays(source, "npz", arrays, named)


def row_of(array: np.ndarray, row: int | None) -> np.ndarray:
    """An array, or the one at a place of its first axis."""
    return np.array(array if row is None else array[row])
