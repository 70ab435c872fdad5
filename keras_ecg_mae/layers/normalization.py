"""Normalisation of a recording, inside the model, so that training and serving cannot differ."""

from typing import Any, ClassVar

import keras
from keras import ops

# Deviations under 1 uV are a silent electrode's; dividing by less would blow quantisation noise up to a signal.
SMALLEST_DEVIATION_MV = 1e-3


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class RecordNormalization(keras.layers.Layer):
    """Shifts and scales each recording to zero mean and unit deviation.

    The paper does not say how it normalises. `lead`, the default, takes one mean and deviation a lead;
    `record` one over all twelve leads, so that the leads' amplitudes keep their relation (R progression, voltage
    criteria); `none` leaves millivolts.

    Args:
        mode: `"record"`, `"lead"` or `"none"`.

    Call: `(batch, 12, samples)` mV -> the same shape, no unit. Computed in float32 under every dtype policy.
    """

    AXES: ClassVar = {"record": (1, 2), "lead": (2,)}

    def __init__(self, mode: str = "lead", **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        if mode not in (*self.AXES, "none"):
            raise ValueError(f"Expected mode to be record, lead or none. Received {mode!r}.")
        self.mode = mode

    def call(self, ecg: Any) -> Any:
        mean, deviation = self.moments(ecg)
        return (ecg - mean) / deviation

    def moments(self, ecg: Any) -> tuple[Any, Any]:
        """Mean and deviation in mV, broadcastable to `ecg`: `x = normalised * deviation + mean`."""
        if self.mode == "none":
            return 0.0, 1.0
        ecg = ops.cast(ecg, "float32")
        mean = ops.mean(ecg, axis=self.AXES[self.mode], keepdims=True)
        deviation = ops.std(ecg, axis=self.AXES[self.mode], keepdims=True)
        return mean, ops.maximum(deviation, SMALLEST_DEVIATION_MV)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}
