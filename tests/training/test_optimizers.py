"""Learning rate and optimizer of the pretraining recipe, against plain-Python oracles."""

import math
from typing import Any

import keras
import numpy as np
import pytest

from keras_ecg_mae.training.optimizers import AdamW, Muon, WarmupCosine, orthogonalized, scaled_rate
from keras_ecg_mae.training.weight_rules import WeightRule


def test_learning_rate_by_eye() -> None:
    rate = WarmupCosine(peak=6e-4, warmup_steps=4, total_steps=12)
    received = [float(rate(step)) for step in range(13)]
    expected = [6e-4 * step / 4 for step in range(4)]
    expected += [3e-4 * (1 + math.cos(math.pi * step / 8)) for step in range(9)]
    assert np.allclose(received, expected, atol=1e-9)
    assert received[0] == 0.0
    assert received[4] == np.float32(6e-4)
    assert abs(received[12]) < 1e-10


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert float(WarmupCosine(1e-3, 0, 10)(0)) == np.float32(1e-3)


def test_steps_are_those_of_loshchilov_and_hutter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras_ecg_mae.training.optimizers.EPSILON", 1e-3)  # a large one tells its two places apart
    generator = np.random.default_rng(0)
    kernel, bias = generator.normal(size=(3, 4)), generator.normal(size=4)
    variables = [keras.Variable(kernel, dtype="float32"), keras.Variable(bias, dtype="float32")]
    rules = [WeightRule(decays=True, rate_scale=0.5), WeightRule(decays=False)]
    optimizer = AdamW(1e-2, rules, weight_decay=0.1, beta_1=0.9, beta_2=0.95)
    optimizer.build(variables)
    oracle: list[dict[str, Any]] = [
        {"x": kernel.copy(), "m": 0.0, "v": 0.0, "rate": 0.5e-2, "decay": 0.1},
        {"x": bias.copy(), "m": 0.0, "v": 0.0, "rate": 1e-2, "decay": 0.0},
    ]
    for step in range(1, 6):
        gradients = [generator.normal(size=(3, 4)) * 1e-3, generator.normal(size=4) * 1e-3]
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], variables)
        for state, gradient in zip(oracle, gradients, strict=True):
            state["x"] = state["x"] * (1 - state["rate"] * state["decay"])
            state["m"] = 0.9 * state["m"] + 0.1 * gradient
            state["v"] = 0.95 * state["v"] + 0.05 * gradient**2
            m, v = state["m"] / (1 - 0.9**step), state["v"] / (1 - 0.95**step)
            state["x"] = state["x"] - state["rate"] * m / (np.sqrt(v) + 1e-3)
    for variable, state in zip(variables, oracle, strict=True):
        assert np.allclose(np.asarray(variable), state["x"], atol=1e-6)


def test_the_cosine_falls_to_the_smallest_rate() -> None:
    rate = WarmupCosine(peak=1e-3, warmup_steps=2, total_steps=10, smallest=1e-4)
    received = [float(rate(step)) for step in (0, 1, 2, 6, 10, 11)]
    assert received == pytest.approx([0.0, 5e-4, 1e-3, 5.5e-4, 1e-4, 1e-4])


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_an_optimizer_is_read_back_as_it_was_written(kind: type[AdamW]) -> None:
    rules = [WeightRule(decays=True, rate_scale=0.5, block_matrix=True), WeightRule(decays=False)]
    schedule = WarmupCosine(1e-3, 2, 10, 1e-6)
    optimizer = kind(schedule, rules, weight_decay=0.1, beta_1=0.9, beta_2=0.95)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(copy) is kind
    assert (copy.rules, copy.get_config()) == (rules, optimizer.get_config())
    variables = [keras.Variable([[2.0]]), keras.Variable([2.0])]
    copy.build(variables)
    for _ in range(3):
        copy.apply([keras.ops.convert_to_tensor([[1.0]]), keras.ops.convert_to_tensor([1.0])], variables)
    expected = 2.0
    for step in range(3):  # equal gradients: Adam's step is the rate
        expected -= float(schedule(step))
    assert float(variables[1].value[0]) == pytest.approx(expected, abs=1e-6)


def test_another_number_of_weights_than_rules_is_refused() -> None:
    optimizer = AdamW(1e-2, [WeightRule(decays=True)], weight_decay=0.1, beta_1=0.9, beta_2=0.95)
    with pytest.raises(ValueError, match=r"Expected 1 weights, one a rule. Received 2"):
        optimizer.build([keras.Variable([1.0]), keras.Variable([1.0])])


def test_the_rate_of_a_batch() -> None:
    assert scaled_rate(1.5e-4, 1024) == pytest.approx(6e-4)


@pytest.mark.parametrize("shape", [(6, 24), (24, 6), (12, 12)])
def test_an_orthogonalized_matrix_keeps_its_singular_vectors(shape: tuple[int, int]) -> None:
    left, values, right = np.linalg.svd(np.random.default_rng(0).normal(size=shape), full_matrices=False)
    values = np.linspace(1, 0.2, len(values))  # the steps are made for matrices that are not much worse conditioned
    received = np.asarray(orthogonalized(keras.ops.convert_to_tensor(left * values @ right, "float32")))
    in_its_vectors = left.T @ received @ right.T
    assert np.allclose(in_its_vectors, np.diag(np.diag(in_its_vectors)), atol=1e-5)
    assert np.all((np.diag(in_its_vectors) > 0.6) & (np.diag(in_its_vectors) < 1.25))


def test_muon_takes_the_matrices_of_the_blocks_alone() -> None:
    generator = np.random.default_rng(0)
    kernel, head = generator.normal(size=(4, 8)), generator.normal(size=(4, 8))
    rules = [WeightRule(decays=True, block_matrix=True), WeightRule(decays=True)]
    first, second = ([keras.Variable(value, dtype="float32") for value in (kernel, head)] for _ in range(2))
    muon, adamw = (kind(1e-2, rules, weight_decay=0.1, beta_1=0.9, beta_2=0.95) for kind in (Muon, AdamW))
    muon.build(first)
    adamw.build(second)
    momentum = np.zeros_like(kernel)
    for _ in range(3):
        gradients = [generator.normal(size=(4, 8)) for _ in range(2)]
        tensors = [keras.ops.convert_to_tensor(gradient, "float32") for gradient in gradients]
        muon.apply(tensors, first)
        adamw.apply(tensors, second)
        momentum = 0.95 * momentum + gradients[0]
        nesterov = keras.ops.convert_to_tensor(gradients[0] + 0.95 * momentum, "float32")
        change = 0.2 * math.sqrt(8) * np.asarray(orthogonalized(nesterov))
        kernel = kernel - 1e-2 * (change + 0.1 * kernel)
    assert np.allclose(np.asarray(first[0]), kernel, atol=1e-6)
    assert np.array_equal(np.asarray(first[1]), np.asarray(second[1]))
