"""Writing one shard: recordings are opened, conformed, judged and written one after another.

What is known of a whole shard, its result, is kept beside the shards until the manifest is written. A killed `prepare`
goes on from there: a shard with a result is finished, one without it is written again.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache

from keras_ecg_mae.config import Cohort, Quality, Signal
from keras_ecg_mae.dataset.example import Metadata, TFRecordFile, encode_units, framed_records, to_units
from keras_ecg_mae.errors import DatasetError, FileError, RecordingError
from keras_ecg_mae.files import read_json, size_bytes, storage_path, whole_file, write_whole
from keras_ecg_mae.recordings import conform
from keras_ecg_mae.recordings.findings import assess_recording, reject
from keras_ecg_mae.recordings.formats.sidecar import sidecar_files
from keras_ecg_mae.recordings.isolation import open_isolated
from keras_ecg_mae.recordings.open import describes_itself
from keras_ecg_mae.recordings.source import is_file, split_record_path

# Hidden, so that no institution has the name, and removed when the manifest is there.
UNFINISHED = ".unfinished"
RESULT_ENDING = ".result.json"
DIGEST_BYTES = 16
_WFDB_FILES = (".hea", ".dat", ".mat")


@dataclass(frozen=True)
class ShardTask:
    """One shard to write, or to lose some recordings; complete in itself, so that any process can do it.

    Attributes:
        folder: the dataset folder.
        file: the shard's path in it.
        cohort, signal, quality: the settings.
        recordings: what to write, each with its path relative to `cohort.recordings`. A recording's place here is how
            the attributes below and `ShardResult` name it.
        suspects: places at which a process died that wrote this shard: they are read in another process.
        duplicates: places of recordings to leave out of the shard, which is written already.
    """

    folder: str
    file: str
    cohort: Cohort
    signal: Signal
    quality: Quality
    recordings: tuple[tuple[str, Metadata], ...] = ()
    suspects: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.duplicates or self.recordings)

    def suspecting(self, place: int) -> "ShardTask | None":
        """The task after its process died at a recording; None where that recording cannot be the cause."""
        if self.duplicates or place >= len(self) or place in self.suspects:
            return None
        return replace(self, suspects=(*self.suspects, place))


@dataclass
class ShardResult:
    """One shard that was written.

    Attributes:
        size_bytes: of the file.
        sha256: of the file.
        rejected: which recordings could not be used: place, reason code, detail.
        findings: of the recordings that could, in their order: place, code, lead, value, detail (`findings.Finding`).
        digests: checksum of each recording's stored samples, in hexadecimal; empty for a rejected one.
        sidecars: of what lay beside each recording to say what its samples mean; empty where a format says it itself.
        duplicates: places of recordings that were taken out again, as their samples are another recording's.
    """

    size_bytes: int = 0
    sha256: str = ""
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    findings: list[tuple[int, str, str | None, float, str]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)

    def accepted(self) -> list[int]:
        """The places of the recordings that the file holds, in its order."""
        left_out = set(self.duplicates)
        return [place for place, digest in enumerate(self.digests) if digest and place not in left_out]


def write_shard(task: ShardTask, advance: Callable[[], object]) -> None:
    """Writes a shard, and then its result, which says that it is whole.

    Args:
        task: the shard.
        advance: called after each recording, accepted or not; may raise to stop.

    Raises:
        FileError: the shard cannot be written.
    """
    result, root = ShardResult(), os.path.realpath(task.cohort.recordings)
    with whole_file(f"{task.folder}/{task.file}") as file:
        shard = TFRecordFile(file)
        for place in range(len(task.recordings)):
            _write_recording(task, place, root, shard, result)
            advance()
    _finish(task, result, shard)


def remove_duplicates(task: ShardTask, advance: Callable[[], object]) -> None:
    """Writes a shard anew without `task.duplicates`, and then its result.

    Args:
        task: the shard and the recordings.
        advance: called after each recording that is left out; may raise to stop.

    Raises:
        DatasetError: the shard is not the one that its result tells of. FileError: it cannot be read or written.
    """
    path = f"{task.folder}/{task.file}"
    result = finished_result(task.folder, task.file)
    kept = result.accepted()
    with whole_file(path) as file:
        shard = TFRecordFile(file)
        try:
            with storage_path(path).open("rb") as old:
                for place, framed in zip(kept, framed_records(old), strict=True):
                    if place in task.duplicates:
                        advance()
                    else:
                        shard.write_framed(framed)
        except ValueError as error:  # damaged, or another number of records
            raise DatasetError(
                f"{path}: Expected a shard of {len(kept)} recordings. Received one that is damaged: remove it and give "
                "the same command again."
            ) from error
    result.duplicates = sorted({*result.duplicates, *task.duplicates})
    _finish(task, result, shard)


def read_result(folder: str, file: str) -> ShardResult | None:
    """The result of the shard `file`; None where there is none, or the shard is not the one it tells of."""
    content = read_json(result_path(folder, file))
    if content is None:
        return None
    result = ShardResult(**content)
    try:
        return result if size_bytes(f"{folder}/{file}") == result.size_bytes else None
    except FileError:
        return None


def finished_result(folder: str, file: str) -> ShardResult:
    """The result of a shard that is written. Raises `DatasetError` where there is none."""
    result = read_result(folder, file)
    if result is None:
        raise DatasetError(
            f"{folder}/{file}: Expected this shard and what is known of it. Received none, or a shard of another size: "
            "give the same command again."
        )
    return result


def result_path(folder: str, file: str) -> str:
    """Where a shard's result lies."""
    return f"{folder}/{UNFINISHED}/{file}{RESULT_ENDING}"


def _write_recording(task: ShardTask, place: int, root: str, shard: TFRecordFile, result: ShardResult) -> None:
    """Reads a recording, writes it where it can be used, and adds what is known of it to the result."""
    path, metadata = task.recordings[place]
    cohort, digest = task.cohort, ""
    try:
        recording = open_isolated(locate(root, path), task.signal, apart=place in task.suspects)
        ecg_mv = conform(recording, long_recordings=cohort.long_recordings, max_flat_leads=cohort.max_flat_leads)
        findings = assess_recording(recording, task.quality, cohort.long_recordings)
        reject(path, findings, task.quality)
        units = to_units(path, ecg_mv)
    except RecordingError as error:
        result.rejected.append((place, error.code, error.detail))
        needs_no_sidecar = error.code == "outside_root"
    else:
        needs_no_sidecar = describes_itself(recording.format)
        shard.write(encode_units(units, metadata))
        digest = hashlib.sha256(units.data).hexdigest()[: 2 * DIGEST_BYTES]
        result.findings += [(place, each.code, each.lead, each.value, each.detail) for each in findings]
    result.digests.append(digest)
    result.sidecars.append("" if needs_no_sidecar else sidecar_checksum(root, path))


def _finish(task: ShardTask, result: ShardResult, shard: TFRecordFile) -> None:
    """Keeps a shard's result: from here on the shard counts as finished."""
    result.size_bytes, result.sha256 = shard.size_bytes, shard.sha256
    write_whole(result_path(task.folder, task.file), json.dumps(vars(result), ensure_ascii=False) + "\n")


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
