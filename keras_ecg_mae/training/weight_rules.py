"""How the optimizer treats each weight: whether it decays, and at which share of the learning rate it learns."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from keras_ecg_mae.layers.tokens import LearntToken
from keras_ecg_mae.layers.transformer import TransformerBlock
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.decoder import Decoder
from keras_ecg_mae.models.encoder import Encoder


@dataclass(frozen=True)
class WeightRule:
    """One weight's rule.

    Attributes:
        decays: whether weight decay is for it: for weights of more than one dimension, pretraining's tokens included.
        rate_scale: what the learning rate, and with it the decoupled decay, is multiplied by.
        block_matrix: whether it is a matrix inside a transformer block, which Muon orthogonalises the updates of.
    """

    decays: bool
    rate_scale: float = 1.0
    block_matrix: bool = False


def weight_rules(model: MaskedAutoencoder | Classifier, layer_decay: float = 1.0) -> list[WeightRule]:
    """A rule for every trainable weight, in the order of `model.trainable_variables`.

    Decay is that of He et al. 2022: none of biases and norms, and in fine-tuning none of the class token either.
    `layer_decay` is the layer-wise one of their table 9 (Clark et al. 2020; Bao et al. 2022): of `depth` blocks, the
    classifier's norm and head learn at the full rate, block i, counted from 0, at `layer_decay ** (depth - i)`, and
    patch embedding and class token at `layer_decay ** (depth + 1)`.

    Raises:
        ValueError: the model has a weight that no rule claims; names it. Nothing is claimed by default, so that a new
            weight cannot decay, or not decay, by accident.
    """
    parts = _classifier(model) if isinstance(model, Classifier) else _autoencoder(model)
    depth = model.encoder.depth
    tokens_decay = isinstance(model, MaskedAutoencoder)
    blocks = [*model.encoder.blocks, *(model.decoder.blocks if isinstance(model, MaskedAutoencoder) else [])]
    matrices = {
        id(layer.kernel) for block in blocks for layer in _block(block) if isinstance(layer, keras.layers.Dense)
    }
    rules = {
        id(weight): WeightRule(
            decays and (tokens_decay or not isinstance(layer, LearntToken)),
            layer_decay ** (depth + 1 - level),
            id(weight) in matrices,
        )
        for level, layer in parts
        for weight, decays in _weights(layer)
    }
    unclaimed = [weight.path for weight in model.trainable_variables if id(weight) not in rules]
    if unclaimed:
        raise ValueError(f"Expected a rule for every weight. Received none for {', '.join(unclaimed)}.")
    return [rules[id(weight)] for weight in model.trainable_variables]


def _autoencoder(model: MaskedAutoencoder) -> Iterator[tuple[int, keras.layers.Layer]]:
    yield from _encoder(model.encoder)
    decoder: Decoder = model.decoder
    for block in decoder.blocks:
        yield from ((model.encoder.depth + 1, layer) for layer in _block(block))
    for layer in (decoder.embedding, decoder.mask_token, decoder.norm, decoder.prediction):
        yield model.encoder.depth + 1, layer


def _classifier(model: Classifier) -> Iterator[tuple[int, keras.layers.Layer]]:
    yield from _encoder(model.encoder)
    yield model.encoder.depth + 1, model.norm
    yield model.encoder.depth + 1, model.head


def _encoder(encoder: Encoder) -> Iterator[tuple[int, keras.layers.Layer]]:
    """Its layers with their level: 0 before the blocks, 1 the first block, `depth + 1` after the last."""
    yield 0, encoder.patch_embedding
    yield 0, encoder.class_token
    for index, block in enumerate(encoder.blocks):
        yield from ((index + 1, layer) for layer in _block(block))
    if encoder.norm is not None:
        yield encoder.depth + 1, encoder.norm


def _block(block: TransformerBlock) -> tuple[keras.layers.Layer, ...]:
    attention = block.attention
    return block.norm_1, attention.query_key_value, attention.projection, block.norm_2, block.mlp_1, block.mlp_2


def _weights(layer: keras.layers.Layer) -> Iterator[tuple[keras.Variable, bool]]:
    """A layer's weights, and whether they decay. A layer of another kind has none that are known."""
    if isinstance(layer, keras.layers.Dense):
        yield layer.kernel, True
        yield layer.bias, False
    elif isinstance(layer, keras.layers.LayerNormalization):
        yield layer.gamma, False
        yield layer.beta, False
    elif isinstance(layer, LearntToken):
        yield layer.token, True
