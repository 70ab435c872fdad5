"""Sine-cosine positions."""

import numpy as np
import pytest

from keras_ecg_mae.layers.positions import sincos_positions


def test_by_eye() -> None:
    table = sincos_positions(4)
    assert table.shape == (241, 4)
    assert table[0].tolist() == [0, 0, 0, 0]  # class token
    assert table[1].tolist() == [0, 1, 0, 1]  # lead I, time 0
    assert np.allclose(table[2], [np.sin(1), np.cos(1), 0, 1])  # lead I, time 1: the first half moves
    assert np.allclose(table[21], [0, 1, np.sin(1), np.cos(1)])  # lead II, time 0: the second half moves


def test_every_patch_has_a_position_of_its_own() -> None:
    assert len(np.unique(sincos_positions(64), axis=0)) == 241


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiple of 4.* Received 6"):
        sincos_positions(6)
