"""The description of a dataset folder: `manifest.json`, written last, so that a folder with one is complete."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.dataset.storage import open_storage, write_text
from keras_ecg_mae.errors import DatasetError

MANIFEST = "manifest.json"
REJECTED = "rejected.csv"
FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
        file: its path in the dataset folder.
        institution: where all its recordings come from.
        split: the split all of them belong to.
        records: how many it holds.
        labelled: how many of these have a label.
        size_bytes: of the file.
        sha256: of the file.
    """

    file: str
    institution: str
    split: str
    records: int
    labelled: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Count:
    """How many of one institution are in one split.

    Attributes:
        institution: the institution.
        split: the split.
        patients: patients with a recording here.
        positive: recordings with label 1.
        negative: recordings with label 0.
        unlabelled: recordings without a label.
    """

    institution: str
    split: str
    patients: int
    positive: int
    negative: int
    unlabelled: int


@dataclass(frozen=True)
class Manifest:
    """A dataset folder that is complete.

    Attributes:
        folder: where it lies, a local path or an address.
        label_name: what label 1 means: `"lvsd"`, or the name of the table's label column; empty without labels.
        external_institutions: institutions that are tested on only.
        counts: by institution and split.
        shards: in the order they are read for evaluation.
        rejected: how many recordings were left out, by reason; one by one they are in `rejected.csv`.
        settings: the cohort's settings that decide what the dataset holds.
        table_sha256: checksum of the table it was prepared from.
        patient_keys: tells which secret its patient keys were made with, see `patient_key.PatientKeys.fingerprint`.
        versions: of this package and of the libraries that decoded and wrote.
    """

    folder: str
    label_name: str
    external_institutions: tuple[str, ...]
    counts: tuple[Count, ...]
    shards: tuple[Shard, ...]
    rejected: Mapping[str, int]
    settings: Mapping[str, Any]
    table_sha256: str
    patient_keys: str
    versions: Mapping[str, str]

    @property
    def path(self) -> str:
        """Where `manifest.json` lies."""
        return f"{self.folder.rstrip('/')}/{MANIFEST}"

    @property
    def institutions(self) -> tuple[str, ...]:
        """In alphabetical order, the internal ones first."""
        names = {count.institution for count in self.counts}
        return tuple(sorted(names, key=lambda name: (name in self.external_institutions, name)))

    @property
    def digest(self) -> str:
        """Checksum of the whole: the same for every copy of a dataset, wherever it lies."""
        shards = "".join(f"{shard.file} {shard.sha256}\n" for shard in self.shards)
        return hashlib.sha256(f"{self.label_name} {self.external_institutions}\n{shards}".encode()).hexdigest()

    def shard_path(self, shard: Shard) -> str:
        """Where a shard lies."""
        return f"{self.folder.rstrip('/')}/{shard.file}"

    def count(self, split: str | None = None, *, labelled: bool | None = None, institution: str | None = None) -> int:
        """Recordings of a split and an institution (each: all of them by default), labelled, unlabelled or both."""
        chosen = self._chosen(split, institution)
        with_label = sum(count.positive + count.negative for count in chosen)
        without = sum(count.unlabelled for count in chosen)
        return with_label + without if labelled is None else with_label if labelled else without

    def positives(self, split: str | None = None, *, institution: str | None = None) -> int:
        """Recordings with label 1."""
        return sum(count.positive for count in self._chosen(split, institution))

    def _chosen(self, split: str | None, institution: str | None) -> list[Count]:
        return [
            count for count in self.counts if split in (None, count.split) and institution in (None, count.institution)
        ]

    def write(self) -> None:
        """Writes `manifest.json`: whole, or not at all."""
        content = {"format": FORMAT, "signal": spec.signal_contract(), **asdict(self)}
        del content["folder"]
        write_text(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_manifest(folder: str) -> Manifest:
    """Reads the description of a dataset folder and looks whether its shards are there.

    Raises:
        DatasetError: no dataset lies there, it is of another signal contract, or a shard is missing or cut off.
    """
    open_storage(folder)
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            content = json.loads(file.read())
    except tf.errors.OpError as error:
        raise DatasetError(
            f"{path}: Expected a dataset folder that prepare finished. Received none ({type(error).__name__})."
        ) from error
    except ValueError as error:  # neither JSON nor UTF-8
        raise DatasetError(f"{path}: Expected JSON. Received: {error}.") from error
    manifest = _parse(folder, path, content)
    for shard in manifest.shards:
        _check_size(manifest.shard_path(shard), shard.size_bytes)
    return manifest


def _parse(folder: str, path: str, content: Any) -> Manifest:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        received = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f"{path}: Expected a dataset manifest of format {FORMAT}. Received {received!r}.")
    signal = content.pop("signal", None)
    if not isinstance(signal, dict):
        raise DatasetError(f"{path}: Expected an object under signal. Received {signal!r}.")
    for name, expected in spec.signal_contract().items():
        if signal.get(name) != expected:
            raise DatasetError(
                f"{path}: Expected {name} {expected}. Received {signal.get(name)}: "
                "the dataset was prepared for another signal contract, prepare it again."
            )
    del content["format"]
    try:
        content["counts"] = tuple(Count(**count) for count in content["counts"])
        content["shards"] = tuple(Shard(**shard) for shard in content["shards"])
        content["external_institutions"] = tuple(content["external_institutions"])
        return Manifest(folder=folder, **content)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: Expected the fields of a dataset manifest. Received other ones: {error}."
        ) from error


def _check_size(path: str, size_bytes: int) -> None:
    try:
        received = tf.io.gfile.stat(path).length
    except tf.errors.OpError as error:
        raise DatasetError(
            f"{path}: Expected this shard, which {MANIFEST} lists. Received none ({type(error).__name__})."
        ) from error
    if received != size_bytes:
        raise DatasetError(f"{path}: Expected a shard of {size_bytes} bytes. Received {received}.")
