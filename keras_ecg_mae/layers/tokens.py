"""From a recording to tokens: patches, which of them the encoder sees, their positions, and the learnt tokens."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ecg_mae.layers.gradient import with_gradient
from keras_ecg_mae.spec import LEADS, PATCH_SAMPLES, PATCHES, PATCHES_PER_LEAD, SAMPLES


def to_patches(ecg: Any) -> Any:
    """`(batch, 12, 5000)` -> `(batch, 240, 250)`, lead by lead (Sawano et al., Methods: patches of 1 x 250)."""
    return ops.reshape(ecg, (-1, PATCHES, PATCH_SAMPLES))


def from_patches(patches: Any) -> Any:
    """`(batch, 240, 250)` -> `(batch, 12, 5000)`: undoes `to_patches`."""
    return ops.reshape(patches, (-1, len(LEADS), SAMPLES))


def kept_patches(patches: int, mask_ratio: float) -> int:
    """How many patches stay visible. Rounded: `int(240 * (1 - 0.9))` would be 23.

    Raises:
        ValueError: none or all would stay.
    """
    kept = patches - round(patches * mask_ratio)
    if not 0 < kept < patches:
        raise ValueError(
            f"Expected a mask ratio that keeps 1 to {patches - 1} of {patches} patches. Received {mask_ratio}."
        )
    return kept


def random_mask(noise: Any, kept: int) -> tuple[Any, Any, Any]:
    """Keeps the patches of the lowest noise (He et al. 2022, section 3: uniform, without replacement).

    Args:
        noise: `(batch, patches)` uniform noise, one draw a patch.
        kept: how many patches stay.

    Returns:
        `visible`: `(batch, kept)` indices of the visible patches, in the order of their noise.
        `position`: `(batch, patches)` each patch's place in that order: under `kept` where visible.
        `mask`: `(batch, patches)` float32, 1 where removed.
    """
    order = ops.argsort(noise, axis=1)
    position = ops.argsort(order, axis=1)
    mask = ops.cast(position >= kept, "float32")
    return order[:, :kept], position, mask


def take_patches(tokens: Any, index: Any) -> Any:
    """Gathers `(batch, n, width)` at `(batch, m)` -> `(batch, m, width)`."""
    taken = ops.take_along_axis(tokens, index[:, :, None], axis=1)
    # TensorFlow forgets how many were taken where the batch's size is not known.
    return ops.reshape(taken, (-1, index.shape[1], tokens.shape[-1]))


def permuted(tokens: Any, index: Any) -> Any:
    """As `take_patches`, where each recording's index has every token once: the gradient is the way back, a gather."""
    inverse = ops.argsort(index, axis=1)
    gather = with_gradient(lambda x: (take_patches(x, index), lambda upstream: take_patches(upstream, inverse)))
    return gather(tokens)


def sincos_positions(width: int) -> np.ndarray:
    """Position embeddings of the class token and the 240 patches.

    The first half of the width codes time, the second the lead (He et al. 2022, appendix A.1, on a grid whose
    columns are time); within a half the sines come before the cosines, at frequencies 10000^(-2i / half)
    (Vaswani et al. 2017, section 3.5). The class token's row is zero.

    Returns:
        `(241, width)` float32, patches lead by lead.

    Raises:
        ValueError: the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"Expected a width that is a multiple of 4, two sines and two cosines. Received {width}.")
    lead, time = np.divmod(np.arange(len(LEADS) * PATCHES_PER_LEAD), PATCHES_PER_LEAD)
    patches = np.concatenate([_sincos(time, width // 2), _sincos(lead, width // 2)], axis=1)
    return np.concatenate([np.zeros((1, width)), patches]).astype("float32")


def _sincos(position: np.ndarray, width: int) -> np.ndarray:
    frequency = 10000.0 ** (-np.arange(width // 2) / (width / 2))
    angle = position[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


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
