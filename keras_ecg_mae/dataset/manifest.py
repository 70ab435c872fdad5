"""The description of a dataset folder: `manifest.json`, written last, so that a folder with one is complete."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras_ecg_mae import spec
from keras_ecg_mae.cohort.description import CohortDescription, parse_description
from keras_ecg_mae.errors import DatasetError, FileError
from keras_ecg_mae.files import read_if_there, size_bytes, write_whole

MANIFEST = "manifest.json"
REJECTED = "rejected.csv"
FINDINGS = "findings.csv"
COHORT = "cohort.json"
# Raised where manifests, or shards of the same recordings and settings, hold something else: a dataset of another
# format is neither read nor gone on with.
FORMAT = 3


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


@dataclass(frozen=True, kw_only=True)
class Manifest(CohortDescription):
    """A dataset folder that is complete.

    Attributes:
        folder: where it lies, a local path or an address.
        shards: in the order they are read for evaluation.
        table_sha256: checksum of the table it was prepared from.
        patient_keys: tells which secret its patient keys were made with, see `patient_key.PatientKeys.fingerprint`.
        versions: of this package and of the libraries that read the table and the recordings; several, with commas
            between, where they were upgraded before all shards were written.
    """

    folder: str
    shards: tuple[Shard, ...]
    table_sha256: str
    patient_keys: str
    versions: Mapping[str, str]

    @property
    def path(self) -> str:
        """Where `manifest.json` lies."""
        return f"{self.folder.rstrip('/')}/{MANIFEST}"

    @property
    def digest(self) -> str:
        """Checksum of the whole: the same for every copy of a dataset, wherever it lies."""
        shards = "".join(f"{shard.file} {shard.sha256}\n" for shard in self.shards)
        return hashlib.sha256(f"{self.label_name} {self.external_institutions}\n{shards}".encode()).hexdigest()

    def shard_path(self, shard: Shard) -> str:
        """Where a shard lies."""
        return f"{self.folder.rstrip('/')}/{shard.file}"

    def write(self) -> None:
        """Writes `manifest.json`: whole, or not at all."""
        content = {"format": FORMAT, "signal": spec.signal_contract(), **asdict(self)}
        del content["folder"]
        write_whole(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_manifest(folder: str) -> Manifest:
    """Reads the description of a dataset folder and looks whether its shards are there.

    Raises:
        DatasetError: no dataset lies there, it is of another signal contract, or a shard is missing or cut off.
    """
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    content = read_if_there(path)
    if content is None:
        raise DatasetError(f"{path}: Expected a dataset folder that prepare finished. Received none.")
    manifest = _parse(folder, path, content)
    for shard in manifest.shards:
        _check_size(manifest.shard_path(shard), shard.size_bytes)
    return manifest


def read_cohort(folder: str) -> CohortDescription:
    """Who is in a dataset, or in a table that `prepare --table_only` split; shards are not looked for.

    Where both lie in the folder, the dataset counts: it says who was accepted.

    Raises:
        DatasetError: neither lies in the folder, or what does cannot be read.
    """
    manifest, path = (f"{folder.rstrip('/')}/{name}" for name in (MANIFEST, COHORT))
    content = read_if_there(manifest)
    if content is not None:
        return _parse(folder, manifest, content)
    content = read_if_there(path)
    if content is None:
        raise DatasetError(f"{folder}: Expected {MANIFEST} or {COHORT}, which prepare writes. Received neither.")
    return CohortDescription(**parse_description(path, _parse_json(path, content)))


def write_cohort(folder: str, description: CohortDescription, *, table_sha256: str) -> None:
    """Writes `cohort.json`, what `prepare --table_only` leaves; `table_sha256` as in `Manifest`."""
    content = {"format": FORMAT, **asdict(description), "table_sha256": table_sha256}
    write_whole(f"{folder.rstrip('/')}/{COHORT}", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _parse_json(path: str, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:  # neither JSON nor UTF-8
        raise DatasetError(f"{path}: Expected JSON. Received: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        received = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise DatasetError(
            f"{path}: Expected the format {FORMAT}. Received {received!r}: prepare it again with this version, "
            "into another --output or after removing the folder."
        )
    return content


def _parse(folder: str, path: str, text: bytes) -> Manifest:
    content = _parse_json(path, text)
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
    content |= parse_description(path, content)
    try:
        content["shards"] = tuple(Shard(**shard) for shard in content["shards"])
        return Manifest(folder=folder, **content)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: Expected the fields of a dataset manifest. Received other ones: {error}."
        ) from error


def _check_size(path: str, expected: int) -> None:
    try:
        received = size_bytes(path)
    except FileError as error:
        raise DatasetError(f"{path}: Expected this shard, which {MANIFEST} lists. Received none.") from error
    if received != expected:
        raise DatasetError(f"{path}: Expected a shard of {expected} bytes. Received {received}.")
