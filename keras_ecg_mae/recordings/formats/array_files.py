"""Files of several arrays, opened by h5py and SciPy: what arrays they hold, and their values under well-known names.

A damaged file can end the process that these libraries run in: `recordings.isolation` is the boundary for that. What is
seen to here is that nothing outside the file is read.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any

import numpy as np

from keras_ecg_mae.recordings.formats.array_signal import StoredArray
from keras_ecg_mae.recordings.formats.known_names import SAYS, plain_name
from keras_ecg_mae.recordings.formats.sidecar import Named
from keras_ecg_mae.recordings.source import Source

Opened = tuple[tuple[StoredArray, ...], tuple[Named, ...]]
# Of values with a well-known name: more are none that could be meant, and their number is enough to say so.
MOST_VALUES = 257
MATLAB_NUMBERS = {
    "double": "f8",
    "single": "f4",
    "logical": "u1",
    **{f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@contextmanager
def open_hdf5(source: Source, *, reversed_axes: bool = False) -> Iterator[Opened]:
    """An HDF5 file's arrays, and the values that it gives under well-known names.

    Args:
        source: the file.
        reversed_axes: it was written by MATLAB 7.3, which counts axes from the other end.

    Raises:
        RecordingError: `unsafe` where data lie outside the file.
    """
    import h5py  # takes half a second to load, which other formats need not wait for

    with h5py.File(source.file, "r", locking=False) as content:
        arrays, named = [], []
        for path, node in _walk(source, content, "", reversed_axes):
            named += [(path, name, _plain(node.attrs[name])) for name in node.attrs if plain_name(name) in SAYS]
            if not isinstance(node, h5py.Dataset) or node.shape is None:
                continue
            group, name = path.rsplit("/", 1)
            if plain_name(name) in SAYS:
                named.append((group, name, _plain(_small(source, node, reversed_axes))))
            try:
                dtype = np.dtype("S1") if h5py.check_string_dtype(node.dtype) else np.dtype(node.dtype.str)
            except TypeError:  # a type that NumPy has not: no samples
                continue
            shape = tuple(reversed(node.shape)) if reversed_axes else node.shape
            arrays.append(StoredArray(path, shape, dtype, partial(_read_hdf5, source, node, reversed_axes)))
        yield tuple(arrays), tuple(item for item in named if item[2] is not None)


def _walk(source: Source, group: Any, prefix: str, matlab: bool) -> Iterator[tuple[str, Any]]:
    """Groups and datasets with their paths. Only hard links are followed: no other can leave the file."""
    import h5py

    yield prefix, group
    for name in group.id:
        kind, text = group.id.links.get_info(name).type, name.decode("utf-8", "replace")
        if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
            raise source.refusal("unsafe", "All data must lie in the file: it has a link to another one.")
        if kind == h5py.h5l.TYPE_HARD and not (matlab and text.startswith("#")):
            node = group.get(name)
            if isinstance(node, h5py.Group):
                yield from _walk(source, node, f"{prefix}/{text}", matlab)
            elif isinstance(node, h5py.Dataset):
                yield f"{prefix}/{text}", node


def _values(source: Source, dataset: Any, place: Any = ()) -> Any:
    """A dataset's values, where they lie in the file."""
    import h5py

    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise source.refusal("unsafe", "All data must lie in the file: it has a dataset that lies in another one.")
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    lacking = [code for code in filters if not h5py.h5z.filter_avail(code)]
    if lacking:
        raise source.refusal(
            "unknown_format", f"The samples are compressed by HDF5's filter {lacking[0]}: store them with gzip or lzf."
        )
    return dataset[place]


def _read_hdf5(source: Source, dataset: Any, matlab: bool, row: int | None) -> np.ndarray:
    """All of a dataset, or the record at `row` of its first axis (the last one as MATLAB 7.3 stores it)."""
    import h5py

    if h5py.check_string_dtype(dataset.dtype):
        return _texts(
            text if isinstance(text, bytes) else str(text).encode() for text in _values(source, dataset).reshape(-1)
        )
    array = _values(source, dataset, () if row is None else (row,) if not matlab else (Ellipsis, row))
    return np.ascontiguousarray(array.T if matlab else array)


