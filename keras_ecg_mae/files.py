"""Files of runs, datasets and exports, on a disk or in cloud storage: `s3://` and `gs://`.

How an address is reached is in storage.py. What cloud storage does differs from a disk:

* An object is there when its upload has ended, whole. There is nothing to write aside, and nothing to be renamed: the
  rename of `s3://` copies and deletes every object whose name begins with the one that is given.
* There are no folders. Making one does nothing, and listing one without objects fails.
* `exists()` on `s3://` says no to every failure, such as a network that is down or a denied permission. What must
  not be taken for absent is asked for with `read_if_there`.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TypeAlias

from absl import logging

from keras_ecg_mae.errors import FileError, RunError
from keras_ecg_mae.storage import CloudStorage, cloud_storage, storage_errors

PARTIAL = ".partial"  # how the name of a file ends that a killed process may have left half written
_CHUNK_BYTES = 8 * 1024 * 1024

Location: TypeAlias = str | PathLike[str]


def is_remote(path: Location) -> bool:
    """Whether `path` is an address rather than a local file."""
    return "://" in str(path)


def storage_of(path: Location) -> CloudStorage:
    """The cloud storage an address is in. Raises `FileError` where it is neither `s3://` nor `gs://`."""
    scheme = str(path).partition("://")[0]
    if scheme not in ("s3", "gs"):
        raise FileError(f"{path}: Expected a path, or an address in s3:// or gs://. Received another kind of address.")
    return cloud_storage(scheme)


def storage_path(path: Location) -> Path:
    """A file or folder that may lie in cloud storage.

    Returns:
        A `pathlib.Path`; for an address, an `etils.epath.Path`, which has the same methods but for `rglob`, `resolve`
        and the arguments of `open`.

    Raises:
        FileError: an address of neither `s3://` nor `gs://`.
    """
    if not is_remote(path):
        return Path(path)
    storage_of(path)
    from etils import epath

    return epath.Path(path)


@contextmanager
def file_errors(path: Location, purpose: str) -> Iterator[None]:
    """Around what reads or writes a file, as `purpose` says. Raises `FileError` where it cannot, as on a full disk."""
    try:
        yield
    except storage_errors() as error:
        # TensorFlow's messages begin with the operation, HDF5's are of several lines.
        words = " ".join(str(error).split()).rpartition("}} ")[2]
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {words}"
        raise FileError(f"{path}: Expected to {purpose} this file. Received: {reason}.") from error


def read_if_there(path: Location) -> bytes | None:
    """A file's content; None only where its storage says that there is none. Raises `FileError` where it cannot say."""
    path = storage_path(path)
    with file_errors(path, "read"):
        if not is_remote(path):
            return path.read_bytes() if path.exists() else None
        try:
            return storage_of(path).read(str(path))
        except FileNotFoundError:
            return None


def read_json(path: Location) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file. Raises `FileError` where it is none."""
    content = read_if_there(path)
    if content is None:
        return None
    try:
        data = json.loads(content)
        if not isinstance(data, dict):
            raise ValueError(f"a {type(data).__name__}")
    except ValueError as error:  # neither JSON nor UTF-8
        raise FileError(
            f"{path}: Expected a JSON object. Received {len(content)} bytes that are none ({error}): remove the file "
            "and give the command again."
        ) from error
    return data


def sha256(path: Location) -> str:
    """The file's SHA-256 in hexadecimal. Raises `FileError` where it cannot be read."""
    digest = hashlib.sha256()
    with file_errors(path, "read"), storage_path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def size_bytes(path: Location) -> int:
    """The file's size. Raises `FileError` where it is not there."""
    with file_errors(path, "read"):
        return storage_of(path).size_bytes(str(path)) if is_remote(path) else os.path.getsize(path)


@contextmanager
def whole_file(path: Location) -> Iterator[BinaryIO]:
    """A file to write, there under its name once the block has ended without an error, and then whole.

    It is whole even where the power fails: a disk may otherwise keep a file's new name and not its content. Folders
    that are missing are made.

    Raises:
        FileError: it cannot be written.
    """
    target = storage_path(path)
    with file_errors(path, "write"):
        if is_remote(path):
            with uploaded_copy(path) as copy, copy.open("wb") as file:
                yield file
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
            with suppress(OSError):  # some file systems cannot, and keep a folder's names in their own time
                flush(target.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def uploaded_copy(path: Location) -> Iterator[Path]:
    """A local file to write, of the same name, that is uploaded once the block has ended without an error."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / storage_path(path).name
        yield copy
        with copy.open("rb") as content, storage_path(path).open("wb") as uploaded:
            uploaded.write(b"")  # else an empty file would not be made, and one that was there would stay
            shutil.copyfileobj(content, uploaded, _CHUNK_BYTES)


def write_whole(path: Location, content: bytes | str) -> None:
    """Writes a file so that it is there whole or not at all. Raises `FileError` where it cannot."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Location, content: Mapping[str, Any]) -> None:
    """Writes a JSON file whole. Raises `FileError` where it cannot."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[BinaryIO]:
    """A local file to read and append to, which this process alone has. A killed process leaves nothing locked.

    Raises:
        RunError: another process has it, on this machine or another that shares the disk: `refusal`.
        FileError: it cannot be opened.
    """
    with file_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(refusal) from error
        except OSError:  # a file system without locks
            logging.warning("%s: cannot be locked here; see that one command alone writes it.", path)
        yield file


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """A file as a local one, for what cannot read from cloud storage; the copy of a remote one is removed afterwards.

    Raises:
        FileError: a remote one is not there, or cannot be read.
    """
    if not is_remote(path):
        yield Path(path)
        return
    content = read_if_there(path)
    if content is None:
        raise FileError(f"{path}: Expected a file. Received none.")
    with TemporaryDirectory() as folder:
        copy = Path(folder) / storage_path(path).name
        copy.write_bytes(content)
        del content
        yield copy


@contextmanager
def tensorflow_folder(folder: Location) -> Iterator[str]:
    """A folder as TensorFlow can read it. Raises `FileError` where it cannot."""
    with file_errors(folder, "read"):
        if not is_remote(folder):
            yield str(folder)
            return
        with storage_of(folder).folder_for_tensorflow(str(folder)) as readable:
            yield readable


def files_under(folder: Location) -> Iterator[Path]:
    """Every file in a folder and those below it; none where there is no such folder."""
    if is_remote(folder):
        yield from map(storage_path, storage_of(folder).files_under(str(folder)))
    else:
        yield from (path for path in Path(folder).rglob("*") if path.is_file())


def flush(path: Path) -> None:
    """Has the disk write a file, or a folder's names, before anything else is done."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
