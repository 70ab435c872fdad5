"""Frozen two-dimensional sine-cosine positions of the 12 x 20 grid of patches."""

import numpy as np

from keras_ecg_mae.spec import LEADS, PATCHES_PER_LEAD


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
