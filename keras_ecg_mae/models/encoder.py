"""The Vision Transformer that reads the visible patches."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ecg_mae.layers.tokens import FrozenPositions, LearntToken, take_patches
from keras_ecg_mae.layers.transformer import TokenDense, TokenNorm, TransformerBlock
from keras_ecg_mae.spec import PATCH_SAMPLES


def transformer_blocks(depth: int, heads: int, drop_path: float, policy: Any) -> list[TransformerBlock]:
    """`depth` blocks named `block_0` ..., their stochastic depth rising linearly from 0 to `drop_path`."""
    rates = np.linspace(0.0, drop_path, depth)
    return [
        TransformerBlock(heads, drop_path=float(rate), name=f"block_{index}", dtype=policy)
        for index, rate in enumerate(rates)
    ]


def through_blocks(
    blocks: Sequence[TransformerBlock], tokens: Any, path_noise: Any = None, rematerialize: bool = False
) -> Any:
    """Tokens `(batch, tokens, width)` through the blocks, with `path_noise` `(batch, blocks, 2)` or None.

    Args:
        rematerialize: keep a block's input alone and compute the rest again in the backward pass (Chen et al. 2016,
            'Training Deep Nets with Sublinear Memory Cost').
    """
    for index, block in enumerate(blocks):
        noise = None if path_noise is None else path_noise[:, index]
        through = partial(block.__call__, path_noise=noise)
        tokens = (keras.remat(through) if rematerialize else through)(tokens)
    return tokens


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class Encoder(keras.layers.Layer):
    """Patch embedding, positions, class token, pre-norm transformer blocks, norm (He et al. 2022, section 3).

    Args:
        width: length of a token.
        depth: number of blocks.
        heads: attention heads a block.
        drop_path: stochastic depth of the last block.
        final_norm: normalise the output tokens. Off where a classifier brings its own norm.

    Attributes:
        rematerialize: see `through_blocks`. How to compute, not what: it is not saved with the model.

    Call: normalised patches `(batch, 240, 250)`, and with `visible` `(batch, kept)` only those patches
        -> `(batch, 1 + patches, width)`, class token first. With `path_noise` `(batch, depth, 2)`, uniform in [0, 1),
        branches of the blocks are dropped as `TransformerBlock` tells.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        drop_path: float = 0.0,
        final_norm: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width, self.depth, self.heads = width, depth, heads
        self.drop_path, self.final_norm = drop_path, final_norm
        self.rematerialize = False
        policy = self.dtype_policy
        # A Dense on reshaped patches, not a Conv1D: the same product, with the xavier range of the published recipe.
        self.patch_embedding = TokenDense(width, name="patch_embedding", dtype=policy)
        self.positions = FrozenPositions(width, name="positions", dtype=policy)
        self.class_token = LearntToken(width, name="class_token", dtype=policy)
        self.blocks = transformer_blocks(depth, heads, drop_path, policy)
        self.norm = TokenNorm(name="norm", dtype=policy) if final_norm else None

    def build(self, input_shape: tuple[int | None, ...] | None = None) -> None:
        self.patch_embedding.build((None, None, PATCH_SAMPLES))
        self.class_token.build()
        for layer in (*self.blocks, self.norm):
            if layer is not None:
                layer.build((None, None, self.width))
        self.built = True

    def call(self, patches: Any, visible: Any = None, path_noise: Any = None) -> Any:
        if visible is not None:  # before they are embedded: data have no gradient, and a quarter of them less work
            patches = take_patches(patches, visible)
        tokens = self.patch_embedding(patches)
        positions = self.positions(tokens)
        own = positions[:, 1:] if visible is None else ops.take(positions[0, 1:], visible, axis=0)
        class_token = self.class_token(tokens) + positions[:, :1]
        tokens = tokens + own
        tokens = ops.concatenate([class_token, tokens], axis=1)
        tokens = through_blocks(self.blocks, tokens, path_noise, self.rematerialize)
        return tokens if self.norm is None else self.norm(tokens)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "depth": self.depth,
            "heads": self.heads,
            "drop_path": self.drop_path,
            "final_norm": self.final_norm,
        }
