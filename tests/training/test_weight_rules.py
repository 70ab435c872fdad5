"""Which weights decay and how fast each learns, against a plain-Python oracle, and what the optimizer makes of it."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.models.build import ARCHITECTURES, Architecture, Transformer, build_autoencoder, build_classifier
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.training.optimizers import AdamW, WarmupCosine
from keras_ecg_mae.training.weight_rules import weight_rules

# As deep as ViT-Large and as narrow as can be: the same weights by name.
NARROW_LARGE = Transformer(4, 24, 1)


def classifier(transformer: Transformer = NARROW_LARGE) -> Classifier:
    return build_classifier(transformer, normalization="record", pooling="mean", drop_path=0.2)


def oracle(path: str, dimensions: int, depth: int, layer_decay: float) -> tuple[bool, float]:
    """He et al. 2022, fine-tuning, by the names of the weights: decay, and share of the learning rate."""
    if block := re.search(r"/block_(\d+)/", path):
        level = int(block[1]) + 1
    else:
        level = 0 if re.search(r"/(patch_embedding|class_token)/", path) else depth + 1
    return dimensions > 1 and "class_token" not in path, layer_decay ** (depth + 1 - level)


def test_every_weight_of_vit_large_has_the_rule_of_the_recipe() -> None:
    assert NARROW_LARGE.depth == ARCHITECTURES["large"].encoder.depth
    model = classifier()
    rules = weight_rules(model, 0.75)
    assert len(rules) == len(model.trainable_variables) == 3 + 24 * 12 + 4
    for rule, weight in zip(rules, model.trainable_variables, strict=True):
        assert (rule.decays, rule.rate_scale) == pytest.approx(oracle(weight.path, len(weight.shape), 24, 0.75))


def test_rates_by_eye() -> None:
    model = classifier()
    rates = dict(zip((weight.path for weight in model.trainable_variables), weight_rules(model, 0.75), strict=True))
    assert rates["head/kernel"].rate_scale == 1.0
    assert rates["encoder/block_23/mlp_1/kernel"].rate_scale == 0.75
    assert rates["encoder/block_0/mlp_1/kernel"].rate_scale == pytest.approx(0.75**24)
    assert rates["encoder/patch_embedding/kernel"].rate_scale == pytest.approx(0.75**25)


def test_an_autoencoder_decays_matrices_and_tokens_alone() -> None:
    model = build_autoencoder(
        Architecture(Transformer(8, 2, 2), Transformer(8, 1, 2)),
        normalization="record",
        mask_ratio=0.75,
        normalize_target=False,
    )
    for rule, weight in zip(weight_rules(model), model.trainable_variables, strict=True):
        assert rule.rate_scale == 1.0
        assert rule.decays == (len(weight.shape) > 1), weight.path
        assert rule.block_matrix == ("/block_" in weight.path and len(weight.shape) == 2), weight.path


def test_a_weight_without_a_rule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # As after a layer was added to the block and forgotten here.
    monkeypatch.setattr("keras_ecg_mae.training.weight_rules._block", lambda block: (block.norm_1, block.attention))
    with pytest.raises(ValueError, match=r"Expected a rule for every weight. Received none for .*block_0/mlp_2/bias"):
        weight_rules(classifier(Transformer(4, 1, 1)))


def test_a_frozen_encoder_needs_no_rules() -> None:
    model = classifier(Transformer(4, 1, 1))
    model.encoder.trainable = False
    assert [rule.rate_scale for rule in weight_rules(model, 0.5)] == [1.0] * 4


STEPS = 3
WARMUP_STEPS = 1
RATE, DECAY = 0.5, 0.05


def taken(strategy: tf.distribute.Strategy) -> tuple[list[float], list[list[np.ndarray]]]:
    """The rate of each step, and every weight before the first step and after each, all gradients being 1."""
    with strategy.scope():
        model = classifier()
        schedule = WarmupCosine(RATE, WARMUP_STEPS, STEPS)
        optimizer = AdamW(schedule, weight_rules(model, 0.75), weight_decay=DECAY, beta_1=0.9, beta_2=0.999)
        optimizer.build(model.trainable_variables)

    def step() -> None:
        # The optimizer adds up what the replicas have.
        share = 1 / strategy.num_replicas_in_sync
        gradients = [tf.fill(weight.shape, share) for weight in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)

    rates, values = [], [[np.asarray(weight) for weight in model.trainable_variables]]
    for _ in range(STEPS):
        rates.append(float(optimizer.learning_rate))
        strategy.run(step)
        values.append([np.asarray(weight) for weight in model.trainable_variables])
    return rates, values


def check(rates: list[float], values: list[list[np.ndarray]]) -> None:
    weights = [(weight.path, len(weight.shape)) for weight in classifier().trainable_variables]
    for step in range(STEPS):
        progress = (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)
        rate = RATE * (step / WARMUP_STEPS if step < WARMUP_STEPS else (1 + math.cos(math.pi * progress)) / 2)
        assert rates[step] == pytest.approx(rate, abs=1e-7)
        for (path, dimensions), before, after in zip(weights, values[step], values[step + 1], strict=True):
            decays, share = oracle(path, dimensions, 24, 0.75)
            # All gradients being alike, Adam's step is the rate itself.
            expected = before * (1 - rate * share * DECAY * decays) - rate * share
            assert np.allclose(after, expected, rtol=2e-6, atol=1e-7), (path, step)


def test_the_optimizer_applies_schedule_rate_and_decay_to_every_weight() -> None:
    check(*taken(tf.distribute.get_strategy()))


@pytest.mark.slow
def test_so_it_does_on_two_replicas() -> None:
    script = f"""
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_weight_rules import check, taken
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
check(*taken(strategy))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
