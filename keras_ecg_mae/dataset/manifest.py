"""The description of a dataset folder: `manifest.json`, written last, so that a folder with one is complete."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from keras_ecg_mae import spec
from keras_ecg_mae.cohort.description import CohortDescription, parse_description
from keras_ecg_mae.errors import DatasetError, FileError
from keras_ecg_mae.files import read_json, sha256, size_bytes, write_json

MANIFEST = "manifest.json"
REJECTED = "rejected.csv"
FINDINGS = "findings.csv"
COHORT = "cohort.json"
# Raised where manifests, or shards of the same recordings and settings, hold something else: a dataset of another
# format is neither read nor gone on with.
FORMAT = 4
_VERIFYING_THREADS = 8


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
        write_json(self.path, content)


def read_manifest(folder: str) -> Manifest:
    """Reads the description of a dataset folder and looks whether its shards are there.

    Raises:
        DatasetError: no dataset lies there, it is of another format or signal contract, or a shard is missing or cut
            off. FileError: the manifest cannot be read.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        raise DatasetError(
            f"{folder.rstrip('/')}/{MANIFEST}: Expected a dataset folder that prepare finished. Received none."
        )
    for shard in manifest.shards:
        path = manifest.shard_path(shard)
        try:
            received = size_bytes(path)
        except FileError as error:
            raise DatasetError(f"{path}: Expected this shard, which {MANIFEST} lists. Received none.") from error
        if received != shard.size_bytes:
            raise DatasetError(f"{path}: Expected a shard of {shard.size_bytes} bytes. Received {received}.")
    return manifest


def verify(manifest: Manifest) -> None:
    """Compares every shard with its checksum.

    Raises:
        DatasetError: a shard differs; names the file. FileError: it cannot be read.
    """

    def check(shard: Shard) -> None:
        path = manifest.shard_path(shard)
        received = sha256(path)
        if received != shard.sha256:
            raise DatasetError(
                f"{path}: Expected the SHA-256 {shard.sha256}. Received {received}: the shard is damaged, copy it or "
                "prepare the dataset again."
            )

    with ThreadPoolExecutor(_VERIFYING_THREADS) as threads:
        list(threads.map(check, manifest.shards))


def read_cohort(folder: str) -> CohortDescription:
    """Who is in a dataset, or in a table that `prepare --table_only` split; shards are not looked for.

    Where both lie in the folder, the dataset counts: it says who was accepted.

    Raises:
        DatasetError: neither lies in the folder, or it is of another format. FileError: it cannot be read.
    """
    manifest = _read_manifest(folder)
    if manifest is not None:
        return manifest
    path = f"{folder.rstrip('/')}/{COHORT}"
    content = _read_format(path)
    if content is None:
        raise DatasetError(f"{folder}: Expected {MANIFEST} or {COHORT}, which prepare writes. Received neither.")
    return CohortDescription(**parse_description(path, content))


def write_cohort(folder: str, description: CohortDescription, *, table_sha256: str) -> None:
    """Writes `cohort.json`, what `prepare --table_only` leaves; `table_sha256` as in `Manifest`."""
    write_json(
        f"{folder.rstrip('/')}/{COHORT}", {"format": FORMAT, **asdict(description), "table_sha256": table_sha256}
    )


def _read_manifest(folder: str) -> Manifest | None:
    path = f"{folder.rstrip('/')}/{MANIFEST}"
    content = _read_format(path)
    if content is None:
        return None
    for name, expected in spec.signal_contract().items():
        if (received := content["signal"].get(name)) != expected:
            raise DatasetError(
                f"{path}: Expected {name} {expected}. Received {received}: "
                "the dataset was prepared for another signal contract, prepare it again."
            )
    del content["format"], content["signal"]
    try:
        content |= parse_description(path, content)
        content["shards"] = tuple(Shard(**shard) for shard in content["shards"])
        return Manifest(folder=folder, **content)
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: Expected the fields of a dataset manifest. Received other ones: {error}."
        ) from error


def _read_format(path: str) -> dict[str, Any] | None:
    """A file of this package's present format; None where there is none."""
    content = read_json(path)
    if content is not None and content.get("format") != FORMAT:
        raise DatasetError(
            f"{path}: Expected the format {FORMAT}. Received {content.get('format')!r}: prepare it again with this "
            "version, into another --output or after removing the folder."
        )
    return content
