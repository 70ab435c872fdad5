"""Which recordings a training learns from: of which splits, and of which patients where their labels are few."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import tensorflow as tf

from keras_ecg_mae.cohort.split import TRAIN, hashed_order
from keras_ecg_mae.dataset.example import decode
from keras_ecg_mae.dataset.manifest import Manifest, Shard
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import is_remote, storage_of

_READ_BUFFER_BYTES = 1024 * 1024
_COUNTED_AT_ONCE = 64


@dataclass(frozen=True)
class LabelledPatients:
    """The patients of a split whose labels are used.

    Attributes:
        keys: their patient keys.
        recordings: their labelled recordings.
        positives: those with label 1.
    """

    keys: tuple[str, ...]
    recordings: int
    positives: int


@dataclass(frozen=True)
class LearntFrom:
    """The recordings that a training learns from.

    Attributes:
        recordings: how many, by institution and split, none left out that has some.
        patients: the keys of their patients.
    """

    recordings: dict[str, dict[str, int]]
    patients: frozenset[str]


def labelled_patients(manifest: Manifest, fraction: float, seed: int, split: str = TRAIN) -> LabelledPatients:
    """A share of a split's patients with a label, drawn by patient key and seed alone.

    Patients with a positive recording and patients without are drawn apart, the share of each rounded to the nearest
    whole number. With the same seed, those of a smaller share are among those of a larger one. The first time for a
    dataset, the split's labelled shards are read for their labels.

    Raises:
        DatasetError: these patients' recordings have not both labels.
    """
    counts: dict[str, tuple[int, int]] = {}
    for shard in training_shards(manifest, True, [split]):
        for key, (_, recordings, positives) in _patients(manifest.shard_path(shard), shard.sha256).items():
            before = counts.get(key, (0, 0))
            counts[key] = (before[0] + recordings, before[1] + positives)
    counts = {key: count for key, count in counts.items() if count[0]}
    chosen: list[list[str]] = []
    for positive in (True, False):
        patients = [key for key, (_, positives) in counts.items() if (positives > 0) == positive]
        ordered = sorted(zip(hashed_order(patients, seed), patients, strict=True))
        chosen.append([key for _, key in ordered[: round(fraction * len(patients))]])
    keys = (*chosen[0], *chosen[1])
    recordings, positives = (sum(counts[key][index] for key in keys) for index in (0, 1))
    if not 0 < positives < recordings:
        raise DatasetError(
            f"{manifest.path}: Expected recordings with and without {manifest.label_name or 'a label'} among those of "
            f"{fraction:g} of the {split} patients. Received {positives} positive of {recordings} labelled "
            "recordings: raise --finetune_label_fraction or prepare more recordings."
        )
    return LabelledPatients(keys, recordings, positives)


def learnt_from(
    manifest: Manifest, splits: Sequence[str], *, labelled: bool, label_fraction: float = 1.0, seed: int = 0
) -> LearntFrom:
    """What a training on some splits learns from: all recordings there, or a share of the patients' labelled ones.

    Reads the splits' shards for their patients, the first time for a dataset. As `training_batches`, it takes none of
    an external institution.

    Raises:
        DatasetError: the share of patients has not both labels.
    """
    recordings: dict[str, dict[str, int]] = {}
    patients: set[str] = set()
    for split in splits:
        chosen = labelled_patients(manifest, label_fraction, seed, split).keys if label_fraction < 1 else None
        for shard in training_shards(manifest, labelled, [split]):
            counts = {
                key: count[labelled]
                for key, count in _patients(manifest.shard_path(shard), shard.sha256).items()
                if count[labelled]
            }
            if chosen is not None:
                counts = {key: counts[key] for key in counts.keys() & set(chosen)}
            if counts:
                of_institution = recordings.setdefault(shard.institution, {})
                of_institution[split] = of_institution.get(split, 0) + sum(counts.values())
                patients |= counts.keys()
    return LearntFrom(recordings, frozenset(patients))


def steps_per_epoch(
    manifest: Manifest,
    batch_size: int,
    labelled: bool,
    *,
    splits: Sequence[str] = (TRAIN,),
    label_fraction: float = 1.0,
    seed: int = 0,
) -> int:
    """Whole batches in one pass over some splits of the institutions that are not external, or over labelled ones.

    With a `label_fraction` under 1, over those of this share of the patients, see `labelled_patients`.

    Raises:
        DatasetError: there is not one, or the share of patients has not both labels.
    """
    if label_fraction < 1:
        records = labelled_patients(manifest, label_fraction, seed).recordings
    else:
        records = count_recordings(training_shards(manifest, labelled, splits), labelled)
    if records < batch_size:
        flag = "finetune_batch_size" if labelled else "pretrain_batch_size"
        more = "raise --finetune_label_fraction" if label_fraction < 1 else "prepare more recordings"
        raise DatasetError(
            f"{manifest.path}: Expected at least one batch of {batch_size} {'labelled ' if labelled else ''}recordings "
            f"to train on. Received {records}: lower --{flag} or {more}."
        )
    return records // batch_size


def training_shards(manifest: Manifest, labelled: bool, splits: Sequence[str]) -> list[Shard]:
    """The shards with a recording, or with a labelled one, to train on; none of an external institution."""
    return [
        shard
        for shard in manifest.shards
        if shard.split in splits
        and shard.institution not in manifest.external_institutions
        and (shard.labelled if labelled else shard.records)
    ]


def count_recordings(shards: Sequence[Shard], labelled: bool) -> int:
    """Of some shards, all or the labelled ones."""
    return sum(shard.labelled if labelled else shard.records for shard in shards)


def record_reader(folder: str) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """What gives a shard's serialized records by its path, for shards in a folder or at an address."""
    open_as = storage_of(folder).for_tensorflow if is_remote(folder) else tf.convert_to_tensor
    return lambda path: tf.data.TFRecordDataset(open_as(path), buffer_size=_READ_BUFFER_BYTES)


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with the parallelism it was given: the end of an iterator waits up to a minute for the autotuner."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


# Every learning rate asks several times, and shards hold gigabytes of samples beside their labels.
@cache
def _patients(path: str, sha256: str) -> dict[str, tuple[int, int, int]]:
    """Patient key -> recordings of a shard, labelled ones, and positive ones; the checksum is there to cache by."""
    records = record_reader(path)(path)
    batches = records.batch(_COUNTED_AT_ONCE).map(lambda serialized: decode(serialized, ("patient_key", "label")))
    counts: dict[str, tuple[int, int, int]] = {}
    for batch in without_autotuning(batches).as_numpy_iterator():
        for key, label in zip(batch["patient_key"].tolist(), batch["label"].tolist(), strict=True):
            recordings, labelled, positives = counts.get(key.decode(), (0, 0, 0))
            counts[key.decode()] = (recordings + 1, labelled + (label >= 0), positives + (label == 1))
    return counts
