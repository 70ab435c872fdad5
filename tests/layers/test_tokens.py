"""Masking: how many patches stay, which ones, and that the order can be undone. Sine-cosine positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ecg_mae.layers.tokens import kept_patches, random_mask, sincos_positions, take_patches


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 60), (0.9, 24), (0.5, 120), (0.6, 96), (0.01, 238)])
def test_the_share_is_rounded_not_truncated(ratio: float, kept: int) -> None:
    assert kept_patches(240, ratio) == kept


@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.999, 1.0])
def test_a_ratio_that_keeps_all_or_nothing_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"Expected a mask ratio that keeps 1 to 239 of 240 patches. Received"):
        kept_patches(240, ratio)


def test_mask_by_eye() -> None:
    visible, position, mask = random_mask(np.array([[0.9, 0.1, 0.5, 0.3]], "float32"), 2)
    assert np.asarray(visible).tolist() == [[1, 3]]
    assert np.asarray(position).tolist() == [[3, 0, 2, 1]]
    assert np.asarray(mask).tolist() == [[1.0, 0.0, 1.0, 0.0]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 239))
def test_visible_and_removed_patches_find_back_to_their_places(seed: int, kept: int) -> None:
    noise = np.random.default_rng(seed).random((2, 240), "float32")
    tokens = np.arange(2 * 240 * 3, dtype="float32").reshape(2, 240, 3)
    visible, position, mask = random_mask(noise, kept)
    seen = np.asarray(take_patches(tokens, visible))
    filled = np.concatenate([seen, np.full((2, 240 - kept, 3), -1, "float32")], axis=1)
    restored = np.asarray(take_patches(filled, position))
    removed = np.asarray(mask) == 1
    assert (removed.sum(axis=1) == 240 - kept).all()
    assert (restored[removed] == -1).all()
    assert (restored[~removed] == tokens[~removed]).all()


def test_positions_by_eye() -> None:
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
