"""The pre-norm transformer block of a Vision Transformer: self-attention, stochastic depth, MLP."""

from typing import Any

import keras
from keras import ops

NORM_EPSILON = 1e-6  # He et al. 2022; Keras' own default is 1e-3
MLP_RATIO = 4


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


def drop_path(branch: Any, noise: Any, rate: float) -> Any:
    """Drops a residual branch for some recordings and scales it up for the others (Huang et al. 2016, section 3).

    `keras_cv.layers.DropPath` draws its own noise, the same on every replica of a strategy
    (`tests/training/test_two_replicas.py` shows it). Here the caller draws, for each recording and branch, so that a
    run does not depend on its devices.

    Args:
        branch: `(batch, tokens, width)`.
        noise: `(batch,)` uniform in [0, 1); the branch is dropped where it is under `rate`.
        rate: probability of dropping, under 1.
    """
    kept = ops.cast(noise >= rate, branch.dtype) / (1 - rate)
    return branch * ops.reshape(kept, (-1, 1, 1))


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class TransformerBlock(keras.layers.Layer):
    """Norm, attention, add; norm, MLP, add (Dosovitskiy et al. 2021, equations 2 and 3).

    Args:
        heads: attention heads.
        drop_path: rate of stochastic depth (Huang et al. 2016) on both branches.

    Call: `(batch, tokens, width)` -> the same shape; with `path_noise` `(batch, 2)`, uniform in [0, 1), it drops the
        branches that noise says, without it none.
    """

    def __init__(self, heads: int, drop_path: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.drop_path = drop_path

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        assert width is not None
        policy = self.dtype_policy

        def add(layer: keras.layers.Layer, shape: tuple[int | None, ...] = input_shape) -> keras.layers.Layer:
            layer.build(shape)
            return layer

        self.norm_1 = add(keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name="norm_1", dtype=policy))
        self.attention = add(SelfAttention(self.heads, name="attention", dtype=policy))
        self.norm_2 = add(keras.layers.LayerNormalization(epsilon=NORM_EPSILON, name="norm_2", dtype=policy))
        self.mlp_1 = add(keras.layers.Dense(MLP_RATIO * width, name="mlp_1", dtype=policy))
        self.mlp_2 = add(keras.layers.Dense(width, name="mlp_2", dtype=policy), (*input_shape[:-1], MLP_RATIO * width))
        self.built = True

    def call(self, tokens: Any, path_noise: Any = None) -> Any:
        tokens = tokens + self._kept(self.attention(self.norm_1(tokens)), path_noise, 0)
        branch = self.mlp_2(ops.gelu(self.mlp_1(self.norm_2(tokens)), approximate=False))
        return tokens + self._kept(branch, path_noise, 1)

    def _kept(self, branch: Any, path_noise: Any, index: int) -> Any:
        return branch if path_noise is None else drop_path(branch, path_noise[:, index], self.drop_path)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "drop_path": self.drop_path}
