"""The recordings that a training learns from, and the patients whose labels it uses."""

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
    Portion,
    evaluation_batches,
    labelled_patients,
    steps_per_epoch,
    training_batches,
)
from keras_ecg_mae.dataset.example import Metadata, encode_units
from keras_ecg_mae.dataset.manifest import Shard
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import sha256
from tests.dataset.conftest import assert_same, names, read

SILENCE = np.zeros((12, spec.SAMPLES), "<i2")
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
                metadata = Metadata(name, f"key-{patient}", "north", label)
                writer.write(encode_units(SILENCE, metadata))
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
    assert_same(read(patients, **settings)[4:], read(patients, portion=Portion(epoch=1), **settings))


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
            metadata = Metadata(f"{number}-0", f"key-{number}", "north", number % 2)
            writer.write(encode_units(SILENCE, metadata))
    shard = replace(first.shards[0], records=4, labelled=4, sha256=sha256(str(path)))
    assert labelled_patients(replace(first, shards=(shard,)), 1.0, seed=0).recordings == 4
