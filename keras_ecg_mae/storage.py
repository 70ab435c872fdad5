"""Files of runs, datasets and exports, on a disk or in cloud storage: `s3://` and `gs://`.

An address is reached through TensorFlow's file systems, because checkpoints, TensorBoard's files and SavedModels are
written through them: `s3://` is tensorflow-io's, `gs://` is TensorFlow's own. TensorFlow itself is imported only for an
address. What they do differs from a disk:

* An object is there when its upload has ended, whole. There is nothing to write aside, and nothing to be renamed: the
  rename of `s3://` copies and deletes every object whose name begins with the one that is given.
* There are no folders. Making one does nothing, and listing one without objects fails.
* `exists()` on `s3://` says no to every failure, such as a network that is down or a denied permission. What must
  not be taken for absent is asked for with `read_if_there`.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from keras_ecg_mae.errors import RunError


def is_remote(path: str | PathLike[str]) -> bool:
    """Whether `path` is an address rather than a local file."""
    return "://" in str(path)


def open_storage(path: str | PathLike[str]) -> None:
    """Makes TensorFlow able to reach `path`.

    Importing tensorflow-io registers `s3://`. It is imported only then: it takes seconds, works with one release of
    TensorFlow, and S3's client aborts the process while the interpreter ends.
    """
    if str(path).startswith("s3://"):
        importlib.import_module("tensorflow_io")


def storage_path(path: str) -> Path:
    """A file or folder that may lie in cloud storage.

    Returns:
        A `pathlib.Path`; for an address, an `etils.epath.Path`, which has the same methods but for `rglob`, `resolve`
        and the arguments of `open`.

    Raises:
        RunError: an address of neither `s3://` nor `gs://`.
    """
    if not is_remote(path):
        return Path(path)
    if not path.startswith(("s3://", "gs://")):
        raise RunError(f"{path}: Expected a path, or an address in s3:// or gs://. Received another kind of address.")
    open_storage(path)
    from etils import epath

    return epath.Path(path)


def read_if_there(path: Path) -> bytes | None:
    """A file's content; None only where its storage says that there is none.

    Raises:
        RunError: cloud storage could not be asked.
    """
    if not is_remote(path):
        return path.read_bytes() if path.exists() else None
    import tensorflow as tf

    try:
        # In parts of 50 MB at once, where `Path.read_bytes` reads 512 kB after 512 kB.
        return tf.io.read_file(str(path)).numpy()
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError as error:
        raise RunError(f"{path}: Expected to read this file. Received: {_reason(error)}") from error


def write_remote(path: Path, content: bytes) -> None:
    """Writes an object whole. Raises `RunError` where that fails, as in a bucket that does not exist."""
    import tensorflow as tf

    try:
        path.write_bytes(content)
    except (tf.errors.OpError, OSError) as error:
        raise RunError(f"{path}: Expected to write this file. Received: {_reason(error)}") from error


PARTIAL = ".partial"  # how the name of a file ends that a killed process may have left half written


@contextmanager
def local_whole_file(path: Path) -> Iterator[BinaryIO]:
    """A local file to write, there under its name once the block has ended without an error, and then whole.

    It is whole even where the power fails: a disk may otherwise keep a file's new name and not its content.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        with suppress(OSError):  # some file systems cannot, and keep a folder's names in their own time
            flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """What a storage says, without the operation that TensorFlow puts before it."""
    return f"{type(error).__name__}: {str(error).splitlines()[0].rpartition('}} ')[2]}"


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """A file as a local one, for what cannot read from cloud storage; the copy of a remote one is removed afterwards.

    Raises:
        RunError: a remote one is not there, or cannot be read.
    """
    if not is_remote(path):
        yield path
        return
    content = read_if_there(path)
    if content is None:
        raise RunError(f"{path}: Expected a file. Received none.")
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(content)
        del content
        yield copy


def files_under(folder: Path) -> Iterator[Path]:
    """Every file in a folder and those below it; none where there is no such folder."""
    if is_remote(folder):
        from etils import epath

        for parent, _, names in epath.Path(folder).walk():  # pathlib has it from Python 3.12 on
            yield from (parent / name for name in names)
    else:
        yield from (path for path in folder.rglob("*") if path.is_file())


def flush(path: Path) -> None:
    """Has the disk write a file, or a folder's names, before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
