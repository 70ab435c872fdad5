"""Writing one shard: recordings are opened, conformed and written one after another."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from keras_ecg_mae.config import Cohort
from keras_ecg_mae.dataset import schema
from keras_ecg_mae.dataset.storage import sha256
from keras_ecg_mae.errors import DatasetError, RecordingError
from keras_ecg_mae.recordings import conform, open_recording
from keras_ecg_mae.storage import open_storage

TEMPORARY = ".tmp"
# A record named without its extension is these files in the WFDB format.
_SIBLINGS = ("", ".hea", ".dat", ".mat")


@dataclass(frozen=True)
class ShardTask:
    """One shard to write, complete in itself, so that any process can.

    Attributes:
        path: the shard's file.
        cohort: the settings.
        recordings: what to write, each with its path relative to `cohort.recordings`.
    """

    path: str
    cohort: Cohort
    recordings: tuple[tuple[str, schema.Metadata], ...]


@dataclass(frozen=True)
class ShardResult:
    """One shard that was written.

    Attributes:
        size_bytes: of the file.
        sha256: of the file.
        rejected: which recordings were left out: position in the task, reason code, detail.
    """

    size_bytes: int
    sha256: str
    rejected: tuple[tuple[int, str, str], ...]


def write_shard(task: ShardTask, advance: Callable[[], object]) -> ShardResult:
    """Writes a shard under another name and renames it, so a file with the shard's name is whole.

    Args:
        task: the shard.
        advance: called after each recording, accepted or not; may raise to stop.

    Raises:
        DatasetError: the shard cannot be written.
    """
    open_storage(task.path)
    temporary = task.path + TEMPORARY
    rejected = []
    try:
        with tf.io.TFRecordWriter(temporary) as writer:
            for position, (path, metadata) in enumerate(task.recordings):
                try:
                    writer.write(_read(task.cohort, path, metadata))
                except RecordingError as error:
                    rejected.append((position, error.code, error.detail))
                advance()
        result = ShardResult(tf.io.gfile.stat(temporary).length, sha256(temporary), tuple(rejected))
        tf.io.gfile.rename(temporary, task.path, overwrite=True)
    except tf.errors.OpError as error:
        raise DatasetError(f"{task.path}: Expected to write this shard. Received: {error.message}.") from error
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
    return result


def _read(cohort: Cohort, path: str, metadata: schema.Metadata) -> bytes:
    recording = open_recording(locate(cohort.recordings, path))
    ecg_mv = conform(recording, long_recordings=cohort.long_recordings, max_flat_leads=cohort.max_flat_leads)
    return schema.encode(ecg_mv, metadata)


def locate(root: str, path: str) -> str:
    """Where a path of the table lies on disk.

    Raises:
        RecordingError: code `"outside_root"`, it leaves the folder of recordings: by `..`, as an absolute path, or
            through a symbolic link.
    """
    located = os.path.join(root, path)
    real_root = os.path.realpath(root)
    for sibling in _SIBLINGS:
        if os.path.commonpath([real_root, os.path.realpath(located + sibling)]) != real_root:
            raise RecordingError(
                path, "outside_root", "Expected a path inside the folder of recordings. Received one that leaves it."
            )
    return located
