"""Batches: every draw depends on seed, epoch and record alone."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.dataset import Draws, Manifest, Portion, evaluation_batches, steps_per_epoch, training_batches
from keras_ecg_mae.errors import DatasetError
from tests.dataset.conftest import Batches, assert_same, names, read

MASKS, SHIFTS = Draws(mask_noise=True), Draws(time_shift=True)
DRAWN = {"draws": Draws(time_shift=True, mask_noise=True)}


def by_record(batches: Batches, key: str) -> dict[bytes, np.ndarray]:
    return {
        name: value for batch in batches for name, value in zip(batch["record_id"].tolist(), batch[key], strict=True)
    }


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
    training = training_batches(dataset, batch_size=16, epochs=1, seed=0, labelled=True, draws=MASKS)
    assert int(training.cardinality()) == 6
    assert training.options().autotune.enabled is False  # whose thread the end of an iterator waits for
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
    first = read(dataset, **DRAWN)
    tf.random.set_seed(2)
    assert_same(first, read(dataset, **DRAWN))
    assert names(first) != names(read(dataset, seed=4))


def test_resuming_gives_the_tail_of_the_whole(dataset: Manifest) -> None:
    whole = read(dataset, epochs=4, **DRAWN)
    tail = read(dataset, epochs=4, portion=Portion(epoch=2), **DRAWN)
    assert_same(whole[18:], tail)


def test_nothing_is_left_to_do_after_the_last_epoch(dataset: Manifest) -> None:
    assert read(dataset, epochs=2, portion=Portion(epoch=2)) == []


def test_draws_do_not_depend_on_the_batch_size(dataset: Manifest) -> None:
    small = read(dataset, batch_size=5, epochs=1, **DRAWN)
    large = read(dataset, batch_size=50, epochs=1, **DRAWN)
    assert sorted(names(small)) == sorted(names(large))
    for key in ("ecg", "mask_noise"):
        one, other = by_record(small, key), by_record(large, key)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_mask_noise_is_uniform_and_differs_by_record_epoch_and_seed(dataset: Manifest) -> None:
    first, second = (
        read(dataset, batch_size=50, draws=MASKS, portion=Portion(epoch), epochs=epoch + 1) for epoch in (0, 1)
    )
    other_seed = read(dataset, batch_size=50, draws=MASKS, epochs=1, seed=4)
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
    shifted = by_record(read(dataset, batch_size=50, epochs=1, draws=SHIFTS), "ecg")
    shifts = []
    for name, ecg in plain.items():
        # The signal rises, so it starts where its lowest sample is.
        shifts.append(int(shifted[name][0].argmin()))
        np.testing.assert_array_equal(shifted[name], np.roll(ecg, shifts[-1], axis=1))
    shifting = training_batches(dataset, batch_size=50, epochs=1, seed=3, labelled=False, draws=SHIFTS)
    assert tuple(shifting.element_spec["ecg"].shape) == (50, 12, 5000)
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
    # Of record-150: a change would let resumed runs see other masks.
    np.testing.assert_array_equal(noise(0, 8)[0, :3], np.array([0.18600911, 0.9144094, 0.12379944], np.float32))


def test_a_split_without_records_is_empty(dataset: Manifest) -> None:
    assert list(evaluation_batches(dataset, ["test"], batch_size=8, labelled=False)) == []


@pytest.mark.parametrize("batch_size", [12, 24])
@pytest.mark.parametrize(("replicas", "workers"), [(2, 1), (4, 1), (4, 2), (3, 3)])
def test_replicas_and_workers_share_each_batch(dataset: Manifest, replicas: int, workers: int, batch_size: int) -> None:
    settings: dict[str, Any] = {"batch_size": batch_size, "epochs": 2, **DRAWN}
    whole = read(dataset, portion=Portion(step=4), **settings)
    own = replicas // workers
    parts = [
        read(dataset, portion=Portion(0, 4, replicas, range(worker * own, (worker + 1) * own)), **settings)
        for worker in range(workers)
    ]
    for step, batch in enumerate(whole):
        shares = [part for worker in parts for part in worker[step * own : (step + 1) * own]]
        assert_same([batch], [{name: np.concatenate([share[name] for share in shares]) for name in batch}])
    assert [len(part) for part in parts] == [len(whole) * own] * workers
