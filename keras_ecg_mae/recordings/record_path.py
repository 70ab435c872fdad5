"""`FILE#ID`: one recording of a file that holds many."""

import os


def split_record_path(path: str) -> tuple[str, str | None]:
    """The file and the id that `FILE#ID` names; `(path, None)` where no file is meant by what stands before a `#`.

    A file of exactly this name is that file: `#` is part of its name. Of several `#`, the last one with a file before
    it divides.
    """
    if is_file(path):
        return path, None
    end = path.rfind("#")
    while end > 0:
        if is_file(path[:end]):
            return path[:end], path[end + 1 :]
        end = path.rfind("#", 0, end)
    return path, None


def is_file(path: str) -> bool:
    """Whether a file is there; a path that cannot be one (a null byte, too long) is none."""
    try:
        return os.path.isfile(path)
    except ValueError:
        return False


def read_head(path: str, size: int) -> bytes:
    """The first `size` bytes of the file that `path` or `FILE#ID` names, empty where they cannot be read."""
    file, _ = split_record_path(path)
    try:
        if not is_file(file):
            return b""
        with open(file, "rb") as content:
            return content.read(size)
    except OSError:
        return b""
