"""The small transformer that reconstructs the removed patches."""

from typing import Any

import keras
from keras import ops

from keras_ecg_mae.layers.tokens import FrozenPositions, LearntToken, permuted
from keras_ecg_mae.layers.transformer import TokenDense, TokenNorm
from keras_ecg_mae.models.encoder import through_blocks, transformer_blocks
from keras_ecg_mae.spec import PATCH_SAMPLES, PATCHES


@keras.saving.register_keras_serializable(package="keras_ecg_mae")
class Decoder(keras.layers.Layer):
    """Projects the encoder's tokens, puts mask tokens where patches were removed, predicts all patches.

    He et al. 2022, section 3, 'MAE decoder'.

    Args:
        width: length of a token.
        depth: number of blocks.
        heads: attention heads a block.

    Attributes:
        rematerialize: as in the encoder.

    Call: `latent` `(batch, 1 + kept, encoder width)`, and each patch's `position` `(batch, 240)` in the latent's order
        (`kept` and above: removed) -> `(batch, 240, 250)` float32.
    """

    def __init__(self, width: int, depth: int, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.width, self.depth, self.heads = width, depth, heads
        self.rematerialize = False
        policy = self.dtype_policy
        self.embedding = TokenDense(width, name="embedding", dtype=policy)
        self.mask_token = LearntToken(width, name="mask_token", dtype=policy)
        self.positions = FrozenPositions(width, name="positions", dtype=policy)
        self.blocks = transformer_blocks(depth, heads, 0.0, policy)
        self.norm = TokenNorm(name="norm", dtype=policy)
        # float32 under every policy: the loss is a small difference of large numbers.
        self.prediction = TokenDense(PATCH_SAMPLES, name="prediction", dtype="float32")

    def build(self, latent_shape: tuple[int | None, ...], position_shape: Any = None) -> None:
        self.embedding.build(latent_shape)
        self.mask_token.build()
        layers: tuple[keras.layers.Layer, ...] = (*self.blocks, self.norm, self.prediction)
        for layer in layers:
            layer.build((None, None, self.width))
        self.built = True

    def call(self, latent: Any, position: Any) -> Any:
        tokens = self.embedding(latent)
        kept = tokens.shape[1] - 1
        removed = self.mask_token(tokens, count=PATCHES - kept)
        first = ops.zeros_like(position[:, :1])  # the class token stays
        index = ops.concatenate([first, position + 1], axis=1)
        tokens = permuted(ops.concatenate([tokens, removed], axis=1), index) + self.positions(tokens)
        tokens = through_blocks(self.blocks, tokens, rematerialize=self.rematerialize)
        return self.prediction(self.norm(tokens)[:, 1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "depth": self.depth, "heads": self.heads}
