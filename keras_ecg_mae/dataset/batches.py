"""Reading a dataset as tf.data: batches to learn from and batches to evaluate on.

What is drawn for a recording depends on the seed, the epoch and the recording's id alone: not on the batch size, the
order, the number of replicas, or where a run was resumed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.cohort.split import TRAIN
from keras_ecg_mae.dataset.example import decode, is_labelled
from keras_ecg_mae.dataset.manifest import Manifest
from keras_ecg_mae.dataset.selection import (
    LabelledPatients,
    count_recordings,
    labelled_patients,
    record_reader,
    steps_per_epoch,
    training_shards,
    without_autotuning,
)

# 0.5 GB of serialized recordings, enough to mix sixteen shards of the default size well.
SHUFFLED_RECORDS = 4096
SHARDS_AT_ONCE = 16
# One call decodes some thousand recordings a second.
_PARALLEL_CALLS = 4
_BATCHES_AHEAD = 2
# SplitMix64: the step from one state to the next, and the two factors of its output (Steele, Lea & Flood, "Fast
# splittable pseudorandom number generators", OOPSLA 2014).
_STEP, _FACTORS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Draws:
    """What is drawn for each recording of an epoch.

    Attributes:
        time_shift: rotate the recording by a time of its own, all leads together.
        mask_noise: give numbers to choose the masked patches by.
        path_noise: blocks to give numbers for, to choose the dropped branches by (stochastic depth).
    """

    time_shift: bool = False
    mask_noise: bool = False
    path_noise: int = 0


@dataclass(frozen=True)
class Portion:
    """Which of a training's batches to give: from where on, and the parts of each that some replicas take.

    Attributes:
        epoch: the epoch to begin with, counted from 0: what follows is what an uninterrupted run would see.
        step: the step of that epoch to begin with.
        replicas: equal parts that a batch is split into, one for each replica of the training.
        own_replicas: which of these parts to give, one after the other, in the place of whole batches. Every worker
            reads all recordings, since they are shuffled together, and decodes its own.
    """

    epoch: int = 0
    step: int = 0
    replicas: int = 1
    own_replicas: range = range(1)


_NO_DRAWS, _WHOLE = Draws(), Portion()


def training_batches(
    manifest: Manifest,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    labelled: bool,
    splits: Sequence[str] = (TRAIN,),
    label_fraction: float = 1.0,
    draws: Draws = _NO_DRAWS,
    portion: Portion = _WHOLE,
) -> tf.data.Dataset:
    """Shuffled batches of some splits over all epochs, `steps_per_epoch` of them an epoch.

    No recording of an external institution is in them, whichever the splits.

    Args:
        manifest: the dataset.
        batch_size: recordings a batch; what does not fill one at an epoch's end is left out of that epoch.
        epochs: the epoch to end before, counted from 0.
        seed: of order, draws, and of the patients that `label_fraction` leaves.
        labelled: take labelled recordings only, and give their label.
        splits: which ones to learn from.
        label_fraction: take those of this share of the patients only, see `labelled_patients`.
        draws: what is drawn for each recording.
        portion: from where on to give which parts of the batches.

    Returns:
        Dicts of `ecg` `(batch, 12, 5000)` float32 mV, `record_id` `(batch,)` string, `label` `(batch,)` float32 if
        labelled, and if asked for, `mask_noise` `(batch, 240)` and `path_noise` `(batch, blocks, 2)` float32 in [0, 1).

    Raises:
        DatasetError: the splits do not fill one batch, or the share of patients has not both labels.
    """
    steps = steps_per_epoch(manifest, batch_size, labelled, splits=splits, label_fraction=label_fraction, seed=seed)
    shards = training_shards(manifest, labelled, splits)
    paths = [manifest.shard_path(shard) for shard in shards]
    buffer = min(count_recordings(shards, labelled), SHUFFLED_RECORDS)
    patients = labelled_patients(manifest, label_fraction, seed) if label_fraction < 1 else None
    choose, read = _chooser(labelled, patients), record_reader(manifest.folder)
    names = ["ecg", "record_id", *(["label"] if labelled else [])]
    own = portion.own_replicas

    def read_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # The seed of this function's graph alone: else the process's own seed would change the order as well.
        tf.random.set_seed(1)
        epoch_seed = _epoch_seed(seed, epoch)
        order = tf.random.experimental.stateless_shuffle(tf.constant(paths), tf.stack([epoch_seed, epoch]))
        cycle = min(SHARDS_AT_ONCE, len(paths))
        records = tf.data.Dataset.from_tensor_slices(order).interleave(
            read,
            cycle_length=cycle,
            num_parallel_calls=min(_PARALLEL_CALLS, cycle),
            deterministic=True,
        )
        # Recordings are shuffled before they are decoded, at half the memory.
        records = choose(records).shuffle(buffer, seed=epoch_seed, reshuffle_each_iteration=False)
        done = tf.where(epoch == portion.epoch, tf.constant(portion.step, tf.int64), 0)
        whole = records.batch(batch_size, drop_remainder=True).skip(done)
        if portion.replicas > 1:  # which copies every recording
            whole = whole.map(
                lambda serialized: tf.reshape(serialized, (portion.replicas, -1))[own.start : own.stop]
            ).unbatch()
        return whole.map(lambda serialized: (epoch, tf.ensure_shape(serialized, (batch_size // portion.replicas,))))

    def decode_and_draw(epoch: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        def shifts(record_id: tf.Tensor) -> tf.Tensor:
            return tf.cast(_draw(record_id, seed, epoch, "shift", ()) * spec.SAMPLES, tf.int32)

        batch = decode(serialized, names, shifts if draws.time_shift else None)
        if draws.mask_noise:
            batch["mask_noise"] = _draw(batch["record_id"], seed, epoch, "mask", (spec.PATCHES,))
        if draws.path_noise:
            batch["path_noise"] = _draw(batch["record_id"], seed, epoch, "path", (draws.path_noise, 2))
        return batch

    # One epoch after the other, but in threads of their own: where one ends, the next has its shuffled records ready.
    batches = tf.data.Dataset.range(portion.epoch, epochs).interleave(
        read_epoch, cycle_length=1, num_parallel_calls=1, deterministic=True
    )
    batches = batches.map(decode_and_draw, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    left = max(0, steps * (epochs - portion.epoch) - portion.step)
    batches = batches.apply(tf.data.experimental.assert_cardinality(left * len(own)))
    return without_autotuning(batches.prefetch(_BATCHES_AHEAD))


def evaluation_batches(
    manifest: Manifest,
    splits: Sequence[str],
    *,
    batch_size: int,
    labelled: bool,
    patients: LabelledPatients | None = None,
    mask_noise_seed: int | None = None,
    columns: Sequence[str] = (),
) -> tf.data.Dataset:
    """Every recording of some splits once, in the manifest's order; the last batch may be smaller.

    Args:
        manifest: the dataset.
        splits: the splits to read.
        batch_size: recordings a batch.
        labelled: take labelled recordings only, and give their label.
        patients: take the recordings of these only.
        mask_noise_seed: give numbers to choose masked patches by, the same whenever the seed is.
        columns: what else to give of each recording: of `lvef`, `age` and `sex`, as `decode` gives them.

    Returns:
        Dicts of `ecg` `(batch, 12, 5000)` float32 mV; `record_id`, `patient_key`, `institution`, `split` `(batch,)`
        strings; `label` `(batch,)` float32 if labelled; `mask_noise` `(batch, 240)` float32 in [0, 1) if seeded.
    """
    shards = [shard for shard in manifest.shards if shard.split in splits]
    paths = tf.constant([manifest.shard_path(shard) for shard in shards], tf.string)
    names = ["ecg", "record_id", "patient_key", "institution", *(["label"] if labelled else []), *columns]
    choose, read = _chooser(labelled, patients), record_reader(manifest.folder)

    def read_shard(path: tf.Tensor, split: tf.Tensor) -> tf.data.Dataset:
        records = choose(read(path))
        return records.map(lambda serialized: (serialized, split))

    def decode_and_draw(serialized: tf.Tensor, split: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = decode(serialized, names) | {"split": split}
        if mask_noise_seed is not None:
            epoch = tf.constant(0, tf.int64)
            batch["mask_noise"] = _draw(batch["record_id"], mask_noise_seed, epoch, "mask", (spec.PATCHES,))
        return batch

    files = tf.data.Dataset.from_tensor_slices((paths, tf.constant([shard.split for shard in shards], tf.string)))
    batches = files.flat_map(read_shard).batch(batch_size)
    batches = batches.map(decode_and_draw, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
    return without_autotuning(batches.prefetch(_BATCHES_AHEAD))


def _chooser(labelled: bool, patients: LabelledPatients | None) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """A function: serialized tf.Examples -> the labelled ones among them, if wanted, or those of these patients."""
    chosen: tf.lookup.StaticHashTable | None = None
    if patients is not None:
        keys = tf.constant(patients.keys)
        entries = tf.lookup.KeyValueTensorInitializer(keys, tf.ones_like(keys, tf.bool))
        chosen = tf.lookup.StaticHashTable(entries, default_value=False)

    def choose(records: tf.data.Dataset) -> tf.data.Dataset:
        if labelled:
            records = records.filter(is_labelled)
        if chosen is not None:
            records = records.filter(
                lambda serialized: chosen.lookup(decode(serialized[tf.newaxis], ["patient_key"])["patient_key"])[0]
            )
        return records

    return choose


def _epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """One number, int64, of the run's seed and the epoch."""
    both = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.stateless_uniform([], both, minval=None, maxval=None, dtype=tf.int64)


