"""Files of a dataset folder, which may lie on a disk or in cloud storage (`s3://`, `gs://`)."""

import hashlib

import tensorflow as tf

from keras_ecg_mae.errors import DatasetError

_CHUNK_BYTES = 8 * 1024 * 1024


def sha256(path: str) -> str:
    """The file's SHA-256 in hexadecimal. Raises `tf.errors.OpError` where it cannot be read."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def make_folder(path: str) -> None:
    """Makes a folder and those above it, where they are not there. Raises `DatasetError` where that fails."""
    try:
        tf.io.gfile.makedirs(path)
    except tf.errors.OpError as error:
        raise DatasetError(f"{path}: Expected to make this folder. Received: {error.message}.") from error


def write_text(path: str, text: str) -> None:
    """Writes a whole file or nothing: under another name first, then renamed. Raises `DatasetError`."""
    temporary = path + ".tmp"
    try:
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(text)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except tf.errors.OpError as error:
        raise DatasetError(f"{path}: Expected to write this file. Received: {error.message}.") from error
