"""Reading a dataset as tf.data: batches to learn from and batches to evaluate on.

What is drawn for a recording depends on the seed, the epoch and the recording's id alone: not on the batch size, the
order, the number of replicas, or where a run was resumed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.cohort.split import TRAIN, hashed_order
from keras_ecg_mae.dataset import schema
from keras_ecg_mae.dataset.manifest import Manifest, Shard
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import sha256

# 0.5 GB of serialized recordings, enough to mix sixteen shards of the default size well.
SHUFFLED_RECORDS = 4096
SHARDS_AT_ONCE = 16
_READ_BUFFER_BYTES = 1024 * 1024
_VERIFYING_THREADS = 8
_BATCHES_AHEAD = 2
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


def labelled_patients(manifest: Manifest, fraction: float, seed: int, split: str = TRAIN) -> LabelledPatients:
    """A share of a split's patients with a label, drawn by patient key and seed alone.

    Patients with a positive recording and patients without are drawn apart, the share of each rounded to the nearest
    whole number. With the same seed, those of a smaller share are among those of a larger one. The first time for a
    dataset, the split's labelled shards are read for their labels.

    Raises:
        DatasetError: these patients' recordings have not both labels.
    """
    counts: dict[str, tuple[int, int]] = {}
    for shard in _training_shards(manifest, True, [split]):
        for key, (_, recordings, positives) in _patients(manifest, shard).items():
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
        for shard in _training_shards(manifest, labelled, [split]):
            counts = {key: count[labelled] for key, count in _patients(manifest, shard).items() if count[labelled]}
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
        records = _count(_training_shards(manifest, labelled, splits), labelled)
    if records < batch_size:
        flag = "finetune_batch_size" if labelled else "pretrain_batch_size"
        more = "raise --finetune_label_fraction" if label_fraction < 1 else "prepare more recordings"
        raise DatasetError(
            f"{manifest.path}: Expected at least one batch of {batch_size} {'labelled ' if labelled else ''}recordings "
            f"to train on. Received {records}: lower --{flag} or {more}."
        )
    return records // batch_size


def training_batches(
    manifest: Manifest,
    *,
    batch_size: int,
    epochs: int,
    first_epoch: int = 0,
    first_step: int = 0,
    seed: int,
    labelled: bool,
    splits: Sequence[str] = (TRAIN,),
    label_fraction: float = 1.0,
    time_shift: bool = False,
    mask_noise: bool = False,
    path_noise: int = 0,
    replicas: int = 1,
    own_replicas: range = range(1),
) -> tf.data.Dataset:
    """Shuffled batches of some splits over all epochs, `steps_per_epoch` of them an epoch.

    No recording of an external institution is in them, whichever the splits.

    Args:
        manifest: the dataset.
        batch_size: recordings a batch; what does not fill one at an epoch's end is left out of that epoch.
        epochs: the epoch to end before, counted from 0.
        first_epoch: the epoch to begin with: what follows is what an uninterrupted run would see.
        first_step: the step of that epoch to begin with.
        seed: of order, masks, shifts, and of the patients that `label_fraction` leaves.
        labelled: take labelled recordings only, and give their label.
        splits: which ones to learn from.
        label_fraction: take those of this share of the patients only, see `labelled_patients`.
        time_shift: rotate each recording by a time of its own, all leads together.
        mask_noise: give numbers to choose the masked patches by.
        path_noise: blocks to give numbers for, to choose the dropped branches by (stochastic depth).
        replicas: equal parts that a batch is split into, one for each replica of the training.
        own_replicas: which of these parts to give, one after the other, in the place of whole batches. Every worker
            reads all recordings, since they are shuffled together, and decodes its own.

    Returns:
        Dicts of `ecg` `(batch, 12, 5000)` float32 mV, `record_id` `(batch,)` string, `label` `(batch,)` float32 if
        labelled, and if asked for, `mask_noise` `(batch, 240)` and `path_noise` `(batch, blocks, 2)` float32 in [0, 1).

    Raises:
        DatasetError: the splits do not fill one batch, or the share of patients has not both labels.
    """
    steps = steps_per_epoch(manifest, batch_size, labelled, splits=splits, label_fraction=label_fraction, seed=seed)
    shards = _training_shards(manifest, labelled, splits)
    paths = [manifest.shard_path(shard) for shard in shards]
    buffer = min(_count(shards, labelled), SHUFFLED_RECORDS)
    is_chosen = _among(labelled_patients(manifest, label_fraction, seed)) if label_fraction < 1 else None
    names = ["ecg", "record_id", *(["label"] if labelled else [])]

    def read_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # The seed of this function's graph alone: else the process's own seed would change the order as well.
        tf.random.set_seed(1)
        epoch_seed = _epoch_seed(seed, epoch)
        order = tf.random.experimental.stateless_shuffle(tf.constant(paths), tf.stack([epoch_seed, epoch]))
        records = tf.data.Dataset.from_tensor_slices(order).interleave(
            lambda path: tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES),
            cycle_length=min(SHARDS_AT_ONCE, len(paths)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if labelled:
            records = records.filter(schema.is_labelled)
        if is_chosen is not None:
            records = records.filter(is_chosen)
        # Recordings are shuffled before they are decoded, at half the memory.
        records = records.shuffle(buffer, seed=epoch_seed, reshuffle_each_iteration=False)
        done = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0)
        whole = records.batch(batch_size, drop_remainder=True).skip(done)
        parts = whole.map(
            lambda serialized: tf.reshape(serialized, (replicas, -1))[own_replicas.start : own_replicas.stop]
        ).unbatch()
        return parts.map(lambda serialized: (epoch, tf.ensure_shape(serialized, (batch_size // replicas,))))

    def decode(epoch: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = schema.decode(serialized, names)
        if mask_noise:
            batch["mask_noise"] = _draw(batch["record_id"], seed, epoch, "mask", (spec.PATCHES,))
        if time_shift:
            batch["ecg"] = _rotate(batch["ecg"], _draw(batch["record_id"], seed, epoch, "shift", ()))
        if path_noise:
            batch["path_noise"] = _draw(batch["record_id"], seed, epoch, "path", (path_noise, 2))
        return batch

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(read_epoch)
    batches = batches.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.apply(
        tf.data.experimental.assert_cardinality(max(0, steps * (epochs - first_epoch) - first_step) * len(own_replicas))
    )
    return batches.prefetch(_BATCHES_AHEAD)


def evaluation_batches(
    manifest: Manifest,
    splits: Sequence[str],
    *,
    batch_size: int,
    labelled: bool,
    patients: LabelledPatients | None = None,
    mask_noise_seed: int | None = None,
) -> tf.data.Dataset:
    """Every recording of some splits once, in the manifest's order; the last batch may be smaller.

    Args:
        manifest: the dataset.
        splits: the splits to read.
        batch_size: recordings a batch.
        labelled: take labelled recordings only, and give their label.
        patients: take the recordings of these only.
        mask_noise_seed: give numbers to choose masked patches by, the same whenever the seed is.

    Returns:
        Dicts of `ecg` `(batch, 12, 5000)` float32 mV; `record_id`, `patient_key`, `institution`, `split` `(batch,)`
        strings; `label` `(batch,)` float32 if labelled; `mask_noise` `(batch, 240)` float32 in [0, 1) if seeded.
    """
    shards = [shard for shard in manifest.shards if shard.split in splits]
    paths = tf.constant([manifest.shard_path(shard) for shard in shards], tf.string)
    names = ["ecg", "record_id", "patient_key", "institution", *(["label"] if labelled else [])]
    is_chosen = _among(patients) if patients else None

    def read_shard(path: tf.Tensor, split: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES)
        if labelled:
            records = records.filter(schema.is_labelled)
        if is_chosen is not None:
            records = records.filter(is_chosen)
        return records.map(lambda serialized: (serialized, split))

    def decode(serialized: tf.Tensor, split: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = schema.decode(serialized, names) | {"split": split}
        if mask_noise_seed is not None:
            epoch = tf.constant(0, tf.int64)
            batch["mask_noise"] = _draw(batch["record_id"], mask_noise_seed, epoch, "mask", (spec.PATCHES,))
        return batch

    files = tf.data.Dataset.from_tensor_slices((paths, tf.constant([shard.split for shard in shards], tf.string)))
    batches = files.flat_map(read_shard).batch(batch_size)
    return batches.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(_BATCHES_AHEAD)


def _training_shards(manifest: Manifest, labelled: bool, splits: Sequence[str]) -> list[Shard]:
    """The shards with a recording, or with a labelled one, to train on; none of an external institution."""
    return [
        shard
        for shard in manifest.shards
        if shard.split in splits
        and shard.institution not in manifest.external_institutions
        and (shard.labelled if labelled else shard.records)
    ]


def _count(shards: Sequence[Shard], labelled: bool) -> int:
    return sum(shard.labelled if labelled else shard.records for shard in shards)


def _patients(manifest: Manifest, shard: Shard) -> dict[str, tuple[int, int, int]]:
    """Patient key -> recordings, labelled ones, and positive ones."""
    return _read_patients(manifest.shard_path(shard), shard.sha256)


# Every learning rate asks several times, and shards hold gigabytes of samples beside their labels.
@cache
def _read_patients(path: str, sha256: str) -> dict[str, tuple[int, int, int]]:
    """As `_patients`; the checksum is there to cache by."""
    records = tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES)
    batches = records.batch(_COUNTED_AT_ONCE).map(
        lambda serialized: schema.decode(serialized, ("patient_key", "label"))
    )
    counts: dict[str, tuple[int, int, int]] = {}
    for batch in batches.as_numpy_iterator():
        for key, label in zip(batch["patient_key"].tolist(), batch["label"].tolist(), strict=True):
            recordings, labelled, positives = counts.get(key.decode(), (0, 0, 0))
            counts[key.decode()] = (recordings + 1, labelled + (label >= 0), positives + (label == 1))
    return counts


def _among(patients: LabelledPatients) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function: one serialized tf.Example, a scalar string -> whether it is of one of these patients."""
    keys = tf.constant(patients.keys)
    chosen = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, tf.ones_like(keys, tf.bool)), default_value=False
    )
    return lambda serialized: chosen.lookup(schema.decode(serialized[tf.newaxis], ["patient_key"])["patient_key"])[0]


