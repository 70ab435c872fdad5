"""Learnt tokens and frozen positions."""

from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.positions import sincos_positions


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class LearntToken(keras.layers.Layer):
    """One learnt vector: the class token, or the mask token that stands for a removed patch.

    Args:
        width: its length.

    Call: `(batch, n, any)` -> `(batch, count, width)`, the vector repeated; `count` is the call's second argument.
    """

    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.token = self.add_weight(
            name="token",
            shape=(1, 1, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),  # He et al. 2022
        )
        self.built = True

    def call(self, tokens: Any, count: int = 1) -> Any:
        return ops.broadcast_to(ops.cast(self.token, tokens.dtype), (ops.shape(tokens)[0], count, self.width))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], None, self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class FrozenPositions(keras.layers.Layer):
    """The sine-cosine positions of class token and patches, never trained and never stored.

    Call: any tensor, for its dtype -> `(1, 241, width)`.
    """

    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.table = sincos_positions(width)[None]

    def call(self, tokens: Any) -> Any:
        return ops.convert_to_tensor(self.table, dtype=tokens.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}
