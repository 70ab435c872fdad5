"""The optimizer and the learning rate of the masked-autoencoder recipes (He et al. 2022, tables 8 and 9), and Muon.

This is the one file that uses names of Keras which begin with an underscore.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import keras
from keras import ops

from keras_ecg_mae.training.weight_rules import WeightRule

RECORDS_OF_BASE_RATE = 256
EPSILON = 1e-8  # PyTorch's default, with which the recipe was run; Keras' own is 1e-7
MUON_MOMENTUM = 0.95  # Jordan et al. 2024
MUON_SCALE = 0.2  # Liu et al. 2025


def scaled_rate(base_learning_rate: float, batch_size: int) -> float:
    """The peak learning rate of a batch: linear scaling (Goyal et al. 2017), as He et al. 2022 have it."""
    return base_learning_rate * batch_size / RECORDS_OF_BASE_RATE


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then half a cosine to the smallest rate, per step.

    Step s of the warm-up has the rate `peak * s / warmup_steps`; the cosine begins at the peak and would reach
    `smallest` at step `total_steps`.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, smallest: float = 0.0):
        self.peak, self.warmup_steps, self.total_steps, self.smallest = peak, warmup_steps, total_steps, smallest

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rising = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        falling = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0, 1)))
        falling = self.smallest + (self.peak - self.smallest) * falling
        return ops.where(step < self.warmup_steps, self.peak * rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "smallest": self.smallest,
        }


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class AdamW(keras.optimizers.Adam):
    """AdamW as Loshchilov and Hutter 2019 (algorithm 2) write it, each weight by its own rule.

    Keras' own adds epsilon to the root before the bias correction, which at step t is sqrt(1 - beta_2^t) times as
    much, and decays every weight at the rate of all. Here epsilon stands beside the corrected root, and a weight's
    rule says whether it decays and scales its learning rate and its decay alike.

    Args:
        rules: one a weight, in the order in which the optimizer is built on them: `weight_rules.weight_rules`. A saved
            optimizer has them as tuples.
    """

    def __init__(
        self,
        learning_rate: Any,
        rules: Sequence[WeightRule | tuple[bool, float, bool]],
        *,
        weight_decay: float,
        beta_1: float,
        beta_2: float,
        name: str = "adamw",
    ):
        super().__init__(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=EPSILON, name=name)
        self.rules = [rule if isinstance(rule, WeightRule) else WeightRule(*rule) for rule in rules]
        self.decay = weight_decay

    def get_config(self) -> dict[str, Any]:
        config = {name: super(AdamW, self).get_config()[name] for name in ("name", "learning_rate", "beta_1", "beta_2")}
        return {**config, "weight_decay": self.decay, "rules": [astuple(rule) for rule in self.rules]}

    def build(self, variables: list[keras.Variable]) -> None:
        if len(variables) != len(self.rules):
            raise ValueError(f"Expected {len(self.rules)} weights, one a rule. Received {len(variables)}.")
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        rule, momentum, velocity = self.rules[index], self._momentums[index], self._velocities[index]
        rate = learning_rate * rule.rate_scale
        step = ops.cast(self.iterations + 1, "float32")
        self.assign(momentum, self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        self.assign(velocity, self.beta_2 * velocity + (1 - self.beta_2) * ops.square(gradient))
        root = ops.sqrt(velocity / _bias_correction(self.beta_2, step))
        change = rate / _bias_correction(self.beta_1, step) * momentum / (root + self.epsilon)
        if rule.decays:
            change += rate * self.decay * variable
        self.assign_sub(variable, change)


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class Muon(AdamW):
    """Orthogonalised momentum for the matrices inside the transformer blocks (Jordan et al. 2024), AdamW for the rest.

    A matrix's update is 0.2 x sqrt(its larger dimension) times an orthogonal one, so that its root mean square is about
    that of AdamW's and both take the same learning rate and decay (Liu et al. 2025). `keras.optimizers.Muon` has
    another scale, another rate for AdamW's share, and tells weights apart by paths, which they lack under
    tf.distribute.

    Args: those of `AdamW`; the betas are for AdamW's share.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        rule, momentum = self.rules[index], self._momentums[index]
        if not rule.block_matrix:
            super().update_step(gradient, variable, learning_rate)
            return
        self.assign(momentum, MUON_MOMENTUM * momentum + gradient)
        direction = orthogonalized(gradient + MUON_MOMENTUM * momentum)  # Nesterov's
        change = MUON_SCALE * math.sqrt(max(gradient.shape)) * direction
        if rule.decays:
            change += self.decay * variable
        self.assign_sub(variable, learning_rate * rule.rate_scale * change)


OPTIMIZERS: dict[str, type[AdamW]] = {"adamw": AdamW, "muon": Muon}


def take_summed_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps an optimizer from adding up the replicas' gradients, which Keras has no public way to say.

    test_two_replicas.py fails where Keras renames it.
    """
    optimizer._all_reduce_sum_gradients = list


def orthogonalized(matrix: Any) -> Any:
    """A matrix with the same singular vectors, whose singular values are near 1: about 0.7 to 1.2, if none was tiny.

    Five Newton-Schulz steps with the coefficients of Jordan et al. 2024, which are quick and not exact.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(5):
        square = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(-4.7750 * square + 2.0315 * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x


def _bias_correction(beta: float, step: Any) -> Any:
    """1 - beta^step. Written like that, float32 would lose five of its seven digits at beta = 0.999 and step 1."""
    return -ops.expm1(step * math.log(beta)) if beta else 1.0
