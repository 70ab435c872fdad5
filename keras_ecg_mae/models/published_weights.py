"""Weights in the naming and layout of the published masked autoencoders, into our models and out of them.

There, a dense layer's weight is (out, in), the patch embedding is a convolution's (out, channels, height, width), and
query, key and value are stacked in this order along out. A file does not tell the number of attention heads.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import keras
import ml_dtypes
import numpy as np

from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.decoder import Decoder
from keras_ecg_mae.models.encoder import Encoder
from keras_ecg_mae.spec import PATCH_SAMPLES

LICENCE_NOTE = (
    "The weights published with the masked autoencoder paper (He et al. 2022) are licensed under CC BY-NC 4.0, "
    "which rules out commercial use."
)

# A block's layers: the published name, and ours.
BLOCK_LAYERS = {
    "norm1": "norm_1",
    "attn.qkv": "attention.query_key_value",
    "attn.proj": "attention.projection",
    "norm2": "norm_2",
    "mlp.fc1": "mlp_1",
    "mlp.fc2": "mlp_2",
}

# What may be left behind: the tensors' names, as a pattern of the whole name, and why.
SAME_POSITIONS = "computed by the model itself, and the same"
_BLOCK = "|".join(map(re.escape, BLOCK_LAYERS))
_DECODER = (
    r"mask_token|decoder_pos_embed|decoder_(embed|norm|pred)\.(weight|bias)|"
    rf"decoder_blocks\.\d+\.({_BLOCK})\.(weight|bias)"
)
_NORM = r"norm\.(weight|bias)"
_DECODER_NOT_ASKED_FOR = {_DECODER: "the decoder was not asked for"}
_DECODER_OF_A_CLASSIFIER = {_DECODER: "a classifier has no decoder"}
_NORM_OF_MEAN_POOLING = {_NORM: "with mean pooling the classifier's norm starts fresh (He et al. 2022)"}
_IMAGES = {
    r"patch_embed\.proj\.(weight|bias)": "it embeds patches of an image, not of an ECG",
    r"pos_embed": "positions on an image's grid, not on leads and time",
    r"(head|fc_norm)\.(weight|bias)": "the classification head is the classifier's own",
}


@dataclass(frozen=True)
class Accounting:
    """What became of every tensor of a state dict, and of every weight of the model.

    Args:
        loaded: published names of the tensors that were loaded.
        skipped: published names of those that were left out on purpose, each with the reason.
        untouched: paths of the model's weights that no tensor was meant for.
    """

    loaded: tuple[str, ...]
    skipped: dict[str, str]
    untouched: tuple[str, ...]

    def summary(self) -> str:
        """A few lines for the log."""
        lines = [f"{len(self.loaded)} tensors loaded, {len(self.skipped)} skipped on purpose"]
        for reason, count in Counter(self.skipped.values()).items():
            names = [name for name in self.skipped if self.skipped[name] == reason]
            lines.append(f"  {count} skipped, {reason}: {_some(names)}")
        if self.untouched:
            lines.append(f"  {len(self.untouched)} weights of the model left as they were: {_some(self.untouched)}")
        return "\n".join(lines)


def load_autoencoder_weights(
    model: MaskedAutoencoder, state: Mapping[str, np.ndarray], parts: Literal["all", "encoder"] = "all"
) -> Accounting:
    """Loads a masked autoencoder that was trained on ECGs of our geometry.

    Args:
        model: takes the weights; stays as it is where anything does not fit.
        state: tensors by their published names, as `read_state_dict` returns them.
        parts: encoder and decoder, or the encoder alone, whether there is a decoder among the tensors or not.

    Raises:
        ValueError: tensors are missing, unexpected or misshapen, or were trained with other positions; lists them all.
    """
    wanted, positions = _encoder_tensors(model.encoder, model.encoder.norm), _encoder_positions(model.encoder)
    skip: dict[str, str] = {}
    if parts == "encoder":
        skip = _DECODER_NOT_ASKED_FOR
    else:
        wanted |= _decoder_tensors(model.decoder)
        positions |= _decoder_positions(model.decoder)
    return _load(model, wanted, positions, skip, state)


def load_classifier_weights(
    classifier: Classifier, state: Mapping[str, np.ndarray], transfer: Literal["encoder", "blocks"]
) -> Accounting:
    """Loads a pretrained encoder into a classifier.

    Args:
        classifier: takes the weights; stays as it is where anything does not fit.
        state: tensors by their published names, as `read_state_dict` returns them.
        transfer: `"encoder"`: everything, from an autoencoder that was trained on ECGs of our geometry; with mean
            pooling the classifier's norm starts fresh, as in He et al. 2022 and `load_pretrained_encoder`. `"blocks"`:
            transformer blocks, norm and class token of one that was trained on images, whose patches and positions
            mean nothing here. For the weights published with the paper, `LICENCE_NOTE` applies.

    Raises:
        ValueError: tensors are missing, unexpected or misshapen, or were trained with other positions; lists them all.
    """
    wanted, positions = _encoder_tensors(classifier.encoder, classifier.norm), _encoder_positions(classifier.encoder)
    skip = dict(_DECODER_OF_A_CLASSIFIER)
    if transfer == "blocks":
        skip |= _IMAGES
        positions = {}
    elif classifier.pooling == "mean":
        skip |= _NORM_OF_MEAN_POOLING
    wanted = {name: tensor for name, tensor in wanted.items() if _reason(name, skip) is None}
    return _load(classifier, wanted, positions, skip, state)


def state_dict(model: MaskedAutoencoder) -> dict[str, np.ndarray]:
    """An autoencoder's weights by their published names, float32: for `safetensors.numpy.save_file` or `np.savez`."""
    tensors = _encoder_tensors(model.encoder, model.encoder.norm) | _decoder_tensors(model.decoder)
    positions = _encoder_positions(model.encoder) | _decoder_positions(model.decoder)
    return {name: tensor.published() for name, tensor in tensors.items()} | {
        name: table.copy() for name, table in positions.items()
    }


