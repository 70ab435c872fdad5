"""Writing one shard: recordings are opened, conformed, judged and written one after another."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from keras_ecg_mae.config import Cohort, Quality, Signal
from keras_ecg_mae.dataset.shard_result import ShardFinding, ShardResult, finished_result, write_result
from keras_ecg_mae.dataset.tf_example import Metadata, encode_units, to_units
from keras_ecg_mae.dataset.tfrecord import TFRecordFile, framed_records
from keras_ecg_mae.errors import DatasetError, RecordingError
from keras_ecg_mae.files import storage_path, whole_file
from keras_ecg_mae.recordings import conform
from keras_ecg_mae.recordings.findings import Finding, assess_recording, reject
from keras_ecg_mae.recordings.formats.sidecar import sidecar_files
from keras_ecg_mae.recordings.isolation import open_isolated
from keras_ecg_mae.recordings.open import describes_itself
from keras_ecg_mae.recordings.source import is_file, split_record_path

_WFDB_FILES = (".hea", ".dat", ".mat")
DIGEST_BYTES = 16


@dataclass(frozen=True)
class ShardTask:
    """One shard to write, complete in itself, so that any process can.

    Attributes:
        folder: the dataset folder.
        file: the shard's path in it.
        cohort, signal, quality: the settings.
        recordings: what to write, each with its path relative to `cohort.recordings`.
        suspects: positions at which a process died that wrote this shard: they are read in another one.
    """

    folder: str
    file: str
    cohort: Cohort
    signal: Signal
    quality: Quality
    recordings: tuple[tuple[str, Metadata], ...]
    suspects: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.recordings)

    def suspecting(self, position: int) -> "ShardTask | None":
        return None if position in self.suspects else replace(self, suspects=(*self.suspects, position))


@dataclass(frozen=True)
class RemovalTask:
    """A shard that is written, and the positions in its `ShardTask` of recordings that it must lose."""

    folder: str
    file: str
    positions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def suspecting(self, _: int) -> None:
        return None


def write_shard(task: ShardTask, advance: Callable[[], object]) -> None:
    """Writes a shard, and then its result, which says that it is whole.

    Args:
        task: the shard.
        advance: called after each recording, accepted or not; may raise to stop.

    Raises:
        DatasetError: the shard cannot be written.
    """
    rejected: list[tuple[int, str, str]] = []
    findings: list[ShardFinding] = []
    digests: list[str] = []
    sidecars: list[str] = []
    root = os.path.realpath(task.cohort.recordings)
    with whole_file(f"{task.folder}/{task.file}") as file:
        shard = TFRecordFile(file)
        for position, (path, metadata) in enumerate(task.recordings):
            digest = ""
            try:
                units, found, format_name = _read(task, root, path, apart=position in task.suspects)
            except RecordingError as error:
                rejected.append((position, error.code, error.detail))
                is_complete = error.code == "outside_root"
            else:
                is_complete = describes_itself(format_name)
                shard.write(encode_units(units, metadata))
                digest = hashlib.sha256(units.data).hexdigest()[: 2 * DIGEST_BYTES]
                findings += [ShardFinding(position, *vars(finding).values()) for finding in found]
            digests.append(digest)
            sidecars.append("" if is_complete else sidecar_checksum(root, path))
            advance()
    lists = (tuple(rejected), tuple(findings), tuple(digests), tuple(sidecars))
    result = ShardResult(shard.size_bytes, shard.sha256, *lists, removed=())
    write_result(task.folder, task.file, result)


def remove_recordings(task: RemovalTask, advance: Callable[[], object]) -> None:
    """Writes a shard anew without some of its recordings, and then its result.

    Args:
        task: the shard and the recordings.
        advance: called after each recording that is left out; may raise to stop.

    Raises:
        DatasetError: the shard cannot be read or written, or is not the one that its result tells of.
    """
    path = f"{task.folder}/{task.file}"
    result = finished_result(task.folder, task.file)
    kept, left_out = result.accepted(), set(task.positions)
    with whole_file(path) as file:
        shard = TFRecordFile(file)
        try:
            with storage_path(path).open("rb") as old:
                for position, framed in zip(kept, framed_records(old), strict=True):
                    if position in left_out:
                        advance()
                    else:
                        shard.write_framed(framed)
        except ValueError as error:  # damaged, or another number of records
            raise DatasetError(
                f"{path}: Expected a shard of {len(kept)} recordings. Received one that is damaged: remove it and give "
                "the same command again."
            ) from error
    write_result(task.folder, task.file, result.without(task.positions, shard.size_bytes, shard.sha256))


def _read(task: ShardTask, root: str, path: str, apart: bool) -> tuple[np.ndarray, tuple[Finding, ...], str]:
    """A recording's samples in microvolts, `(12, 5000)` int16, what was found in them as recorded, and its format."""
    cohort = task.cohort
    recording = open_isolated(locate(root, path), task.signal, apart=apart)
    ecg_mv = conform(recording, long_recordings=cohort.long_recordings, max_flat_leads=cohort.max_flat_leads)
    findings = assess_recording(recording, task.quality, cohort.long_recordings)
    reject(path, findings, task.quality)
    return to_units(path, ecg_mv), findings, recording.format


def sidecar_checksum(root: str, path: str) -> str:
    """Of all that may say beside a recording what its samples mean: what is not there counts as well.

    Args:
        root: the folder of recordings.
        path: relative to it, `FILE#ID` included.
    """
    digest = hashlib.sha256()
    for name in sidecar_files(split_record_path(os.path.join(root, path))[0]):
        content = b""
        if is_file(name):
            with suppress(OSError), open(name, "rb") as file:  # what cannot be read, its reader refuses
                content = b"there: " + file.read()
        digest.update(b"%d %b" % (len(content), content))
    return digest.hexdigest()[: 2 * DIGEST_BYTES]


def locate(root: str, path: str) -> str:
    """Where a path of the table lies on disk.

    Args:
        root: the folder of recordings, without symbolic links.
        path: relative to it; `FILE#ID` is a recording in a file.

    Raises:
        RecordingError: code `"outside_root"`, it leaves the folder of recordings: by `..`, as an absolute path, or
            through a symbolic link, its own or that of a file which is read with it.
    """
    located = os.path.join(root, path)
    file, _ = split_record_path(located)
    folder, name = os.path.split(file)
    stem = os.path.splitext(file)[0]
    read = {file, *sidecar_files(file), *(start + end for start in (file, stem) for end in _WFDB_FILES)}
    # A folder is looked up once, and a file only where it is a link: each look costs time on a network's disk.
    inside = _is_inside(root, _real_path(folder if name not in ("", ".", "..") else file)) and all(
        _is_inside(root, os.path.realpath(each)) for each in read if os.path.islink(each)
    )
    if not inside:
        raise RecordingError(
            path, "outside_root", "Expected a path inside the folder of recordings. Received one that leaves it."
        )
    return located


def _is_inside(root: str, path: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


@lru_cache(maxsize=1024)
def _real_path(folder: str) -> str:
    return os.path.realpath(folder)