def _small(source: Source, dataset: Any, matlab: bool) -> Any:
    """The values of a dataset with a known name; of those with too many to be meant, as many zeros as say so."""
    if dataset.size > 64 * MOST_VALUES:
        return np.zeros(MOST_VALUES)
    values = _values(source, dataset)
    if not matlab:
        return values
    if dataset.attrs.get("MATLAB_class") == b"char":  # a row a text, column by column
        return np.array(["".join(map(chr, row)) for row in np.atleast_2d(values).T.astype(int)])
    if dataset.dtype.kind == "O":  # a cell array refers to its cells
        cells = [dataset.file[cell] for cell in values.T.reshape(-1)[:MOST_VALUES]]
        return np.array(
            ["".join(map(chr, _values(source, cell).reshape(-1))) if cell.dtype.kind == "u" else "" for cell in cells]
        )
    return values.T


@contextmanager
def open_matlab(source: Source) -> Iterator[Opened]:
    """The arrays of a MATLAB file of version 4 or 5, those in structures too, and the values of known names."""
    import scipy.io  # takes a second to load, which other formats need not wait for

    arrays: list[StoredArray] = []
    named: list[Named] = []
    version_5 = source.head[126:128] in (b"IM", b"MI")
    for name, shape, kind in scipy.io.whosmat(source.file):
        load = partial(_load_matlab, source, name, kind if version_5 else "")
        if kind == "struct" and prod(shape) == 1:
            structure = load().reshape(-1)[0]
            for field in structure.dtype.names or ():
                value = structure[field]
                if plain_name(field) in SAYS:
                    named.append((name, field, _plain(value)))
                if value.dtype.kind in "fiu":
                    arrays.append(StoredArray(f"{name}/{field}", value.shape, value.dtype, partial(_record, value)))
        elif plain_name(name) in SAYS:
            few = prod(shape) <= 64 * MOST_VALUES
            named.append(("", name, _plain(load()) if few else [0.0] * MOST_VALUES))
        if kind in MATLAB_NUMBERS:
            arrays.append(StoredArray(name, shape, np.dtype(MATLAB_NUMBERS[kind]), partial(_read_matlab, load)))
        elif kind in ("char", "cell"):  # a row of characters is one text
            arrays.append(
                StoredArray(name, shape if kind == "cell" else shape[:1], np.dtype("S1"), partial(_read_matlab, load))
            )
    yield tuple(arrays), tuple(item for item in named if item[2] is not None)


def _load_matlab(source: Source, name: str, kind: str) -> np.ndarray:
    """A variable; doubles that version 5 stores as integers are doubles again. Version 4 has no other integers."""
    import scipy.io

    array: Any = scipy.io.loadmat(source.file, variable_names=[name])[name]
    if not isinstance(array, np.ndarray):
        raise source.refusal("malformed", "The variable of samples must be an array of real numbers.")
    return array.astype(MATLAB_NUMBERS[kind]) if kind in ("double", "single") and array.dtype.kind in "iu" else array


def _read_matlab(load: Any, row: int | None) -> np.ndarray:
    array = load()
    if array.dtype.kind in "OUS":
        return _texts(str(text).strip().encode() for text in _plain(array, array.size) or ())
    return _record(array, row)


def _record(array: np.ndarray, row: int | None) -> np.ndarray:
    return np.ascontiguousarray(array if row is None else array[row])


def _plain(values: Any, most: int = MOST_VALUES) -> list[float | str] | None:
    """Numbers and texts of an array or scalar in one row, None where it is of neither; `most` at the most."""
    row: list[float | str] = []
    for cell in np.asarray(values).reshape(-1)[:most]:
        # A cell of a MATLAB cell array is an array.
        value = cell.reshape(-1)[0] if isinstance(cell, np.ndarray) and cell.size == 1 else cell
        if isinstance(value, bytes):
            row.append(value.decode("utf-8", "replace"))
        elif isinstance(value, str):
            row.append(value)
        elif isinstance(value, np.number) and not isinstance(value, np.complexfloating):
            row.append(float(value))
        else:
            return None
    return row


def _texts(values: Iterable[bytes]) -> np.ndarray:
    """Texts as an array of bytes, as wide as the longest."""
    listed = list(values)
    return np.array(listed, dtype=f"S{max(1, *map(len, listed), 1)}")
