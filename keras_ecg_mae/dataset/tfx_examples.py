"""A dataset folder from tf.Examples of our own schema that something else has copied, as TFX's ExampleGen does."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from keras_ecg_mae.cohort.description import describe
from keras_ecg_mae.dataset.example import TFRecordFile, decode
from keras_ecg_mae.dataset.manifest import Manifest, Shard
from keras_ecg_mae.dataset.selection import without_autotuning
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import storage_path

_NAMES = ("record_id", "patient_key", "institution", "label", "lvef", "age", "sex")
_BATCH = 256


def collect_examples(
    folder: str,
    files: Mapping[str, Sequence[str]],
    *,
    label_name: str,
    external_institutions: Sequence[str],
    settings: Mapping[str, Any],
    records_per_shard: int = 1000,
) -> Manifest:
    """Writes the shards and the manifest of a dataset.

    Args:
        folder: of the dataset; made.
        files: TFRecord files, or patterns of such, by split; compressed where their name ends in `.gz`.
        label_name, external_institutions: as in `CohortDescription`. settings: those that the examples were made with.
        records_per_shard: at most.

    Raises:
        DatasetError: a file cannot be read, or holds other records.
    """
    parts = []
    shards: list[Shard] = []
    for split, patterns in files.items():
        writers: dict[str, _Shards] = {}
        for record in _records(patterns):
            institution = record["institution"]
            if institution not in writers:
                writers[institution] = _Shards(folder, institution, split, records_per_shard)
            writers[institution].write(record)
            parts.append({name: record[name] for name in _NAMES} | {"split": split})
        for institution in sorted(writers):
            shards += writers[institution].close()
    rows = pd.DataFrame(parts, columns=[*_NAMES, "split"]).rename(columns={"patient_key": "patient_id"})
    manifest = Manifest(
        folder=folder,
        **vars(replace(describe(rows, label_name, tuple(external_institutions)), settings=settings)),
        shards=tuple(shards),
        table_sha256="",
        patient_keys="",
        versions={},
    )
    manifest.write()
    return manifest


class _Shards:
    """The shards of one institution and split, filled one after another."""

    def __init__(self, folder: str, institution: str, split: str, size: int):
        self._folder, self._institution, self._split, self._size = folder, institution, split, size
        self._shards: list[Shard] = []
        storage_path(f"{folder}/{institution}").mkdir(parents=True, exist_ok=True)
        self._open()

    def write(self, record: Mapping[str, Any]) -> None:
        if self._records == self._size:
            self.close()
            self._open()
        self._writer.write(record["serialized"])
        self._records += 1
        self._labelled += not np.isnan(record["label"])

    def close(self) -> list[Shard]:
        self._file.close()
        name = f"{self._institution}/{self._split}-{len(self._shards):05d}.tfrecord"
        counts = (self._records, self._labelled, self._writer.size_bytes, self._writer.sha256)
        self._shards.append(Shard(name, self._institution, self._split, *counts))
        return self._shards

    def _open(self) -> None:
        name = f"{self._institution}/{self._split}-{len(self._shards):05d}.tfrecord"
        self._file = storage_path(f"{self._folder}/{name}").open("wb")
        self._writer, self._records, self._labelled = TFRecordFile(self._file), 0, 0


def _records(patterns: Sequence[str]) -> Any:
    """Each record of some files: its serialized tf.Example, and what it says besides the samples."""
    for pattern in patterns:
        paths = sorted(tf.io.gfile.glob(pattern))
        if not paths:
            raise DatasetError(f"{pattern}: Expected TFRecord files. Received none.")
        for path in paths:
            compression = "GZIP" if path.endswith(".gz") else ""
            try:
                for serialized in without_autotuning(tf.data.TFRecordDataset(path, compression).batch(_BATCH)):
                    features = {name: value.numpy() for name, value in decode(serialized, _NAMES).items()}
                    for row, example in enumerate(serialized.numpy()):
                        values = {name: value[row] for name, value in features.items()}
                        text = {name: value.decode() for name, value in values.items() if isinstance(value, bytes)}
                        yield {**values, **text, "serialized": example}
            except (tf.errors.OpError, UnicodeDecodeError) as error:
                raise DatasetError(
                    f"{os.path.basename(path)}: Expected tf.Examples of this package. Received others, or a damaged "
                    "file."
                ) from error
