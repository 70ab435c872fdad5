"""Reading: every draw depends on seed, epoch and record alone."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae import spec
from keras_ecg_mae.cohort.description import Count
from keras_ecg_mae.dataset import (
    LabelledPatients,
    Manifest,
    evaluation_batches,
    labelled_patients,
    steps_per_epoch,
    training_batches,
)
from keras_ecg_mae.dataset.manifest import Shard
from keras_ecg_mae.dataset.schema import Metadata, encode
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import sha256

Batches = list[dict[str, np.ndarray]]


def read(dataset: Manifest, **settings: Any) -> Batches:
    settings = {"batch_size": 16, "epochs": 2, "seed": 3, "labelled": False} | settings
    return list(training_batches(dataset, **settings).as_numpy_iterator())


def names(batches: Batches) -> list[bytes]:
    return [name for batch in batches for name in batch["record_id"].tolist()]


def by_record(batches: Batches, key: str) -> dict[bytes, np.ndarray]:
    return {
        name: value for batch in batches for name, value in zip(batch["record_id"].tolist(), batch[key], strict=True)
    }


def assert_same(first: Batches, second: Batches) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_an_epoch_is_each_record_once_but_for_the_rest(dataset: Manifest) -> None:
    steps = steps_per_epoch(dataset, 16, labelled=False)
    batches = read(dataset)
    assert steps == 9
    assert len(batches) == 2 * steps
    for epoch in (batches[:steps], batches[steps:]):
        assert len(set(names(epoch))) == steps * 16
        assert {name.decode() for name in names(epoch)} <= {f"record-{number}" for number in range(150)}
    assert names(batches[:steps]) != names(batches[steps:])


def test_signals_and_shapes(dataset: Manifest) -> None:
    training = training_batches(dataset, batch_size=16, epochs=1, seed=0, labelled=True, mask_noise=True)
    assert int(training.cardinality()) == 6
    shapes = {name: (tuple(each.shape), each.dtype) for name, each in training.element_spec.items()}
    assert shapes == {
        "ecg": ((16, 12, 5000), tf.float32),
        "record_id": ((16,), tf.string),
        "label": ((16,), tf.float32),
        "mask_noise": ((16, 240), tf.float32),
    }
    for batch in training.as_numpy_iterator():
        numbers = np.array([int(name.decode().split("-")[1]) for name in batch["record_id"]])
        expected = (numbers[:, np.newaxis, np.newaxis] + np.arange(5000) + np.zeros((12, 1))) * 1e-3
        np.testing.assert_allclose(batch["ecg"], expected, atol=1e-6)
        np.testing.assert_array_equal(batch["label"], numbers % 3)


@pytest.mark.parametrize("splits", [("train",), ("train", "validation", "test"), ("test",)])
def test_splits_are_learnt_from_whole_and_external_institutions_never(
    simulated: Manifest, splits: tuple[str, ...]
) -> None:
    seen = read(simulated, batch_size=1, epochs=1, splits=splits)
    every = evaluation_batches(simulated, splits, batch_size=64, labelled=False).as_numpy_iterator()
    institutions = {
        name: institution.decode()
        for batch in every
        for name, institution in zip(batch["record_id"], batch["institution"], strict=True)
    }
    own = [name for name, institution in institutions.items() if institution not in simulated.external_institutions]
    assert sorted(names(seen)) == sorted(own)
    assert len(own) < len(institutions) or "test" not in splits


def test_labelled_only_has_labelled_only(dataset: Manifest) -> None:
    batches = read(dataset, batch_size=10, epochs=1, labelled=True)
    assert len(set(names(batches))) == 100
    assert set(np.concatenate([batch["label"] for batch in batches])) == {0.0, 1.0}


def test_the_same_seed_gives_the_same_batches_whatever_the_process_seed(dataset: Manifest) -> None:
    tf.random.set_seed(1)
    first = read(dataset, time_shift=True, mask_noise=True)
    tf.random.set_seed(2)
    assert_same(first, read(dataset, time_shift=True, mask_noise=True))
    assert names(first) != names(read(dataset, seed=4))


def test_resuming_gives_the_tail_of_the_whole(dataset: Manifest) -> None:
    whole = read(dataset, epochs=4, time_shift=True, mask_noise=True)
    tail = read(dataset, epochs=4, first_epoch=2, time_shift=True, mask_noise=True)
    assert_same(whole[18:], tail)


def test_nothing_is_left_to_do_after_the_last_epoch(dataset: Manifest) -> None:
    assert read(dataset, epochs=2, first_epoch=2) == []


def test_draws_do_not_depend_on_the_batch_size(dataset: Manifest) -> None:
    small = read(dataset, batch_size=5, epochs=1, time_shift=True, mask_noise=True)
    large = read(dataset, batch_size=50, epochs=1, time_shift=True, mask_noise=True)
    assert sorted(names(small)) == sorted(names(large))
    for key in ("ecg", "mask_noise"):
        one, other = by_record(small, key), by_record(large, key)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_mask_noise_is_uniform_and_differs_by_record_epoch_and_seed(dataset: Manifest) -> None:
    first, second = (
        read(dataset, batch_size=50, mask_noise=True, first_epoch=epoch, epochs=epoch + 1) for epoch in (0, 1)
    )
    other_seed = read(dataset, batch_size=50, mask_noise=True, epochs=1, seed=4)
    noise = np.concatenate([batch["mask_noise"] for batch in first])
    assert noise.shape == (150, 240)
    assert 0 <= noise.min() < 0.001
    assert 0.999 < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 0.01
    assert len(np.unique(noise, axis=0)) == 150
    one = by_record(first, "mask_noise")
    for others in (by_record(second, "mask_noise"), by_record(other_seed, "mask_noise")):
        assert all((one[name] != others[name]).mean() > 0.99 for name in one)


def test_time_shift_rotates_all_leads_together(dataset: Manifest) -> None:
    plain = by_record(read(dataset, batch_size=50, epochs=1), "ecg")
    shifted = by_record(read(dataset, batch_size=50, epochs=1, time_shift=True), "ecg")
    shifts = []
    for name, ecg in plain.items():
        # The signal rises, so it starts where its lowest sample is.
        shifts.append(int(shifted[name][0].argmin()))
        np.testing.assert_array_equal(shifted[name], np.roll(ecg, shifts[-1], axis=1))
    spec = training_batches(dataset, batch_size=50, epochs=1, seed=3, labelled=False, time_shift=True).element_spec
    assert tuple(spec["ecg"].shape) == (50, 12, 5000)
    # Uniform over 5000: 150 draws reach into the first and the last tenth, and few coincide.
    assert min(shifts) < 500
    assert max(shifts) >= 4500
    assert len(set(shifts)) > 130


def test_too_few_records_for_a_batch(dataset: Manifest) -> None:
    with pytest.raises(DatasetError, match=r"one batch of 151 recordings .* Received 150: lower --pretrain_batch_size"):
        training_batches(dataset, batch_size=151, epochs=1, seed=0, labelled=False)
    with pytest.raises(DatasetError, match=r"of 101 labelled recordings .* Received 100: lower --finetune_batch_size"):
        training_batches(dataset, batch_size=101, epochs=1, seed=0, labelled=True)


def test_evaluation_reads_every_record_in_order(dataset: Manifest) -> None:
    batches = list(evaluation_batches(dataset, ["validation"], batch_size=8, labelled=False).as_numpy_iterator())
    assert [len(batch["ecg"]) for batch in batches] == [8, 8, 4]
    assert names(batches) == [f"record-{number}".encode() for number in range(150, 170)]
    assert batches[0].keys() == {"ecg", "record_id", "patient_key", "institution", "split"}
    assert batches[0]["patient_key"][0] == b"key-150"
    assert set(batches[0]["institution"]) == {b"north"}
    assert set(batches[0]["split"]) == {b"validation"}


def test_evaluation_of_several_splits_and_labels(dataset: Manifest) -> None:
    batches = list(
        evaluation_batches(dataset, ["train", "validation"], batch_size=64, labelled=True).as_numpy_iterator()
    )
    assert len(names(batches)) == 114
    assert sorted(set(np.concatenate([batch["split"] for batch in batches]))) == [b"train", b"validation"]
    assert all(float(label) == int(name.split(b"-")[1]) % 3 for name, label in by_record(batches, "label").items())


def test_evaluation_masks_depend_on_seed_and_record(dataset: Manifest) -> None:
    def noise(seed: int, batch_size: int) -> np.ndarray:
        batches = evaluation_batches(
            dataset, ["validation"], batch_size=batch_size, labelled=False, mask_noise_seed=seed
        )
        return np.concatenate([batch["mask_noise"] for batch in batches.as_numpy_iterator()])

    np.testing.assert_array_equal(noise(0, 8), noise(0, 20))
    assert (noise(0, 8) != noise(1, 8)).mean() > 0.99


def test_a_split_without_records_is_empty(dataset: Manifest) -> None:
    assert list(evaluation_batches(dataset, ["test"], batch_size=8, labelled=False)) == []


POSITIVE_PATIENTS, NEGATIVE_PATIENTS = 20, 60


def write_patients(folder: Path, records_per_shard: int, order: int) -> Manifest:
    """80 training patients, two labelled recordings each, every fourth a third one without label.

    The first 20 have one positive recording. The order of recordings is drawn with the seed `order`.
    """
    rows: list[tuple[int, int | None]] = []
    for patient in range(POSITIVE_PATIENTS + NEGATIVE_PATIENTS):
        rows += [(patient, int(patient < POSITIVE_PATIENTS)), (patient, 0)]
        if patient % 4 == 0:
            rows.append((patient, None))
    named = [(f"{patient}-{index}", patient, label) for index, (patient, label) in enumerate(rows)]
    named = [named[index] for index in np.random.default_rng(order).permutation(len(named))]
    folder.mkdir()
    shards = []
    for first in range(0, len(named), records_per_shard):
        part = named[first : first + records_per_shard]
        path = folder / f"train-{first}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for name, patient, label in part:
                metadata = Metadata(name, f"key-{patient}", "north", label, None, None, "")
                writer.write(encode(np.zeros((12, spec.SAMPLES)), metadata))
        labelled = sum(label is not None for _, _, label in part)
        shards.append(Shard(path.name, "north", "train", len(part), labelled, path.stat().st_size, sha256(str(path))))
    return Manifest(
        folder=str(folder),
        label_name="lvsd",
        external_institutions=(),
        characteristics=(),
        counts=(Count("north", "train", 80, 20, 140, 20),),
        shards=tuple(shards),
        rejected={},
        findings={},
        settings={},
        table_sha256="",
        patient_keys="",
        versions={},
    )


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_patients(tmp_path_factory.mktemp("patients") / "dataset", records_per_shard=70, order=0)


def used(manifest: Manifest, **settings: Any) -> tuple[set[str], list[str]]:
    """The patients and the recordings, in order, of one epoch of single recordings."""
    records = [name.decode() for name in names(read(manifest, batch_size=1, epochs=1, labelled=True, **settings))]
    return {f"key-{name.split('-')[0]}" for name in records}, records


@pytest.mark.parametrize(("replicas", "workers"), [(2, 1), (4, 2), (3, 3)])
def test_replicas_and_workers_share_each_batch(patients: Manifest, replicas: int, workers: int) -> None:
    settings: dict[str, Any] = {"batch_size": 12, "epochs": 2, "first_step": 1, "time_shift": True, "mask_noise": True}
    whole = read(patients, labelled=False, **settings)
    own = replicas // workers
    parts = [
        read(
            patients,
            labelled=False,
            replicas=replicas,
            own_replicas=range(worker * own, (worker + 1) * own),
            **settings,
        )
        for worker in range(workers)
    ]
    for step, batch in enumerate(whole):
        shares = [part for worker in parts for part in worker[step * own : (step + 1) * own]]
        assert_same([batch], [{name: np.concatenate([share[name] for share in shares]) for name in batch}])
    assert [len(part) for part in parts] == [len(whole) * own] * workers


def test_a_share_of_labels_is_a_share_of_patients_of_either_kind(patients: Manifest) -> None:
    chosen = labelled_patients(patients, 0.1, seed=3)
    assert (len(chosen.keys), chosen.recordings, chosen.positives) == (8, 16, 2)
    assert sum(int(key.split("-")[1]) < POSITIVE_PATIENTS for key in chosen.keys) == 2
    whole = labelled_patients(patients, 1.0, seed=3)
    assert (len(whole.keys), whole.recordings, whole.positives) == (80, 160, 20)
    assert steps_per_epoch(patients, 4, labelled=True, label_fraction=0.1, seed=3) == 4
    assert steps_per_epoch(patients, 4, labelled=True) == 40


def test_training_on_a_share_sees_every_labelled_recording_of_these_patients_and_no_other(patients: Manifest) -> None:
    chosen = labelled_patients(patients, 0.25, seed=3)
    seen, records = used(patients, label_fraction=0.25)
    assert seen == set(chosen.keys)
    assert len(records) == len(set(records)) == chosen.recordings == 40
    batches = read(patients, batch_size=16, epochs=3, labelled=True, label_fraction=0.25)
    assert len(batches) == 3 * 2
    assert {float(label) for batch in batches for label in batch["label"]} <= {0.0, 1.0}
    assert {name.split(b"-")[0] for name in names(batches)} <= {key.encode()[4:] for key in chosen.keys}


def test_a_smaller_share_is_part_of_a_larger_one(patients: Manifest) -> None:
    shares = [set(labelled_patients(patients, fraction, seed=5).keys) for fraction in (0.05, 0.1, 0.2, 0.55, 1.0)]
    assert [len(share) for share in shares] == [4, 8, 16, 44, 80]
    assert all(smaller < larger for smaller, larger in pairwise(shares))


def test_the_share_depends_on_seed_and_patients_alone(patients: Manifest, tmp_path: Path) -> None:
    other = write_patients(tmp_path / "other", records_per_shard=33, order=1)
    chosen = labelled_patients(patients, 0.2, seed=7)
    assert labelled_patients(other, 0.2, seed=7) == chosen
    assert set(labelled_patients(patients, 0.2, seed=8).keys) != set(chosen.keys)
    assert used(other, label_fraction=0.2, seed=7)[0] == used(patients, label_fraction=0.2, seed=7)[0]


def test_all_labels_are_the_batches_of_before(patients: Manifest) -> None:
    assert_same(read(patients, labelled=True, label_fraction=1.0), read(patients, labelled=True))


def test_resuming_on_a_share_gives_the_tail_of_the_whole(patients: Manifest) -> None:
    settings = {"labelled": True, "label_fraction": 0.5, "batch_size": 20, "epochs": 3}
    assert_same(read(patients, **settings)[4:], read(patients, first_epoch=1, **settings))


def test_a_share_without_one_class_is_refused(patients: Manifest) -> None:
    message = r"among those of 0.02 of the train patients. Received 0 positive of 2 labelled recordings: raise --fi"
    with pytest.raises(DatasetError, match=message):
        labelled_patients(patients, 0.02, seed=0)
    with pytest.raises(DatasetError, match=message):
        training_batches(patients, batch_size=1, epochs=1, seed=0, labelled=True, label_fraction=0.02)
    message = r"one batch of 64 labelled recordings .* Received 16: lower --finetune_batch_size or raise --finetune_la"
    with pytest.raises(DatasetError, match=message):
        steps_per_epoch(patients, 64, labelled=True, label_fraction=0.1)
    unlabelled = replace(patients, shards=())
    with pytest.raises(DatasetError, match=r"Received 0 positive of 0 labelled"):
        labelled_patients(unlabelled, 1.0, seed=0)


def test_evaluation_on_a_share_sees_these_patients_alone(patients: Manifest) -> None:
    chosen = labelled_patients(patients, 0.25, seed=3)
    batches = evaluation_batches(patients, ["train"], batch_size=7, labelled=True, patients=chosen)
    seen = [key.decode() for batch in batches.as_numpy_iterator() for key in batch["patient_key"]]
    assert len(seen) == chosen.recordings
    assert set(seen) == set(chosen.keys)
    with pytest.raises(DatasetError, match=r"of 0.25 of the validation patients. Received 0 positive of 0 labelled"):
        labelled_patients(patients, 0.25, seed=3, split="validation")


def test_labels_are_counted_anew_when_a_dataset_is_replaced(patients: Manifest, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    first = write_patients(folder, records_per_shard=200, order=0)
    assert isinstance(labelled_patients(first, 1.0, seed=0), LabelledPatients)
    path = folder / first.shards[0].file
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(4):
            metadata = Metadata(f"{number}-0", f"key-{number}", "north", number % 2, None, None, "")
            writer.write(encode(np.zeros((12, spec.SAMPLES)), metadata))
    shard = replace(first.shards[0], records=4, labelled=4, sha256=sha256(str(path)))
    assert labelled_patients(replace(first, shards=(shard,)), 1.0, seed=0).recordings == 4
