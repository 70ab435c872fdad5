"""Attention and transformer blocks."""

import keras
import numpy as np
import pytest

from keras_ecg_mae.layers.attention import SelfAttention
from keras_ecg_mae.layers.transformer_block import TransformerBlock

TOKENS = np.random.default_rng(0).normal(size=(2, 7, 16)).astype("float32")


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_attention_is_that_of_the_definition() -> None:
    layer = SelfAttention(heads=4)
    received = np.asarray(layer(TOKENS))
    weights = {weight.path.split("/", 1)[1]: np.asarray(weight) for weight in layer.weights}
    fused = TOKENS @ weights["query_key_value/kernel"] + weights["query_key_value/bias"]
    query, key, value = (part.reshape(2, 7, 4, 4).transpose(0, 2, 1, 3) for part in np.split(fused, 3, axis=-1))
    attended = softmax(query @ key.transpose(0, 1, 3, 2) / 2.0) @ value
    expected = attended.transpose(0, 2, 1, 3).reshape(2, 7, 16) @ weights["projection/kernel"]
    assert np.allclose(received, expected + weights["projection/bias"], atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected a width that 3 heads divide. Received 16"):
        SelfAttention(heads=3)(TOKENS)


def test_a_block_without_its_branches_is_the_identity() -> None:
    block = TransformerBlock(heads=4)
    block.build(TOKENS.shape)
    for layer in (block.attention.projection, block.mlp_2):
        layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
    assert np.array_equal(np.asarray(block(TOKENS)), TOKENS)


def test_order_of_tokens_does_not_matter_to_a_block() -> None:
    block = TransformerBlock(heads=4)
    order = [3, 1, 0, 2, 6, 5, 4]
    assert np.allclose(np.asarray(block(TOKENS))[:, order], np.asarray(block(TOKENS[:, order])), atol=1e-5)


def test_stochastic_depth_drops_whole_recordings_in_training_only() -> None:
    block = TransformerBlock(heads=4, drop_path=0.9)
    tokens = np.tile(TOKENS[:1], (64, 1, 1))
    learnt = np.asarray(block(tokens, training=True))
    untouched = (learnt == tokens).all(axis=(1, 2)).mean()
    assert 0.6 < untouched < 0.95  # 0.9 x 0.9 = 0.81 expected
    assert np.array_equal(np.asarray(block(tokens, training=False))[0], np.asarray(block(tokens, training=False))[1])
    assert not np.array_equal(np.asarray(block(tokens, training=False)), tokens)


def test_config_round_trip() -> None:
    block = TransformerBlock(heads=4, drop_path=0.1, name="block_3", dtype="mixed_bfloat16")
    again = TransformerBlock.from_config(block.get_config())
    assert again.get_config() == block.get_config()
    assert again.dtype_policy.compute_dtype == "bfloat16"
