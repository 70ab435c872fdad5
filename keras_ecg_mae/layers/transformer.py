"""The pre-norm transformer block of a Vision Transformer: self-attention, stochastic depth, MLP."""

import math
from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.gradient import with_gradient

NORM_EPSILON = 1e-6  # He et al. 2022; Keras' own default is 1e-3
MLP_RATIO = 4


def project(tokens: Any, kernel: Any, bias: Any) -> Any:
    """`tokens @ kernel + bias`, `(batch, tokens, width)` -> `(batch, tokens, units)`, as one product of two matrices.

    As a product of three dimensions, the kernel's gradient would be made for each recording and then summed.
    """
    width, units = kernel.shape
    product = ops.matmul(ops.reshape(tokens, (-1, width)), kernel)
    return ops.reshape(ops.add(product, bias), (-1, *tokens.shape[1:-1], units))


class TokenDense(keras.layers.Dense):
    """A Dense whose product is that of `project`."""

    def call(self, tokens: Any) -> Any:
        return project(tokens, self.kernel, self.bias)


@with_gradient
def standardized(tokens: Any) -> Any:
    """Each token with zero mean and unit deviation. The gradient is that of Ba et al. 2016, in few operations."""
    centred = tokens - ops.mean(tokens, axis=-1, keepdims=True)
    inverse_deviation = ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + NORM_EPSILON)
    result = centred * inverse_deviation

    def gradient(upstream: Any) -> Any:
        along = ops.mean(upstream * result, axis=-1, keepdims=True)
        return (upstream - ops.mean(upstream, axis=-1, keepdims=True) - result * along) * inverse_deviation

    return result, gradient


class TokenNorm(keras.layers.LayerNormalization):
    """A LayerNormalization with the published epsilon, computed in float32 with a gradient of its own."""

    def __init__(self, **kwargs: Any):
        super().__init__(epsilon=NORM_EPSILON, **kwargs)

    def call(self, tokens: Any) -> Any:
        result = standardized(ops.cast(tokens, "float32")) * ops.cast(self.gamma, "float32")
        return ops.cast(result + ops.cast(self.beta, "float32"), self.compute_dtype)


@with_gradient
def gelu(x: Any) -> Any:
    """Exact GELU (Hendrycks and Gimpel 2016): x times the normal distribution's cumulative function of x.

    Computed in float32, which is quicker on CPU than in bfloat16. What the gradient needs is made beside the result, so
    that one tensor is kept for it and not two; where no gradient is asked for, a graph leaves it out.
    """
    dtype, x = x.dtype, ops.cast(x, "float32")
    cumulative = 0.5 + 0.5 * ops.erf(x * math.sqrt(0.5))
    density = ops.exp(-0.5 * ops.square(x)) * (1 / math.sqrt(2 * math.pi))
    slope = ops.cast(cumulative + x * density, dtype)
    return ops.cast(x * cumulative, dtype), lambda upstream: upstream * slope


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
        self.query_key_value = TokenDense(3 * width, name="query_key_value", dtype=self.dtype_policy)
        self.query_key_value.build(input_shape)
        self.projection = TokenDense(width, name="projection", dtype=self.dtype_policy)
        self.projection.build(input_shape)
        self.built = True

    def call(self, tokens: Any) -> Any:
        count, width = tokens.shape[1:]
        kernel, bias = self.query_key_value.kernel, self.query_key_value.bias
        # The key's bias adds the same to every score of a query, which softmax takes out again: its gradient is zero.
        # Computed, it would be rounding noise, which Adam would blow up to steps of the size of the learning rate.
        query_bias, key_bias, value_bias = ops.split(ops.convert_to_tensor(bias), 3)
        bias = ops.concatenate([query_bias, ops.stop_gradient(key_bias), value_bias])
        fused = project(tokens, kernel, bias)

        # (batch, tokens, heads, head) each, then (batch, heads, tokens, head), the key with its last two the other way
        # round. Slices, or attention by einsum, cost more.
        head = width // self.heads
        query, key, value = (ops.reshape(part, (-1, count, self.heads, head)) for part in ops.split(fused, 3, axis=-1))
        query, value = (ops.transpose(part, (0, 2, 1, 3)) for part in (query * head**-0.5, value))
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 3, 1)))
        weights = ops.cast(ops.softmax(ops.cast(scores, "float32")), value.dtype)
        attended = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))
        return self.projection(ops.reshape(attended, (-1, count, width)))

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

        self.norm_1 = add(TokenNorm(name="norm_1", dtype=policy))
        self.attention = add(SelfAttention(self.heads, name="attention", dtype=policy))
        self.norm_2 = add(TokenNorm(name="norm_2", dtype=policy))
        self.mlp_1 = add(TokenDense(MLP_RATIO * width, name="mlp_1", dtype=policy))
        self.mlp_2 = add(TokenDense(width, name="mlp_2", dtype=policy), (*input_shape[:-1], MLP_RATIO * width))
        self.built = True

    def call(self, tokens: Any, path_noise: Any = None) -> Any:
        tokens = tokens + self._kept(self.attention(self.norm_1(tokens)), path_noise, 0)
        branch = self.mlp_2(gelu(self.mlp_1(self.norm_2(tokens))))
        return tokens + self._kept(branch, path_noise, 1)

    def _kept(self, branch: Any, path_noise: Any, index: int) -> Any:
        return branch if path_noise is None else drop_path(branch, path_noise[:, index], self.drop_path)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "drop_path": self.drop_path}
