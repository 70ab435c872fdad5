"""Which patches the encoder sees."""

from typing import Any

from keras import ops


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