def _epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """One number, int64, of the run's seed and the epoch."""
    both = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.stateless_uniform([], both, minval=None, maxval=None, dtype=tf.int64)


def _draw(record_id: tf.Tensor, seed: int, epoch: tf.Tensor, purpose: str, shape: tuple[int, ...]) -> tf.Tensor:
    """Numbers in [0, 1) for each recording `(batch,)` of an epoch, `(batch, *shape)`, independent between purposes."""
    epoch_seed = _epoch_seed(seed, epoch)
    record_seed = tf.strings.to_hash_bucket_fast(tf.strings.join([purpose, record_id], " "), 2**63 - 1)
    return tf.map_fn(
        lambda one: tf.random.stateless_uniform(shape, seed=tf.stack([one, epoch_seed])),
        record_seed,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )


def _rotate(ecg: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Rotates each recording of `(batch, 12, 5000)` to the right by its own share `(batch,)` of its length."""
    shift = tf.cast(share * spec.SAMPLES, tf.int32)
    # Three times as fast as one gather over the batch, which goes sample by sample.
    return tf.map_fn(
        lambda one: tf.roll(one[0], one[1], axis=1),
        (ecg, shift),
        fn_output_signature=tf.TensorSpec((len(spec.LEADS), spec.SAMPLES), tf.float32),
    )
