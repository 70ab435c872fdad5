"""Cloud storage, `s3://` and `gs://`, as each of the two sets of versions reaches it: this file is where they differ.

With TensorFlow 2.16, an address is a path to TensorFlow's own file systems: `s3://` is tensorflow-io's, `gs://` comes
with TensorFlow. No newer TensorFlow loads tensorflow-io. There fsspec reads and writes files, with s3fs and gcsfs, and
what TensorFlow alone reads or writes, which are TFRecords, SavedModels and TensorBoard's files, has a local copy.

TensorFlow or fsspec are imported only for an address, since they take seconds.
"""

import importlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from threading import Lock
from typing import Any

from keras_ecg_mae.errors import FileError

_PLUGIN = "tensorflow_io"
# What a library raises besides OSError, where it is imported.
_ERRORS = {"tensorflow": "errors.OpError", "botocore": "exceptions.BotoCoreError", "aiohttp": "ClientError"}


class CloudStorage(ABC):
    """What a set of versions does for an address. What it raises, `storage_errors` names."""

    @abstractmethod
    def read(self, address: str) -> bytes:
        """A file's content. Raises `FileNotFoundError` only where the storage says that there is none."""

    @abstractmethod
    def size_bytes(self, address: str) -> int:
        """A file's size."""

    @abstractmethod
    def files_under(self, address: str) -> list[str]:
        """The addresses of all files whose address begins with that of a folder; none where there are none."""

    @abstractmethod
    def for_tensorflow(self, path: Any) -> Any:
        """What TensorFlow opens to read a file: from an address to a path, both scalar string tensors."""

    @abstractmethod
    @contextmanager
    def folder_for_tensorflow(self, address: str) -> Iterator[str]:
        """What TensorFlow opens to read a folder."""

    @abstractmethod
    def written_by_tensorflow(self, address: str) -> tuple[str, Callable[[], None]]:
        """A folder for TensorFlow to write to, and what to call when something was written."""


class _TensorFlowStorage(CloudStorage):
    """TensorFlow's file systems, of TensorFlow 2.16."""

    def __init__(self) -> None:
        import tensorflow

        self._tf = tensorflow

    def read(self, address: str) -> bytes:
        try:
            # In parts of 50 MB at once, where `Path.read_bytes` reads 512 kB after 512 kB.
            content: bytes = self._tf.io.read_file(address).numpy()
        except self._tf.errors.NotFoundError as error:
            raise FileNotFoundError(address) from error
        return content

    def size_bytes(self, address: str) -> int:
        return int(self._tf.io.gfile.stat(address).length)

    def files_under(self, address: str) -> list[str]:
        walk = self._tf.io.gfile.walk(address)
        return [os.path.join(folder, name) for folder, _, names in walk for name in names]

    def for_tensorflow(self, path: Any) -> Any:
        return path

    @contextmanager
    def folder_for_tensorflow(self, address: str) -> Iterator[str]:
        yield address

    def written_by_tensorflow(self, address: str) -> tuple[str, Callable[[], None]]:
        return address, lambda: None


class _FsspecStorage(CloudStorage):
    """fsspec's file systems. A shard is copied when it is first read, and kept until the process ends."""

    def __init__(self, scheme: str) -> None:
        import fsspec

        os.environ["EPATH_USE_TF"] = "false"  # etils, in this process and those it starts
        # Other processes write here too: what was listed a moment ago may be wrong.
        settings: dict[str, Any] = {"use_listings_cache": False}
        if scheme == "s3" and "S3_ENDPOINT" in os.environ:  # tensorflow-io's variable
            settings |= {"endpoint_url": os.environ["S3_ENDPOINT"]}
        self._files = fsspec.filesystem(scheme, **fsspec.config.conf.setdefault(scheme, settings))
        self._copies = TemporaryDirectory(prefix="keras_ecg_mae-")
        self._copied: dict[str, str] = {}
        self._lock = Lock()

    def read(self, address: str) -> bytes:
        content: bytes = self._files.cat_file(address)
        return content

    def size_bytes(self, address: str) -> int:
        return int(self._files.size(address))

    def files_under(self, address: str) -> list[str]:
        try:
            return [self._files.unstrip_protocol(path) for path in self._files.find(address)]
        except FileNotFoundError:  # no such bucket
            return []

    def for_tensorflow(self, path: Any) -> Any:
        import numpy as np
        import tensorflow as tf

        def copy(address: Any) -> bytes:  # bytes in a graph, else an array
            return self._copy(tf.compat.as_str(np.asarray(address).item()))

        return tf.numpy_function(copy, [path], tf.string, stateful=False)

    def _copy(self, address: str) -> bytes:
        if address not in self._copied:
            handle, copy = mkstemp(dir=self._copies.name)
            os.close(handle)
            self._files.get_file(address, copy)
            with self._lock:
                if self._copied.setdefault(address, copy) != copy:
                    os.unlink(copy)
        return self._copied[address].encode()

    @contextmanager
    def folder_for_tensorflow(self, address: str) -> Iterator[str]:
        with TemporaryDirectory() as copy:
            self._files.get(f"{address}/", copy, recursive=True)
            yield copy

    def written_by_tensorflow(self, address: str) -> tuple[str, Callable[[], None]]:
        folder = TemporaryDirectory()

        def upload() -> None:
            for file in Path(folder.name).iterdir():
                self._files.put_file(str(file), f"{address}/{file.name}")

        return folder.name, upload


@cache
def cloud_storage(scheme: str) -> CloudStorage:
    """The storage of `s3` or `gs` addresses. Raises `FileError` where a package for it is not installed."""
    tensorflow_io = metadata.version("tensorflow").startswith("2.16.")
    try:
        if not tensorflow_io:
            return _FsspecStorage(scheme)
        if scheme == "s3":
            # It registers s3://. Its client of S3 aborts the process while the interpreter ends: see `aborts_at_exit`.
            importlib.import_module(_PLUGIN)
        return _TensorFlowStorage()
    except ImportError as error:
        extra = "tf216" if tensorflow_io else "tf221"
        raise FileError(
            f"{scheme}://: Expected the packages that reach it: pip install 'keras-ecg-mae[{extra}]'. "
            f"Received: {error}."
        ) from error


def storage_errors() -> tuple[type[Exception], ...]:
    """What a disk or a cloud storage raises, and TensorFlow for them."""
    imported = [library for library in _ERRORS if library in sys.modules]
    return (OSError, *(attrgetter(_ERRORS[library])(sys.modules[library]) for library in imported))


def aborts_at_exit() -> bool:
    """Whether the process has to end without the interpreter's clean-up."""
    return _PLUGIN in sys.modules
