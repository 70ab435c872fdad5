"""Models of a named size, and a classifier from a pretrained autoencoder."""

from dataclasses import dataclass
from typing import Any

import keras

from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.models.decoder import Decoder
from keras_ecg_mae.models.encoder import Encoder


@dataclass(frozen=True)
class Transformer:
    """Width of a token, number of blocks, attention heads a block."""

    width: int
    depth: int
    heads: int


@dataclass(frozen=True)
class Architecture:
    """The two transformers of a masked autoencoder."""

    encoder: Transformer
    decoder: Transformer


# He et al. 2022, section 4: every decoder from `base` up is 512 wide with 8 blocks.
PUBLISHED_DECODER = Transformer(512, 8, 16)

ARCHITECTURES: dict[str, Architecture] = {
    "tiny": Architecture(Transformer(128, 4, 4), Transformer(96, 2, 4)),
    "small": Architecture(Transformer(384, 12, 6), Transformer(256, 4, 8)),
    "base": Architecture(Transformer(768, 12, 12), PUBLISHED_DECODER),  # ViT-Base
    "large": Architecture(Transformer(1024, 24, 16), PUBLISHED_DECODER),  # ViT-Large, the paper's
    "huge": Architecture(Transformer(1280, 32, 16), PUBLISHED_DECODER),  # ViT-Huge
}


def build_autoencoder(
    architecture: Architecture, *, normalization: str, mask_ratio: float, normalize_target: bool, dtype: Any = None
) -> MaskedAutoencoder:
    """A masked autoencoder with fresh weights."""
    encoder, decoder = architecture.encoder, architecture.decoder
    return MaskedAutoencoder(
        Encoder(encoder.width, encoder.depth, encoder.heads, name="encoder", dtype=dtype),
        Decoder(decoder.width, decoder.depth, decoder.heads, name="decoder", dtype=dtype),
        normalization=normalization,
        mask_ratio=mask_ratio,
        normalize_target=normalize_target,
        name="masked_autoencoder",
    )


def build_classifier(
    transformer: Transformer,
    *,
    normalization: str,
    pooling: str,
    drop_path: float = 0.0,
    head_deviation: float = 0.01,
    dtype: Any = None,
) -> Classifier:
    """A classifier with fresh weights."""
    encoder = Encoder(
        transformer.width,
        transformer.depth,
        transformer.heads,
        drop_path=drop_path,
        final_norm=False,
        name="encoder",
        dtype=dtype,
    )
    return Classifier(
        encoder, normalization=normalization, pooling=pooling, head_deviation=head_deviation, name="classifier"
    )


def in_precision(classifier: Classifier | CnnClassifier, dtype: str) -> Classifier | CnnClassifier:
    """The same classifier, whose encoder computes by another dtype policy of Keras.

    Of a transformer in `mixed_bfloat16` the weights are bfloat16 as well: it would round them each time that it
    computes. Those of the CNN stay float32, since its batch normalisation computes with them as they are.
    """
    config = classifier.get_config()
    if isinstance(classifier, CnnClassifier):
        changed = config
    else:
        changed, dtype = config["encoder"]["config"], dtype.removeprefix("mixed_")
    changed["dtype"] = keras.saving.serialize_keras_object(keras.dtype_policies.get(dtype))
    copy = type(classifier).from_config(config)
    for weight, value in zip(copy.weights, classifier.weights, strict=True):
        weight.assign(value)
    return copy


def load_pretrained_encoder(classifier: Classifier, autoencoder: MaskedAutoencoder) -> None:
    """Copies the pretrained encoder's weights into a classifier.

    With class-token pooling the classifier's norm is the pretrained one, which has seen that token in pretraining;
    with mean pooling it starts fresh, as in He et al. 2022.

    Raises:
        ValueError: the two encoders differ in shape, or normalise recordings differently.
    """
    theirs, ours = autoencoder.encoder, classifier.encoder
    for name in ("width", "depth", "heads"):
        if getattr(theirs, name) != getattr(ours, name):
            raise ValueError(
                f"Expected a pretrained encoder of {name} {getattr(ours, name)}. Received {getattr(theirs, name)}."
            )
    if autoencoder.normalization.mode != classifier.normalization.mode:
        raise ValueError(
            f"Expected an encoder pretrained with normalization {classifier.normalization.mode}. "
            f"Received {autoencoder.normalization.mode}."
        )
    pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = [
        (ours.patch_embedding, theirs.patch_embedding),
        (ours.class_token, theirs.class_token),
        *zip(ours.blocks, theirs.blocks, strict=True),
    ]
    if classifier.pooling == "class_token":
        pairs.append((classifier.norm, theirs.norm))
    for to, source in pairs:
        for weight, value in zip(to.weights, source.weights, strict=True):
            weight.assign(value)
