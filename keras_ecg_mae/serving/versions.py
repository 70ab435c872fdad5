"""The versions of a model as TF Serving looks for them: `NAME/1`, `NAME/2`, each there whole or not at all."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from keras_ecg_mae.files import file_errors, files_under, flush, is_remote, read_if_there, write_whole

SAVED_MODEL = "saved_model.pb"
# A dot in front: TF Serving looks at folders whose name is a number.
PARTIAL = ".partial-"
# No export takes as long: a partial version of this age was left by one that was killed.
_ABANDONED_S = 24 * 3600


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
    """A folder to write the next version of `folder` in; what is left of it afterwards is removed."""
    with file_errors(folder, "write"):
        if not is_remote(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"{PARTIAL}*"):
                with suppress(FileNotFoundError):  # an export at the same time has renamed it
                    if old.stat().st_mtime < time.time() - _ABANDONED_S:
                        shutil.rmtree(old, ignore_errors=True)
        temporary = TemporaryDirectory(prefix=PARTIAL, dir=None if is_remote(folder) else folder)
    with temporary as partial:
        yield Path(partial)


def publish(partial: Path, folder: Path) -> Path:
    """Gives a version that was written and checked the next number, under which TF Serving finds it.

    In cloud storage a folder cannot be renamed: there the files are uploaded, the weights first and `saved_model.pb`
    last. TF Serving sees the version with its first file, cannot load it without the last one, keeps the version
    before, and tries again five times, a minute apart. Two exports at a time must not go to one folder there: they
    could take the same number.

    Raises:
        FileError: the files cannot be written.
    """
    if is_remote(folder):
        return _upload_as_next_version(partial, folder)
    with file_errors(folder, "write"):
        for path in (*partial.rglob("*"), partial):
            # mkdtemp's 0700, or a strict umask, would lock the server's user out.
            path.chmod(0o755 if path.is_dir() else 0o644)
            # Else a machine that fails soon could come up with the new name on empty files.
            flush(path)
        version = _rename_to_next_version(partial, folder)
        flush(folder)
    return version


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
