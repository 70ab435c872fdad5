"""Files of a dataset folder, which may lie on a disk or in cloud storage (`s3://`, `gs://`)."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.storage import is_remote, local_whole_file, storage_path

_CHUNK_BYTES = 8 * 1024 * 1024


def storage_errors(path: str) -> tuple[type[Exception], ...]:
    """What reaching `path` raises where it fails. TensorFlow is imported for an address only."""
    if not is_remote(path):
        return (OSError,)
    import tensorflow as tf

    return (OSError, tf.errors.OpError)


def reason(error: Exception) -> str:
    """What a disk or a cloud storage says of a failure, without the path."""
    return getattr(error, "strerror", None) or getattr(error, "message", None) or type(error).__name__


def sha256(path: str) -> str:
    """The file's SHA-256 in hexadecimal. Raises one of `storage_errors` where it cannot be read."""
    digest = hashlib.sha256()
    with storage_path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def size_bytes(path: str) -> int:
    """The file's size. Raises one of `storage_errors` where it is not there."""
    if not is_remote(path):
        return os.path.getsize(path)
    import tensorflow as tf

    return int(tf.io.gfile.stat(path).length)


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are not there. Raises `DatasetError` where that fails."""
    try:
        storage_path(path).mkdir(parents=True, exist_ok=True)
    except storage_errors(path) as error:
        raise DatasetError(f"{path}: Expected to make this folder. Received: {reason(error)}.") from error


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A file to write, there under its name once the block has ended without an error, and then whole.

    Raises:
        DatasetError: it cannot be written.
    """
    target = storage_path(path)
    try:
        if is_remote(path):
            with TemporaryDirectory() as folder:
                copy = Path(folder) / target.name
                with copy.open("wb") as file:
                    yield file
                with copy.open("rb") as content, target.open("wb") as uploaded:
                    uploaded.write(b"")  # else an empty file would not be made, and one that was there would stay
                    shutil.copyfileobj(content, uploaded, _CHUNK_BYTES)
            return
        with local_whole_file(target) as file:
            yield file
    except storage_errors(path) as error:
        raise DatasetError(f"{path}: Expected to write this file. Received: {reason(error)}.") from error


def write_text(path: str, text: str) -> None:
    """Writes a whole file or nothing. Raises `DatasetError` where that fails."""
    with whole_file(path) as file:
        file.write(text.encode())
