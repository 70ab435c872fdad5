"""The process in which h5py and SciPy read: what a damaged file does to it, it does not do to the one that asked.

Of 50,000 damaged HDF5 files, HDF5 2.0 ended its process on one in 7,000 and ran on without end on as many; of 10,000
damaged MATLAB files, SciPy 1.17 ended its process on one in a hundred. So they read here, with little memory and time.
`isolated_file.py` starts this file as a program and asks.

A question is a line of JSON; its answer is a line of JSON and, where that says `bytes`, so many bytes. A worker
answers; after a file that the library failed on, another, forked anew, takes its place. The program ends when its
standard input does, or when a worker dies, and tells the signal by its exit status. It imports nothing of this package,
which would take a second and a hundred megabytes.
"""

import io
import json
import os
import re
import resource
import signal
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

LARGEST_SAMPLES = 1 << 25
LARGEST_BYTES = 1 << 28
WORKER_BYTES = 768 << 20
WORKER_CPU_S = 3  # and up to one more: the limit counts whole seconds
WORKER_S = 60
MOST_OBJECTS = 1000
# HDF5 2.0 takes 4 kB and 30 us for each chunk that a record touches.
MOST_CHUNKS = 1 << 16
DEEPEST_GROUP = 8
# Of values with a well-known name: more are none that could be meant, and their number is enough to say so.
MOST_VALUES = 257
LONGEST_TEXT = 256
ANSWER_BYTES = 1 << 20

