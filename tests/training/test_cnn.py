"""The convolutional baseline in the training loop: two replicas, and checkpoints."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.models.cnn import CnnClassifier, CnnLayout
from keras_ecg_mae.training.checkpoints import Checkpoints
from keras_ecg_mae.training.distribution import make_strategy
from keras_ecg_mae.training.steps import compiled_steps

LAYOUT = CnnLayout(
    temporal_filters=(4, 8),
    temporal_kernels=(5, 3),
    temporal_pools=(10, 10),
    spatial_filters=8,
    features=6,
    dense=(5, 4),
)
BATCH = 8


@pytest.fixture(scope="module")
def one() -> tuple[CnnClassifier, keras.optimizers.Optimizer, dict[str, Any]]:
    return trained("one_device")


def trained(strategy_name: str) -> tuple[CnnClassifier, keras.optimizers.Optimizer, dict[str, Any]]:
    """A few steps on noise with a pulse in every second recording; what was measured on the way."""
    strategy = make_strategy(strategy_name)
    keras.utils.set_random_seed(0)
    ecg = np.random.default_rng(0).normal(size=(32, 12, 5000)).astype("float32")
    label = (np.arange(32) // 4 % 2).astype("float32")  # of two replicas, each sees one label only
    ecg[label == 1, :, ::250] += 8
    with strategy.scope():
        model = CnnClassifier(LAYOUT)
        optimizer = keras.optimizers.Adam(1e-3)
        optimizer.build(model.trainable_variables)

    def losses(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = model(batch["ecg"], training=True)
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=batch["label"], logits=logits)

    batches = tf.data.Dataset.from_tensor_slices({"ecg": ecg, "label": label}).batch(BATCH).repeat()
    run_steps = compiled_steps(strategy, model, optimizer, losses, BATCH)
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    loss = [float(tf.reduce_sum(run_steps(iterator, tf.constant(4))["losses"])) for _ in range(5)]
    predict = tf.function(lambda ecg: model(ecg, training=False))
    statistics = np.concatenate([weight.numpy() for weight in model.non_trainable_weights])
    return model, optimizer, {"loss": loss, "logits": np.asarray(predict(ecg)), "statistics": statistics}


def test_two_replicas_learn_and_evaluate_as_one_does(one: Any, tmp_path: Path) -> None:
    _, _, one = one
    script = f"""
import runpy, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
model, _, measured = runpy.run_path({__file__!r})["trained"]("mirrored")
for weight in model.non_trainable_weights:
    first, second = weight.value.values
    measured.setdefault("difference", []).append(np.abs(first.numpy() - second.numpy()).max())
np.savez({str(tmp_path / "two.npz")!r}, **measured)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    two = np.load(tmp_path / "two.npz")
    assert two["difference"].max() == 0
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3)
    np.testing.assert_allclose(two["statistics"], one["statistics"], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(two["logits"], one["logits"], atol=1e-2)
    assert one["loss"][-1] < one["loss"][0]


def test_a_checkpoint_restores_weights_and_statistics(one: Any, tmp_path: Path) -> None:
    model, optimizer, _ = one
    checkpoints = Checkpoints(tmp_path, model, optimizer)
    checkpoints.save({"done": 20})
    checkpoints.wait()
    keras.utils.set_random_seed(1)
    fresh = CnnClassifier(LAYOUT)
    fresh_optimizer = keras.optimizers.Adam(1e-3)
    fresh_optimizer.build(fresh.trainable_variables)
    assert Checkpoints(tmp_path, fresh, fresh_optimizer).restore() == {"done": 20}
    for ours, theirs in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(optimizer.variables, fresh_optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
