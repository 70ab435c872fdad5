"""A dataset folder until its manifest is there: begun, entered again after a kill, and cleared."""

import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pandas as pd
from absl import logging

from keras_ecg_mae.cohort.page import COHORT_PAGE
from keras_ecg_mae.cohort.table_problems import TABLE_PROBLEMS
from keras_ecg_mae.dataset.manifest import COHORT, REJECTED
from keras_ecg_mae.dataset.shards import RESULT_ENDING, UNFINISHED, read_result, result_path, sidecar_checksum
from keras_ecg_mae.errors import DatasetError, FileError
from keras_ecg_mae.files import PARTIAL, files_under, is_remote, read_json, sha256, storage_path, write_json

_CHECKING_THREADS = 8  # which a disk answers best; the checksums are computed outside of Python's lock
_IDENTITY = f"{UNFINISHED}/identity.json"
# What `prepare --table_only` leaves.
_TABLE_ONLY = (COHORT, COHORT_PAGE, REJECTED, TABLE_PROBLEMS)
_SHARDS, _PARTIAL_FILES = "*-[0-9]*-of-[0-9]*.tfrecord", f".*{PARTIAL}"


def check_unfinished(folder: str, identity: Mapping[str, Any]) -> None:
    """Looks whether a dataset may be written to the folder: it is empty, or a `prepare` that was stopped has left it.

    Args:
        folder: the dataset folder.
        identity: what decides the dataset's content, as it comes back from JSON, and the `versions` of this package
            and its libraries, which do not. Finished shards of another one are neither mixed with these nor removed.

    Raises:
        DatasetError: the folder holds something else, or finished shards of another dataset.
    """
    there = read_json(f"{folder}/{_IDENTITY}")
    if there is None:
        refuse_foreign(folder)
    elif (found := differences(there, identity)) and _has_results(folder):
        raise DatasetError(
            f"{folder}: Expected nothing in --output, or what the same prepare has left unfinished. Received finished "
            f"shards of one that differs: {'; '.join(found)}. Give its command to go on with "
            "them, or remove the folder."
        )


def begin(folder: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the dataset folder, or clears one that `check_unfinished` has let pass of what a kill left half written.

    Returns:
        The identity with the versions of whatever wrote the shards: several where other ones were installed meanwhile.
    """
    there = read_json(f"{folder}/{_IDENTITY}")
    begun = dict(identity)
    if there is not None:
        resumed = _has_results(folder)
        if resumed:
            begun["versions"] = _joined(there["versions"], identity["versions"])
        # Without a result, a shard is nothing to go on from.
        for path in list(files_under(folder)):
            if fnmatch(path.name, _PARTIAL_FILES) or (not resumed and fnmatch(path.name, _SHARDS)):
                path.unlink()
    if there != begun:
        write_json(f"{folder}/{_IDENTITY}", begun)
    return begun


def _joined(there: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Each library's versions, with commas between."""
    return {
        name: ", ".join(dict.fromkeys([*there.get(name, version).split(", "), version]))
        for name, version in now.items()
    }


def still_to_write(
    folder: str, shards: Mapping[str, np.ndarray], paths: pd.Series, recordings: str
) -> dict[str, np.ndarray]:
    """The shards that are not finished, or no longer what they were when they were: damaged, or of other sidecars.

    Args:
        folder: the dataset folder.
        shards: positions of the recordings by file, of all shards.
        paths: of the recordings, by their positions.
        recordings: the folder they are relative to.
    """
    root = os.path.realpath(recordings)

    def is_as_written(file: str) -> bool:
        result, path = read_result(folder, file), f"{folder}/{file}"
        if result is None:
            return False
        said = zip(shards[file], result.sidecars, strict=True)
        if any(checksum and checksum != sidecar_checksum(root, paths[position]) for position, checksum in said):
            logging.info("%s is written again: its recordings' sidecars have changed.", path)
            return False
        try:
            is_whole = sha256(path) == result.sha256
        except FileError:
            is_whole = False
        if not is_whole:
            logging.warning("%s is written again: it is damaged.", path)
        return is_whole

    if not _has_results(folder):
        return dict(shards)
    logging.info("%s: what is finished is compared with its checksums.", folder)
    with ThreadPoolExecutor(_CHECKING_THREADS) as threads:
        as_written = dict(zip(shards, threads.map(is_as_written, shards), strict=True))
    finished = sum(as_written.values())
    logging.info("%s: %d of %d shards were finished and are as they were written.", folder, finished, len(shards))
    return {file: positions for file, positions in shards.items() if not as_written[file]}


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two datasets differ, in words: each told by its format, settings, table and patient keys."""
    if there["format"] != now["format"]:
        return [f"the format of its shards is {there['format']} there, {now['format']} now"]
    before = there["settings"]
    found = [
        f"--{name} {before.get(name)!r} there, {value!r} now"
        for name, value in now["settings"].items()
        if before.get(name) != value
    ]
    if there["table_sha256"] != now["table_sha256"]:
        found.append("the table has changed")
    if there["patient_keys"] != now["patient_keys"]:
        found.append("the secret of the patient keys (--patient_key_file) is another one or missing")
    return found


def clear(folder: str) -> None:
    """Removes what a `prepare` needs to go on, once the manifest is there."""
    hidden = storage_path(f"{folder}/{UNFINISHED}")
    if not is_remote(folder):
        shutil.rmtree(hidden, ignore_errors=True)
        return
    for path in list(files_under(hidden)):
        path.unlink()


def discard(folder: str, files: Iterable[str]) -> None:
    """Removes shards and their results, so that other settings may begin anew."""
    for file in files:
        for path in (result_path(folder, file), f"{folder}/{file}"):
            storage_path(path).unlink(missing_ok=True)


def refuse_foreign(folder: str) -> None:
    """Refuses a folder that holds what `prepare` did not write. Raises `DatasetError`."""
    output = storage_path(folder)
    names = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    found = [name for name in names if not name.startswith(".") and name not in _TABLE_ONLY]
    if found and read_json(f"{folder}/{_IDENTITY}") is None:
        raise DatasetError(
            f"{folder}: Expected a new or an empty folder (--output). Received one that holds {found[0]!r}."
        )


def _has_results(folder: str) -> bool:
    """Whether any shard has one."""
    return any(path.name.endswith(RESULT_ENDING) for path in files_under(f"{folder}/{UNFINISHED}"))
