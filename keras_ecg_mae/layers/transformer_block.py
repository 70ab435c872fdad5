"""The pre-norm transformer block of a Vision Transformer."""

from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.attention import SelfAttention
from keras_ecg_mae.layers.drop_path import drop_path

NORM_EPSILON = 1e-6  # He et al. 2022; Keras' own default is 1e-3
MLP_RATIO = 4


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
