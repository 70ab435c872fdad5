"""Attention and transformer blocks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ecg_mae.layers.transformer import SelfAttention, TransformerBlock, drop_path

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


def test_the_keys_bias_has_no_gradient() -> None:
    layer = SelfAttention(heads=4)
    layer.build(TOKENS.shape)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(TOKENS) ** 2)
    query, key, value = np.split(np.asarray(tape.gradient(loss, layer.query_key_value.bias.value)), 3)
    assert (key == 0).all()
    assert (query != 0).all()
    assert (value != 0).all()


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


def test_stochastic_depth_drops_the_branches_that_the_noise_says() -> None:
    block = TransformerBlock(heads=4, drop_path=0.5)
    noise = np.array([[0.1, 0.2], [0.7, 0.5]], "float32")  # both branches of the first recording, none of the second
    received = np.asarray(block(TOKENS, path_noise=noise))
    assert np.array_equal(received[0], TOKENS[0])
    branch = 2 * np.asarray(block.attention(block.norm_1(TOKENS)))  # scaled up by 1 / (1 - 0.5)
    between = TOKENS + branch
    mlp = block.mlp_2(keras.ops.gelu(block.mlp_1(block.norm_2(between)), approximate=False))
    assert np.allclose(received[1], (between + 2 * np.asarray(mlp))[1], atol=1e-5)


def test_without_noise_nothing_is_dropped() -> None:
    dropping, whole = TransformerBlock(heads=4, drop_path=0.9), TransformerBlock(heads=4)
    for block in (dropping, whole):
        block.build(TOKENS.shape)
    whole.set_weights(dropping.get_weights())
    assert np.array_equal(np.asarray(dropping(TOKENS)), np.asarray(whole(TOKENS)))


def test_stochastic_depth_keeps_the_mean() -> None:
    branch = np.ones((4000, 1, 1), "float32")
    kept = np.asarray(drop_path(branch, np.random.default_rng(0).random(4000), 0.3))
    assert np.allclose(np.unique(kept), [0, 1 / 0.7])
    assert abs(kept.mean() - 1) < 0.03


def test_config_round_trip() -> None:
    block = TransformerBlock(heads=4, drop_path=0.1, name="block_3", dtype="mixed_bfloat16")
    again = TransformerBlock.from_config(block.get_config())
    assert again.get_config() == block.get_config()
    assert again.dtype_policy.compute_dtype == "bfloat16"