@dataclass(frozen=True)
class _Tensor:
    """A weight of ours, and the shape it has in the published layout."""

    weight: Any
    shape: tuple[int, ...]

    def assign(self, value: np.ndarray) -> None:
        # (out, in, ...) -> (in, out). Vectors and tokens have one axis only, and pass as they are.
        self.weight.assign(value.reshape(len(value), -1).T.reshape(self.weight.shape))

    def published(self) -> np.ndarray:
        value = keras.ops.convert_to_numpy(self.weight).astype(np.float32)
        return np.ascontiguousarray(value.T).reshape(self.shape)


def _layer_tensors(name: str, layer: keras.layers.Layer) -> dict[str, _Tensor]:
    norm = isinstance(layer, keras.layers.LayerNormalization)
    weight, bias = (layer.gamma, layer.beta) if norm else (layer.kernel, layer.bias)
    return {
        f"{name}.weight": _Tensor(weight, tuple(weight.shape)[::-1]),
        f"{name}.bias": _Tensor(bias, tuple(bias.shape)),
    }


def _blocks_tensors(name: str, blocks: list[Any]) -> dict[str, _Tensor]:
    return {
        published: tensor
        for index, block in enumerate(blocks)
        for theirs, ours in BLOCK_LAYERS.items()
        for published, tensor in _layer_tensors(f"{name}.{index}.{theirs}", attrgetter(ours)(block)).items()
    }


def _encoder_tensors(encoder: Encoder, norm: keras.layers.Layer) -> dict[str, _Tensor]:
    embedding = encoder.patch_embedding
    return {
        "cls_token": _Tensor(encoder.class_token.token, (1, 1, encoder.width)),
        **_layer_tensors("patch_embed.proj", embedding),
        "patch_embed.proj.weight": _Tensor(embedding.kernel, (encoder.width, 1, 1, PATCH_SAMPLES)),
        **_blocks_tensors("blocks", encoder.blocks),
        **_layer_tensors("norm", norm),
    }


def _decoder_tensors(decoder: Decoder) -> dict[str, _Tensor]:
    return {
        "mask_token": _Tensor(decoder.mask_token.token, (1, 1, decoder.width)),
        **_layer_tensors("decoder_embed", decoder.embedding),
        **_blocks_tensors("decoder_blocks", decoder.blocks),
        **_layer_tensors("decoder_norm", decoder.norm),
        **_layer_tensors("decoder_pred", decoder.prediction),
    }


def _encoder_positions(encoder: Encoder) -> dict[str, np.ndarray]:
    return {"pos_embed": encoder.positions.table}


def _decoder_positions(decoder: Decoder) -> dict[str, np.ndarray]:
    return {"decoder_pos_embed": decoder.positions.table}


def _load(
    model: keras.Model,
    wanted: dict[str, _Tensor],
    positions: dict[str, np.ndarray],
    skip: dict[str, str],
    state: Mapping[str, np.ndarray],
) -> Accounting:
    """Assigns the wanted tensors once all of them are known to fit."""
    missing = [f"missing: {name}, expected {wanted[name].shape}" for name in sorted(wanted.keys() - state.keys())]
    unexpected, misshapen, elsewhere = [], [], []
    skipped: dict[str, str] = {}
    for name in sorted(state):
        received = state[name].shape
        expected = wanted[name].shape if name in wanted else positions[name].shape if name in positions else None
        if expected is None:
            reason = _reason(name, skip)
            if reason is None:
                unexpected.append(f"unexpected: {name}, received {received}")
            else:
                skipped[name] = reason
        elif received != expected:
            misshapen.append(f"misshapen: {name}, expected {expected}, received {received}")
        elif name in positions:
            difference = float(np.max(np.abs(state[name] - positions[name])))
            if not difference <= _tolerance(state[name]):
                elsewhere.append(
                    f"positions: {name}, expected sines and cosines of 12 leads x 20 patches, "
                    f"received values up to {difference:.2g} away"
                )
            skipped[name] = SAME_POSITIONS
    problems = [*missing, *unexpected, *misshapen, *elsewhere]
    if problems:
        counts = f"{len(missing)} missing, {len(unexpected)} unexpected and {len(misshapen)} misshapen tensors"
        other = f", and positions this model has not: {len(elsewhere)}" if elsewhere else ""
        raise ValueError("\n  ".join([f"Expected the weights of this model. Received {counts}{other}:", *problems]))
    for name, tensor in wanted.items():
        tensor.assign(state[name])
    filled = {id(tensor.weight) for tensor in wanted.values()}
    return Accounting(
        loaded=tuple(sorted(wanted)),
        skipped=skipped,
        untouched=tuple(weight.path for weight in model.weights if id(weight) not in filled),
    )


def _tolerance(positions: np.ndarray) -> float:
    """1e-4, and what the type they were stored in rounds off a value just under 1: half a unit of its last place."""
    # bfloat16 first: most of its values are float16's too.
    for dtype, rounding in ((ml_dtypes.bfloat16, 2.0**-9), (np.float16, 2.0**-12)):
        if np.array_equal(positions, positions.astype(dtype).astype(positions.dtype)):
            return 1e-4 + rounding
    return 1e-4


def _reason(name: str, skip: dict[str, str]) -> str | None:
    return next((reason for pattern, reason in skip.items() if re.fullmatch(pattern, name)), None)


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
