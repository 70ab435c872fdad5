"""The pretraining recipe's optimizer and learning rate (He et al. 2022, table 8)."""

import math
from typing import Any

import keras
from keras import ops


class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then half a cosine to 0, per step.

    Step s of the warm-up has the rate `peak * s / warmup_steps`; the cosine begins at the peak and would reach 0 at
    step `total_steps`.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int):
        self.peak, self.warmup_steps, self.total_steps = peak, warmup_steps, total_steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rising = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        falling = 0.5 * (1 + ops.cos(math.pi * ops.clip(progress, 0, 1)))
        return self.peak * ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


class AdamW(keras.optimizers.AdamW):
    """AdamW as Loshchilov and Hutter 2019 (algorithm 2) write it, with epsilon beside the bias-corrected root.

    Keras adds epsilon to the root before the correction, which at step t is sqrt(1 - beta_2^t) times as much; the
    recipe was run with the former. Weights with fewer than two dimensions (biases, norms) do not decay.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            self.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        step = ops.cast(self.iterations + 1, "float32")
        self.assign(momentum, self.beta_1 * momentum + (1 - self.beta_1) * gradient)
        self.assign(velocity, self.beta_2 * velocity + (1 - self.beta_2) * ops.square(gradient))
        root = ops.sqrt(velocity) / ops.sqrt(1 - self.beta_2**step)
        self.assign_sub(variable, learning_rate / (1 - self.beta_1**step) * momentum / (root + self.epsilon))
