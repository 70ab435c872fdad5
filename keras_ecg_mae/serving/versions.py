"""The versions of a model as TF Serving looks for them: `NAME/1`, `NAME/2`, each there whole or not at all."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import logging

from keras_ecg_mae.run_folder import write_whole, writing
from keras_ecg_mae.storage import files_under, flush, is_remote, read_if_there

SAVED_MODEL = "saved_model.pb"
# A dot in front: TF Serving looks at folders whose name is a number.
PARTIAL = ".partial-"


def versions(folder: Path) -> list[int]:
    """The versions of a model that are there, or begun; none where there is no such folder."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def newest_version(folder: Path) -> Path | None:
    """The whole version with the highest number. An upload that is under way, or was cut off, lacks its last file."""
    whole = whole_versions(folder)
    return folder / str(whole[-1]) if whole else None


def whole_versions(folder: Path) -> list[int]:
    """The versions that are there with their last file."""
    return [number for number in versions(folder) if (folder / str(number) / SAVED_MODEL).exists()]


@contextmanager
def partial_version(folder: Path) -> Iterator[Path]:
    """A folder to write the next version of `folder` in; what is left of it afterwards is removed.

    What killed exports left behind is removed as well: a lock on its folder tells a process that is still writing.
    """
    remote = is_remote(folder)
    with writing(folder):
        if not remote:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder)
        partial, lock = _locked_folder(None if remote else folder)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


def publish(partial: Path, folder: Path) -> Path:
    """Gives a version that was written and checked the next number, under which TF Serving finds it.

    In cloud storage a folder cannot be renamed: there the files are uploaded, the weights first and `saved_model.pb`
    last. TF Serving sees the version with its first file, cannot load it without the last one, keeps the version
    before, and tries again five times, a minute apart. Two exports at a time must not go to one folder there: they
    could take the same number.

    Raises:
        RunError: the files cannot be written.
    """
    if is_remote(folder):
        return _upload_as_next_version(partial, folder)
    with writing(folder):
        for path in (*partial.rglob("*"), partial):
            # mkdtemp's 0700, or a strict umask, would lock the server's user out.
            path.chmod(0o755 if path.is_dir() else 0o644)
            # Else a machine that fails soon could come up with the new name on empty files.
            flush(path)
        version = _rename_to_next_version(partial, folder)
        flush(folder)
    return version


def _locked_folder(parent: Path | None) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock until it is closed, or until the process ends."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=parent))
        try:
            lock = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:  # another export took it for abandoned before it was locked
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, where nobody removes what has none
            return partial, lock
        if partial.is_dir():
            return partial, lock
        os.close(lock)  # as above


def _remove_abandoned(folder: Path) -> None:
    for partial in folder.glob(f"{PARTIAL}*"):
        try:
            lock = os.open(partial, os.O_RDONLY)
        except OSError:  # its export has ended
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # it is being written, or here are no locks
        else:
            logging.info("Removing %s, which an export left that was killed.", partial)
            shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(lock)


def _rename_to_next_version(partial: Path, folder: Path) -> Path:
    while True:
        version = folder / str(max(versions(folder), default=0) + 1)
        try:
            os.rename(partial, version)
        except OSError:  # another export took this number meanwhile; a rename never replaces a full folder
            if not version.exists():
                raise
        else:
            return version


def _upload_as_next_version(partial: Path, folder: Path) -> Path:
    number = max(versions(folder), default=0) + 1
    while read_if_there(folder / str(number) / SAVED_MODEL) is not None:  # a listing that failed is one of nothing
        number += 1
    version = folder / str(number)
    for file in sorted(files_under(partial), key=lambda file: (file.name == SAVED_MODEL, -file.stat().st_size)):
        write_whole(version / file.relative_to(partial), file.read_bytes())
    return version