TAINTED = 3  # exit status of a worker after a file that its library failed on
SIGNALLED = 128  # exit status of the program: this and the number of the signal, if any, that ended its worker
# By their registered numbers: deflate, shuffle, fletcher32 and szip of HDF5 itself, and lzf, which comes with h5py.
FILTERS = {1, 2, 3, 4, 32000}
MATLAB_NUMBERS = {
    "double": "f8",
    "single": "f4",
    "logical": "u1",
    **{f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class RefusedError(Exception):
    """A file that is not read: a reason code and a sentence."""


def plain_name(name: str) -> str:
    """A name without its case, underscores and spaces, as in `known_names.py`."""
    return re.sub(r"[\W_]+", "", name).lower()


class Hdf5File:
    """An HDF5 file, or a MATLAB 7.3 file, which is one with its axes reversed."""

    def __init__(self, file: str, matlab: bool):
        import h5py

        self.h5py, self.matlab = h5py, matlab
        self.content = h5py.File(file, "r", locking=False)

    def describe(self, known: set[str]) -> dict[str, Any]:
        """Names, shapes and types of all datasets, and the values of those and of attributes with a known name."""
        arrays, named = [], []
        for path, node in self._walk(self.content, "", 0, [0]):
            said = [attribute for attribute in node.attrs if plain_name(attribute) in known]
            named += [[path, attribute, plain_values(node.attrs[attribute])] for attribute in said]
            if not isinstance(node, self.h5py.Dataset) or node.shape is None:
                continue
            group, name = path.rsplit("/", 1)
            if plain_name(name) in known:
                named.append([group, name, plain_values(self._small(node))])
            try:
                dtype = "S1" if self.h5py.check_string_dtype(node.dtype) else node.dtype.str
            except TypeError:  # a type that NumPy has not: no samples
                continue
            arrays.append([path, list(reversed(node.shape) if self.matlab else node.shape), dtype])
        return {"arrays": arrays, "named": [item for item in named if item[2] is not None]}

    def read(self, name: str, row: int | None) -> Any:
        """All of a dataset, or the record at `row` of its first axis (the last one as MATLAB 7.3 stores it)."""
        import numpy as np

        dataset = self.content[name]
        self._check(dataset, row)
        if self.h5py.check_string_dtype(dataset.dtype):
            return texts([text if isinstance(text, bytes) else str(text).encode() for text in dataset[()].reshape(-1)])
        place = () if row is None else (row,) if not self.matlab else (Ellipsis, row)
        array = dataset[place]
        return np.ascontiguousarray(array.T if self.matlab else array)

    def close(self) -> None:
        self.content.close()

    def _walk(self, group: Any, prefix: str, depth: int, count: list[int]) -> Iterator[tuple[str, Any]]:
        """Groups and datasets with their paths. Only hard links are followed: no other can leave the file."""
        yield prefix, group
        for name in group.id:
            count[0] += 1
            if count[0] > MOST_OBJECTS or depth > DEEPEST_GROUP:
                raise RefusedError("unsafe", f"Expected at most {MOST_OBJECTS} groups and datasets. Received more.")
            kind = group.id.links.get_info(name).type
            if kind not in (self.h5py.h5l.TYPE_HARD, self.h5py.h5l.TYPE_SOFT):
                raise RefusedError("unsafe", "Expected all data in the file. Received a link to another file.")
            text = name.decode("utf-8", "replace")
            if kind != self.h5py.h5l.TYPE_HARD or (self.matlab and text.startswith("#")):
                continue
            node = group.get(name)
            if isinstance(node, self.h5py.Group):
                yield from self._walk(node, f"{prefix}/{text}", depth + 1, count)
            elif isinstance(node, self.h5py.Dataset):
                yield f"{prefix}/{text}", node

    def _check(self, dataset: Any, row: int | None = None) -> None:
        """Raises `RefusedError` where a dataset, or the record at `row`, lies elsewhere or takes too much to read."""
        properties = dataset.id.get_create_plist()
        if properties.get_layout() == self.h5py.h5d.VIRTUAL or properties.get_external_count():
            raise RefusedError("unsafe", "Expected all data in the file. Received a dataset that lies in another.")
        filters = {properties.get_filter(number)[0] for number in range(properties.get_nfilters())}
        if filters - FILTERS:
            raise RefusedError(
                "unknown_format",
                f"Expected compression by gzip, szip or lzf. Received filter {min(filters - FILTERS)}.",
            )
        if properties.get_layout() == self.h5py.h5d.CHUNKED:
            size = dataset.dtype.itemsize * product(dataset.chunks)
            if size > LARGEST_BYTES:
                raise RefusedError("too_long", f"Expected chunks of at most {LARGEST_BYTES} bytes. Received {size}.")
            touched = [-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
            if row is not None:
                del touched[-1 if self.matlab else 0]
            if product(touched) > MOST_CHUNKS:
                raise RefusedError(
                    "too_long", f"Expected a recording in at most {MOST_CHUNKS} chunks. Received {product(touched)}."
                )

    def _small(self, dataset: Any) -> Any:
        """The values of a dataset with a known name; of those with too many to be meant, as many zeros as say so."""
        import numpy as np

        self._check(dataset)
        if dataset.size > 64 * MOST_VALUES:
            return np.zeros(MOST_VALUES)
        values = dataset[()]
        if not self.matlab:
            return values
        if dataset.attrs.get("MATLAB_class") == b"char":  # a row a text, column by column
            rows = np.atleast_2d(values).T
            return np.array(["".join(map(chr, row)) for row in rows.astype(int)])
        if dataset.dtype.kind == "O":  # a cell array refers to its cells
            cells = [dataset.file[cell] for cell in values.T.reshape(-1)[:MOST_VALUES]]
            return np.array(["".join(map(chr, self._small_numbers(cell))) for cell in cells])
        return values.T

    def _small_numbers(self, dataset: Any) -> list[int]:
        self._check(dataset)
        if dataset.size > LONGEST_TEXT or dataset.dtype.kind != "u":
            return []
        return [int(number) for number in dataset[()].reshape(-1)]


class MatlabFile:
    """A MATLAB file of version 4 or 5, which SciPy reads."""

    def __init__(self, file: str):
        import scipy.io

        self.scipy_io, self.file = scipy.io, file
        with open(file, "rb") as content:
            self.version_5 = content.read(128)[126:] in (b"IM", b"MI")
        if self.version_5:
            check_decompressed_size(file)
        self.fields: dict[str, Any] = {}

    def describe(self, known: set[str]) -> dict[str, Any]:
        """Names, shapes and types of all arrays, those in structures too, and the values of known names."""
        arrays, named = [], []
        for name, shape, kind in self.scipy_io.whosmat(self.file)[:MOST_OBJECTS]:
            if kind == "struct" and product(shape) == 1:
                structure = self._load(name).reshape(-1)[0]
                for field in structure.dtype.names or ():
                    self.fields[f"{name}/{field}"] = structure[field]
            elif plain_name(name) in known:
                few = product(shape) <= 64 * MOST_VALUES
                named.append(["", name, plain_values(self._load(name)) if few else [0.0] * MOST_VALUES])
            if kind in MATLAB_NUMBERS:
                arrays.append([name, list(shape), MATLAB_NUMBERS[kind]])
            elif kind in ("char", "cell"):  # a row of characters is one text
                arrays.append([name, list(shape if kind == "cell" else shape[:1]), "S1"])
        for path, value in self.fields.items():
            structure, name = path.rsplit("/", 1)
            if not hasattr(value, "dtype"):
                continue
            if plain_name(name) in known:
                named.append([structure, name, plain_values(value)])
            if value.dtype.kind in "fiu":
                arrays.append([path, list(value.shape), value.dtype.str])
        return {"arrays": arrays, "named": [item for item in named if item[2] is not None]}

    def read(self, name: str, row: int | None) -> Any:
        """All of a variable, or the record at `row` of its first axis."""
        import numpy as np

        array = self.fields[name] if name in self.fields else self._load(name)
        if array.dtype.kind in "OUS":
            return texts([str(text).strip().encode() for text in plain_values(array, array.size) or []])
        if array.dtype.kind not in "fiu":
            raise RefusedError("malformed", "Expected real numbers. Received complex ones, or a sparse array.")
        return np.ascontiguousarray(array if row is None else array[row])

    def close(self) -> None:
        self.fields.clear()

    def _load(self, name: str) -> Any:
        """A variable; doubles that version 5 stores as integers are doubles again. Version 4 has no other integers."""
        import numpy as np

        kinds = {variable: (shape, kind) for variable, shape, kind in self.scipy_io.whosmat(self.file)}
        shape, kind = kinds[name]
        if product(shape) > LARGEST_SAMPLES:
            raise RefusedError(
                "too_long", f"Expected at most {LARGEST_SAMPLES} values a variable. Received {product(shape)}."
            )
        array = self.scipy_io.loadmat(self.file, variable_names=[name])[name]
        if not isinstance(array, np.ndarray):
            raise RefusedError("malformed", "Expected an array. Received something else.")
        if self.version_5 and kind in ("double", "single") and array.dtype.kind in "iu":
            return array.astype(MATLAB_NUMBERS[kind])
        return array


def check_decompressed_size(file: str) -> None:
    """Raises `RefusedError` where the variables of a MATLAB 5 file are more than `LARGEST_BYTES` when decompressed."""
    with open(file, "rb") as content:
        tag = struct.Struct("<II" if content.read(128).endswith(b"IM") else ">II")
        total = 0
        while len(read := content.read(tag.size)) == tag.size:
            kind, size = tag.unpack(read)
            if kind == 15:  # miCOMPRESSED
                for length in decompressed_lengths(content, size):
                    total += length
                    if total > LARGEST_BYTES:
                        raise RefusedError(
                            "unsafe", f"Expected at most {LARGEST_BYTES} bytes when decompressed. Received more."
                        )
            else:
                content.seek(size, os.SEEK_CUR)


def decompressed_lengths(content: BinaryIO, size: int) -> Iterator[int]:
    """The lengths of what the next `size` bytes decompress to, piece by piece; leaves `content` behind them."""
    decompressor, end = zlib.decompressobj(), content.tell() + size
    while content.tell() < end and not decompressor.eof:
        piece = content.read(min(1 << 16, end - content.tell()))
        if not piece:
            return
        while piece:
            yield len(decompressor.decompress(piece, 1 << 20))
            piece = decompressor.unconsumed_tail
    content.seek(end)


def product(shape: Iterable[int]) -> int:
    """The number of elements, as a Python integer: declared shapes overflow NumPy's."""
    count = 1
    for length in shape:
        count *= int(length)
    return count


def plain_values(values: Any, most: int = MOST_VALUES) -> list[float | str] | None:
    """Numbers and texts of an array or scalar in one row, None where it is of neither; `most` at the most."""
    import numpy as np

    row: list[float | str] = []
    for cell in np.asarray(values).reshape(-1)[:most]:
        # A cell of a MATLAB cell array is an array.
        value = cell.reshape(-1)[0] if isinstance(cell, np.ndarray) and cell.size == 1 else cell
        if isinstance(value, bytes):
            row.append(value.decode("utf-8", "replace")[:LONGEST_TEXT])
        elif isinstance(value, str):
            row.append(value[:LONGEST_TEXT])
        elif isinstance(value, np.number) and not isinstance(value, np.complexfloating):
            row.append(float(value))
        else:
            return None
    return row


def texts(values: list[bytes]) -> Any:
    """Texts as an array of bytes, as wide as the longest."""
    import numpy as np

    widest = max(map(len, values), default=0)
    if widest * len(values) > LARGEST_BYTES:
        raise RefusedError("too_long", f"Expected at most {LARGEST_BYTES} bytes of ids. Received more.")
    return np.array(values, dtype=f"S{max(1, widest)}")


def answer(question: dict[str, Any], file_format: str, opened: list[Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    """What to say to a question; `opened` holds the file that is open, if any."""
    if "open" in question:
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + WORKER_CPU_S)
        signal.alarm(WORKER_S)
        opened.clear()
        if file_format == "hdf5":
            opened.append(Hdf5File(question["open"], question["matlab"]))
        else:
            opened.append(MatlabFile(question["open"]))
        described = opened[0].describe(set(question["known"]))
        if len(json.dumps(described)) > ANSWER_BYTES:
            raise RefusedError("unsafe", "Expected names and shapes of at most 1 MiB. Received more.")
        return described, b""
    if "read" in question:
        array = opened[0].read(question["read"], question["row"])
        if array.size > max(LARGEST_SAMPLES, LARGEST_BYTES // array.dtype.itemsize):
            raise RefusedError("too_long", f"Expected at most {LARGEST_SAMPLES} samples. Received {array.size}.")
        return {"bytes": array.nbytes, "shape": array.shape, "dtype": array.dtype.str}, array.data.cast("B")
    signal.alarm(0)
    if opened:
        opened.pop().close()
    return {}, b""


def limit(kind: int, most: int) -> None:
    """Sets a limit of this process, which no process may set higher than it was once set for good."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def work(questions: io.FileIO, answers: BinaryIO, file_format: str) -> int:
    """Answers until there is no more question, or the library has failed. Returns the exit status."""
    with open("/proc/self/statm", encoding="ascii") as status:
        now = int(status.read().split()[0]) * resource.getpagesize()
    limit(resource.RLIMIT_AS, now + WORKER_BYTES)
    opened: list[Any] = []
    while line := questions.readline():
        failed = False
        samples: bytes | memoryview = b""
        try:
            said, samples = answer(json.loads(line), file_format, opened)
        except RefusedError as refusal:
            said = {"refused": refusal.args}
            signal.alarm(0)
            opened.clear()
        except MemoryError:
            failed, said = True, {"refused": ("unsafe", "Expected a file that takes little memory. Received another.")}
        except Exception:  # what the libraries raise depends on the bytes
            expected = {"hdf5": "an HDF5 file that h5py", "matlab": "a MATLAB file that SciPy"}[file_format]
            failed, said = True, {"refused": ("malformed", f"Expected {expected} reads. Received a damaged one.")}
        answers.write(json.dumps(said | {"failed": failed}).encode() + b"\n")
        answers.write(samples)
        answers.flush()
        if failed:
            return TAINTED
    return 0


def main(file_format: str) -> int:
    """Keeps a worker at work. Returns the exit status."""
    questions, answers = io.FileIO(0), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # no library prints into the answers
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if file_format == "hdf5":
        import h5py  # noqa: F401  # here and not in each worker
    else:
        import scipy.io  # noqa: F401
    while True:
        worker = os.fork()
        if worker == 0:
            status = 1
            try:
                status = work(questions, answers, file_format)
            finally:
                os._exit(status)
        _, waited = os.waitpid(worker, 0)
        if os.WIFSIGNALED(waited):
            return SIGNALLED + os.WTERMSIG(waited)
        if os.WEXITSTATUS(waited) == 0:
            return 0
        if os.WEXITSTATUS(waited) != TAINTED:
            return SIGNALLED


if __name__ == "__main__":
    # The folder of this file is no place to import from: its modules would hide others.
    sys.path[:] = [
        folder for folder in sys.path if os.path.abspath(folder) != os.path.dirname(os.path.abspath(__file__))
    ]
    raise SystemExit(main(sys.argv[1]))
