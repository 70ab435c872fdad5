"""Reading a dataset as tf.data: batches to learn from and batches to evaluate on.

What is drawn for a recording depends on the seed, the epoch and the recording's id alone: not on the batch size, the
order, the number of replicas, or where a run was resumed.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.dataset import schema
from keras_ecg_mae.dataset.manifest import Manifest, Shard
from keras_ecg_mae.dataset.split import TRAIN
from keras_ecg_mae.dataset.storage import sha256
from keras_ecg_mae.errors import DatasetError

# 0.5 GB of serialized recordings, enough to mix sixteen shards of the default size well.
SHUFFLED_RECORDS = 4096
SHARDS_AT_ONCE = 16
_READ_BUFFER_BYTES = 1024 * 1024
_VERIFYING_THREADS = 8
_BATCHES_AHEAD = 2


def verify(manifest: Manifest) -> None:
    """Compares every shard with its checksum.

    Raises:
        DatasetError: a shard cannot be read or differs; names the file.
    """

    def check(shard: Shard) -> None:
        path = manifest.shard_path(shard)
        try:
            received = sha256(path)
        except tf.errors.OpError as error:
            raise DatasetError(f"{path}: Expected a readable shard. Received: {error.message}.") from error
        if received != shard.sha256:
            raise DatasetError(
                f"{path}: Expected the SHA-256 {shard.sha256}. Received {received}: the shard is damaged, copy it or "
                "prepare the dataset again."
            )

    with ThreadPoolExecutor(_VERIFYING_THREADS) as threads:
        list(threads.map(check, manifest.shards))


def steps_per_epoch(manifest: Manifest, batch_size: int, labelled: bool) -> int:
    """Whole batches in one pass over the training split, or over its labelled recordings.

    Raises:
        DatasetError: there is not one.
    """
    records = manifest.count(TRAIN, labelled=True if labelled else None)
    if records < batch_size:
        flag = "finetune_batch_size" if labelled else "pretrain_batch_size"
        raise DatasetError(
            f"{manifest.path}: Expected at least one batch of {batch_size} {'labelled ' if labelled else ''}recordings "
            f"to train on. Received {records}: lower --{flag} or prepare more recordings."
        )
    return records // batch_size


def training_batches(
    manifest: Manifest,
    *,
    batch_size: int,
    epochs: int,
    first_epoch: int = 0,
    seed: int,
    labelled: bool,
    time_shift: bool = False,
    mask_noise: bool = False,
) -> tf.data.Dataset:
    """Shuffled batches of the training split over all epochs, `steps_per_epoch` of them an epoch.

    Args:
        manifest: the dataset.
        batch_size: recordings a batch; what does not fill one at an epoch's end is left out of that epoch.
        epochs: the epoch to end before, counted from 0.
        first_epoch: the epoch to begin with: what follows is what an uninterrupted run would see.
        seed: of order, masks and shifts.
        labelled: take labelled recordings only, and give their label.
        time_shift: rotate each recording by a time of its own, all leads together.
        mask_noise: give numbers to choose the masked patches by.

    Returns:
        Dicts of `ecg` `(batch, 12, 5000)` float32 mV, `record_id` `(batch,)` string, `label` `(batch,)` float32 if
        labelled, `mask_noise` `(batch, 240)` float32 in [0, 1) if asked for.

    Raises:
        DatasetError: the split does not fill one batch.
    """
    steps = steps_per_epoch(manifest, batch_size, labelled)
    shards = [
        shard for shard in manifest.shards if shard.split == TRAIN and (shard.labelled if labelled else shard.records)
    ]
    paths = [manifest.shard_path(shard) for shard in shards]
    buffer = min(manifest.count(TRAIN, labelled=True if labelled else None), SHUFFLED_RECORDS)
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
        # Recordings are shuffled before they are decoded, at half the memory.
        records = records.shuffle(buffer, seed=epoch_seed, reshuffle_each_iteration=False)
        return records.batch(batch_size, drop_remainder=True).map(lambda serialized: (epoch, serialized))

    def decode(epoch: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = schema.decode(serialized, names)
        if mask_noise or time_shift:
            noise, shift = _draw(batch["record_id"], seed, epoch)
            if mask_noise:
                batch["mask_noise"] = noise
            if time_shift:
                batch["ecg"] = _rotate(batch["ecg"], shift)
        return batch

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(read_epoch)
    batches = batches.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps * max(0, epochs - first_epoch)))
    return batches.prefetch(_BATCHES_AHEAD)


def evaluation_batches(
    manifest: Manifest,
    splits: Sequence[str],
    *,
    batch_size: int,
    labelled: bool,
    mask_noise_seed: int | None = None,
) -> tf.data.Dataset:
    """Every recording of some splits once, in the manifest's order; the last batch may be smaller.

    Args:
        manifest: the dataset.
        splits: the splits to read.
        batch_size: recordings a batch.
        labelled: take labelled recordings only, and give their label.
        mask_noise_seed: give numbers to choose masked patches by, the same whenever the seed is.

    Returns:
        Dicts of `ecg` `(batch, 12, 5000)` float32 mV; `record_id`, `patient_key`, `institution`, `split` `(batch,)`
        strings; `label` `(batch,)` float32 if labelled; `mask_noise` `(batch, 240)` float32 in [0, 1) if seeded.
    """
    shards = [shard for shard in manifest.shards if shard.split in splits]
    paths = tf.constant([manifest.shard_path(shard) for shard in shards], tf.string)
    names = ["ecg", "record_id", "patient_key", "institution", *(["label"] if labelled else [])]

    def read_shard(path: tf.Tensor, split: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES)
        if labelled:
            records = records.filter(schema.is_labelled)
        return records.map(lambda serialized: (serialized, split))

    def decode(serialized: tf.Tensor, split: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = schema.decode(serialized, names) | {"split": split}
        if mask_noise_seed is not None:
            batch["mask_noise"], _ = _draw(batch["record_id"], mask_noise_seed, tf.constant(0, tf.int64))
        return batch

    files = tf.data.Dataset.from_tensor_slices((paths, tf.constant([shard.split for shard in shards], tf.string)))
    batches = files.flat_map(read_shard).batch(batch_size)
    return batches.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(_BATCHES_AHEAD)


def _epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """One number, int64, of the run's seed and the epoch."""
    both = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.stateless_uniform([], both, minval=None, maxval=None, dtype=tf.int64)


def _draw(record_id: tf.Tensor, seed: int, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws for each recording `(batch,)` of an epoch: mask noise `(batch, 240)` in [0, 1), and a shift `(batch,)`."""
    epoch_seed = _epoch_seed(seed, epoch)
    record_seed = tf.strings.to_hash_bucket_fast(record_id, 2**63 - 1)
    draws = tf.map_fn(
        lambda one: tf.random.stateless_uniform([spec.PATCHES + 1], seed=tf.stack([one, epoch_seed])),
        record_seed,
        fn_output_signature=tf.TensorSpec((spec.PATCHES + 1,), tf.float32),
    )
    shift = tf.cast(draws[:, -1] * spec.SAMPLES, tf.int32)
    return draws[:, :-1], shift


def _rotate(ecg: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Rotates each recording of `(batch, 12, 5000)` to the right by its own number of samples `(batch,)`."""
    # Three times as fast as one gather over the batch, which goes sample by sample.
    return tf.map_fn(
        lambda one: tf.roll(one[0], one[1], axis=1),
        (ecg, shift),
        fn_output_signature=tf.TensorSpec((len(spec.LEADS), spec.SAMPLES), tf.float32),
    )