def _draw(record_id: tf.Tensor, seed: int, epoch: tf.Tensor, purpose: str, shape: tuple[int, ...]) -> tf.Tensor:
    """Numbers in [0, 1) for each recording `(batch,)` of an epoch, `(batch, *shape)`, independent between purposes.

    A recording's numbers are an output of SplitMix64 each, from a state that is a hash of what decides them.
    """
    text = tf.strings.join([f"{purpose} {seed}", tf.strings.as_string(epoch), record_id], " ")
    state = tf.cast(tf.strings.to_hash_bucket_fast(text, 2**63 - 1), tf.uint64)
    # As an array: TensorFlow 2.21 takes a list of integers above 2^63 by way of float64 where it builds a graph.
    steps = tf.constant(np.array([place * _STEP % 2**64 for place in range(1, math.prod(shape) + 1)], np.uint64))
    bits = state[:, tf.newaxis] + steps  # (batch, numbers of a recording)
    for shift, factor in _FACTORS:
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)))
        bits *= tf.constant(factor, tf.uint64)
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(31, tf.uint64)))
    # The 24 highest bits, which float32 holds.
    share = tf.cast(tf.bitwise.right_shift(bits, tf.constant(40, tf.uint64)), tf.float32) * 2.0**-24
    return tf.reshape(share, (-1, *shape))
