"""MATLAB files: versions 4 and 5 by SciPy, 7.3, which is HDF5, by h5py.

WFDB's `.mat` files are version 4 with one variable, `val`, of digital units. Beside their header the WFDB reader reads
them; without it they are refused here until rate, gain and leads are given.
"""

import re
import struct
from functools import partial

import numpy as np

from keras_ecg_mae.recordings.formats.arrays import StoredArray, read_arrays, values_in
from keras_ecg_mae.recordings.formats.hdf5 import SIGNATURE, read_hdf5
from keras_ecg_mae.recordings.formats.numpy import row_of
from keras_ecg_mae.recordings.formats.sidecar import Named, says_something
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

HEADER_BYTES = 128
VERSION_73_START = 512
VARIABLE_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]{0,62}\0")


def is_matlab(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names is a MATLAB file."""
    head = source.head
    return is_version_4(head) or is_version_5(head) or is_version_73(head)


def read_matlab(source: Source) -> Recording:
    """Reads the variable of samples, or the record that `FILE#ID` names of one of three axes, records first.

    Variables of a structure of one element are called STRUCTURE/FIELD.

    Raises:
        RecordingError: see `read_arrays`.
    """
    import scipy.io  # half a second in each process that needs it
    import scipy.sparse

    if is_version_73(source.head):
        return read_hdf5(source, "matlab", by_matlab=True)
    arrays: list[StoredArray] = []
    named: list[Named] = []

    def visit(owner: str, variables: dict[str, object]) -> None:
        for name, value in variables.items():
            path = f"{owner}/{name}" if owner else name
            if isinstance(value, dict):
                visit(path, value)
            elif not name.startswith("__") and not scipy.sparse.issparse(value):
                array = np.asarray(value)
                if says_something(name):
                    named.append((owner, name, values_in(array)))
                arrays.append(StoredArray(path, array.shape, array.dtype, partial(row_of, array)))

    # Doubles that are stored as integers are doubles again; cells and structures are lists and dictionaries.
    visit("", scipy.io.loadmat(source.file, appendmat=False, mat_dtype=True, simplify_cells=True))
    return read_arrays(source, "matlab", arrays, named)


def is_version_73(head: bytes) -> bool:
    """HDF5 behind a block of 512 bytes that begins with MATLAB's name."""
    return head.startswith(b"MATLAB 7.3 MAT-file") and head.startswith(SIGNATURE, VERSION_73_START)


def is_version_5(head: bytes) -> bool:
    """A text, then the version and the mark of the byte order (MAT-File Format, 'Header')."""
    return len(head) >= HEADER_BYTES and head[124:128] in (b"\x00\x01IM", b"\x01\x00MI") and 0 not in head[:4]


def is_version_4(head: bytes) -> bool:
    """Five integers, type, rows, columns, whether complex, and the length of the name, then the name, ending in a zero.

    The type is a decimal number MOPT: M the byte order, O zero, P the numbers' precision, T 0 for a full matrix, 1 for
    a text, 2 for a sparse one (MAT-File Format, 'Level 4').
    """
    if len(head) < 22:
        return False
    for order, machine in (("<", 0), (">", 1)):
        kind, rows, columns, is_complex, name_length = struct.unpack_from(f"{order}5i", head)
        is_kind = kind in {1000 * machine + 10 * precision + matrix for precision in range(6) for matrix in range(3)}
        has_name = VARIABLE_NAME.fullmatch(head, 20, 20 + max(0, name_length))
        if is_kind and min(rows, columns) >= 0 and is_complex in (0, 1) and has_name:
            return True
    return False
