"""Stochastic depth with the randomness handed in."""

from typing import Any

from keras import ops


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
