"""As wide as ViT-Large: a training step of the autoencoder and of the classifier on a machine without a GPU.

All 24 blocks with their gradients and Adam's moments take over 6 GB; blocks are alike, and four of them do.
test_weight_rules.py has the rules of 24 blocks, models/test_published_weights.py the weights of the whole model.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.models.autoencoder import reconstruction_loss
from keras_ecg_mae.models.build import ARCHITECTURES, Architecture, build_autoencoder, build_classifier
from keras_ecg_mae.training.optimizers import AdamW
from keras_ecg_mae.training.steps import Losses, compiled_steps
from keras_ecg_mae.training.weight_rules import weight_rules

BATCH = 2
ENCODER, DECODER = (replace(part, depth=4) for part in (ARCHITECTURES["large"].encoder, ARCHITECTURES["large"].decoder))


def step(model: keras.Model, optimizer: keras.optimizers.Optimizer, losses: Losses) -> float:
    generator = np.random.default_rng(0)
    batch = {
        "ecg": generator.normal(size=(BATCH, 12, 5000)).astype("float32"),
        "mask_noise": generator.random((BATCH, 240), "float32"),
        "label": np.array([0, 1], "float32"),
    }
    optimizer.build(model.trainable_variables)
    run_steps = compiled_steps(tf.distribute.get_strategy(), model, optimizer, losses, BATCH)
    return float(run_steps(iter(tf.data.Dataset.from_tensors(batch)), tf.constant(1))["losses"][0])


@pytest.mark.slow
def test_the_autoencoder_takes_a_step() -> None:
    model = build_autoencoder(
        Architecture(ENCODER, DECODER), normalization="record", mask_ratio=0.75, normalize_target=False
    )
    before = np.asarray(model.encoder.blocks[-1].mlp_2.kernel)
    loss = step(
        model,
        AdamW(1e-3, weight_rules(model), weight_decay=0.05, beta_1=0.9, beta_2=0.95),
        lambda batch: reconstruction_loss(model(batch["ecg"], batch["mask_noise"], training=True)),
    )
    assert 0.5 < loss < 5
    moved = np.abs(np.asarray(model.encoder.blocks[-1].mlp_2.kernel) - before)
    assert 0.9e-3 < np.median(moved) < 1.2e-3  # Adam's first step is the learning rate


@pytest.mark.slow
def test_the_classifier_takes_a_step() -> None:
    model = build_classifier(ENCODER, normalization="record", pooling="mean")
    before = np.asarray(model.encoder.blocks[0].attention.projection.kernel)
    loss = step(
        model,
        keras.optimizers.Adam(1e-4),
        lambda batch: tf.nn.sigmoid_cross_entropy_with_logits(batch["label"], model(batch["ecg"], training=True)),
    )
    assert abs(loss - np.log(2)) < 0.3  # a fresh head knows nothing
    moved = np.abs(np.asarray(model.encoder.blocks[0].attention.projection.kernel) - before)
    assert 0.5e-4 < np.median(moved) < 1.2e-4
