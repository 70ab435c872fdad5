"""HDF5: one array for many records, as CODE-15 is published, a file a record, or an array a lead. h5py reads it."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from keras_ecg_mae.recordings.formats.arrays import StoredArray, read_arrays, values_in
from keras_ecg_mae.recordings.formats.sidecar import Named, says_something
from keras_ecg_mae.recordings.recording import Recording
from keras_ecg_mae.recordings.source import Source

if TYPE_CHECKING:
    import h5py  # loaded where a file needs it: a tenth of a second in each process

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# The format's specification, II.A: the superblock begins at byte 0, 512, 1024, 2048 and so on. Blocks of a user's own
# before it are small.
SUPERBLOCKS = (0, 512, 1024, 2048, 4096)
# What says something of samples is small.
MOST_VALUES = 1024


def is_hdf5(source: Source) -> bool:
    """Whether the file that `path` or `FILE#ID` names has HDF5's signature."""
    return any(source.head.startswith(SIGNATURE, start) for start in SUPERBLOCKS)


def read_hdf5(source: Source, key: str = "hdf5", *, by_matlab: bool = False) -> Recording:
    """Reads the dataset of samples, or the record that `FILE#ID` names; only that is read from disk.

    Links and datasets that lead to other files are not followed.

    Args:
        source: the file.
        key: as `Recording.format` has it.
        by_matlab: it is of MATLAB 7.3, which counts axes from the other end.

    Raises:
        RecordingError: see `read_arrays`.
    """
    import h5py

    arrays: list[StoredArray] = []
    named: list[Named] = []
    with h5py.File(source.file, "r", locking=False) as file:

        def visit(path: str, node: "h5py.Group | h5py.Dataset") -> None:
            named.extend((path, name, values_in(node.attrs[name])) for name in node.attrs if says_something(name))
            if not isinstance(node, h5py.Dataset) or node.shape is None or node.external or node.is_virtual:
                return
            try:
                dtype = node.dtype
            except TypeError:  # one that NumPy has not: no samples
                return
            owner, _, name = path.rpartition("/")
            if says_something(name) and node.size <= MOST_VALUES:
                named.append((owner, name, values_in(_matlab_values(node) if by_matlab else node[()])))
            shape = node.shape[::-1] if by_matlab else node.shape
            arrays.append(StoredArray(path, shape, dtype, partial(_read, source, node, by_matlab)))

        visit("", file)
        file.visititems(visit)  # along hard links alone, each object once
        return read_arrays(source, key, arrays, named)


def _read(source: Source, dataset: "h5py.Dataset", by_matlab: bool, row: int | None) -> np.ndarray:
    import h5py

    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    unknown = [number for number in filters if not h5py.h5z.filter_avail(number)]
    received = f"Expected compression that HDF5 itself knows. Received filters {unknown}."
    source.expect(not unknown, "unknown_format", received)
    place = () if row is None else (Ellipsis, row) if by_matlab else row
    array: np.ndarray = dataset[place]
    return array.T if by_matlab else array


def _matlab_values(dataset: "h5py.Dataset") -> object:
    """Texts of MATLAB 7.3 are numbers, a row a text, column by column; a cell array refers to its cells."""
    if dataset.attrs.get("MATLAB_class") == b"char":
        return ["".join(map(chr, row)).strip() for row in np.atleast_2d(dataset[()]).T]
    if dataset.dtype.kind == "O":
        return [value for cell in dataset[()].T.flat for value in values_in(_matlab_values(dataset.file[cell]))]
    return dataset[()].T
