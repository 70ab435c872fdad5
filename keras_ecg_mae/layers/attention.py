"""Multi-head self-attention with one fused projection, as the published weights have it."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2.2).

    One Dense makes query, key and value at once: the published masked autoencoders store it so and initialise it
    so, which makes its xavier range that of a (width, 3 x width) matrix.

    Args:
        heads: number of heads; divides the width.

    Call: `(batch, tokens, width)` -> the same shape.
    """

    def __init__(self, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        if width is None or width % self.heads:
            raise ValueError(f"Expected a width that {self.heads} heads divide. Received {width}.")
        self.query_key_value = keras.layers.Dense(3 * width, name="query_key_value", dtype=self.dtype_policy)
        self.query_key_value.build(input_shape)
        self.projection = keras.layers.Dense(width, name="projection", dtype=self.dtype_policy)
        self.projection.build(input_shape)
        self.built = True

    def call(self, tokens: Any) -> Any:
        batch, count, width = ops.shape(tokens)
        kernel, bias = self.query_key_value.kernel, self.query_key_value.bias
        # The key's bias adds the same to every score of a query, which softmax takes out again: its gradient is zero.
        # Computed, it would be rounding noise, which Adam would blow up to steps of the size of the learning rate.
        query_bias, key_bias, value_bias = ops.split(ops.convert_to_tensor(bias), 3)
        bias = ops.concatenate([query_bias, ops.stop_gradient(key_bias), value_bias])
        fused = ops.add(ops.matmul(tokens, kernel), bias)
        fused = ops.reshape(fused, (batch, count, 3, self.heads, width // self.heads))
        query, key, value = (fused[:, :, part] for part in range(3))
        attended = ops.dot_product_attention(query, key, value)
        return self.projection(ops.reshape(attended, (batch, count, width)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}
