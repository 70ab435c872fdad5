"""Between a recording and its 240 patches."""

from typing import Any

from keras import ops

from keras_ecg_mae.spec import LEADS, PATCH_SAMPLES, PATCHES, SAMPLES


def to_patches(ecg: Any) -> Any:
    """`(batch, 12, 5000)` -> `(batch, 240, 250)`, lead by lead (Sawano et al., Methods: patches of 1 x 250)."""
    return ops.reshape(ecg, (-1, PATCHES, PATCH_SAMPLES))


def from_patches(patches: Any) -> Any:
    """`(batch, 240, 250)` -> `(batch, 12, 5000)`: undoes `to_patches`."""
    return ops.reshape(patches, (-1, len(LEADS), SAMPLES))
