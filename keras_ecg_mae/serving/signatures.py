"""The signatures of an export: what a server is asked, what it answers, and what it takes for an ECG."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ecg_mae.dataset.example import decode_ecg
from keras_ecg_mae.layers.tokens import to_patches
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.recordings.quality import FLAT_PEAK_TO_PEAK_MV, LARGEST_PEAK_MV, SMALLEST_PEAK_TO_PEAK_MV
from keras_ecg_mae.spec import LEADS, MILLIVOLTS_PER_UNIT, PATCHES, SAMPLES

DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY  # what a request that names none asks
EXAMPLES, ENCODE, RECONSTRUCT = "serve_examples", "encode", "reconstruct"
INPUT_OK, FEATURES, RECONSTRUCTION, MASK = "input_ok", "features", "reconstruction", "mask"

ECG_INPUT = tf.TensorSpec((None, len(LEADS), SAMPLES), tf.float32, name="ecg")
EXAMPLES_INPUT = tf.TensorSpec((None,), tf.string, name="examples")
NOISE_INPUT = tf.TensorSpec((None, PATCHES), tf.float32, name="mask_noise")

# What `prepare` accepted is served, though storing it has moved its samples by half a unit.
ROUNDING_MV = MILLIVOLTS_PER_UNIT / 2
_UNITS = np.iinfo(np.int16)

Outputs = dict[str, tf.Tensor]


@dataclass(frozen=True)
class Signature:
    """One thing to ask.

    Attributes:
        name: as requests name it.
        inputs: by name, the batch dimension first and open.
        compute: these inputs in their order -> outputs by name, the batch dimension first.
    """

    name: str
    inputs: tuple[tf.TensorSpec, ...]
    compute: Callable[..., Outputs]


def probability_output(label_name: str) -> str:
    """The served probability, e.g. `lvsd_probability`: called after what the model was trained to predict."""
    return f"{label_name}_probability"


def positive_output(label_name: str) -> str:
    """Whether the probability reaches the threshold, e.g. `lvsd_positive`."""
    return f"{label_name}_positive"


def classifier_signatures(
    classifier: Classifier | CnnClassifier, *, label_name: str, threshold: float, max_flat_leads: int
) -> tuple[Signature, ...]:
    """What a classifier is asked. Where `input_ok` is false, numbers are NaN and nothing is positive.

    `serving_default`: `ecg` `(batch, 12, 5000)` float32 mV -> `<label>_probability` `(batch,)` float32,
    `<label>_positive` and `input_ok` `(batch,)` bool. `serve_examples`: the same of `examples` `(batch,)` strings,
    serialized tf.Examples with the feature `ecg` of a dataset's. `encode`: `ecg` -> `features`
    `(batch, width)` float32, which the classifier's last layers read, and `input_ok`.
    """

    def classify(ecg: tf.Tensor) -> Outputs:
        ecg, ok = sanitize_input(ecg, max_flat_leads)
        probability = classifier.probability(ecg)
        # In float64, as evaluation compares: a float32 threshold may lie on the other side of a probability.
        positive = tf.cast(probability, tf.float64) >= tf.constant(threshold, tf.float64)
        return {
            probability_output(label_name): number_where(ok, probability),
            positive_output(label_name): positive & ok,
            INPUT_OK: ok,
        }

    def encode(ecg: tf.Tensor) -> Outputs:
        ecg, ok = sanitize_input(ecg, max_flat_leads)
        return {FEATURES: number_where(ok, classifier.features(ecg, training=False)), INPUT_OK: ok}

    def classify_examples(examples: tf.Tensor) -> Outputs:
        return classify(decode_ecg(examples))

    return (
        Signature(DEFAULT, (ECG_INPUT,), classify),
        Signature(EXAMPLES, (EXAMPLES_INPUT,), classify_examples),
        Signature(ENCODE, (ECG_INPUT,), encode),
    )


def autoencoder_signatures(autoencoder: MaskedAutoencoder, *, max_flat_leads: int) -> tuple[Signature, ...]:
    """What an autoencoder is asked. Where `input_ok` is false, numbers are NaN.

    `encode`, the default: `ecg` `(batch, 12, 5000)` float32 mV -> `features` `(batch, width)` float32, the mean of the
    patches' tokens with nothing hidden, and `input_ok` `(batch,)` bool. `serve_examples`: the same of `examples`.
    `reconstruct`: `ecg` and `mask_noise` `(batch, 240)` float32, whose largest values say which patches to hide ->
    `reconstruction` `(batch, 12, 5000)` float32 mV, visible patches as they were, `mask` `(batch, 240)` float32, 1
    where hidden, and `input_ok`.
    """

    def encode(ecg: tf.Tensor) -> Outputs:
        ecg, ok = sanitize_input(ecg, max_flat_leads)
        return {FEATURES: number_where(ok, mean_token(autoencoder, ecg)), INPUT_OK: ok}

    def encode_examples(examples: tf.Tensor) -> Outputs:
        return encode(decode_ecg(examples))

    def reconstruct(ecg: tf.Tensor, mask_noise: tf.Tensor) -> Outputs:
        ecg, ok = sanitize_input(ecg, max_flat_leads)
        reconstruction, mask = autoencoder.reconstruct(ecg, mask_noise)
        return {
            RECONSTRUCTION: number_where(ok, reconstruction),
            MASK: number_where(ok, mask),
            INPUT_OK: ok,
        }

    return (
        Signature(DEFAULT, (ECG_INPUT,), encode),
        Signature(EXAMPLES, (EXAMPLES_INPUT,), encode_examples),
        Signature(ENCODE, (ECG_INPUT,), encode),
        Signature(RECONSTRUCT, (ECG_INPUT, NOISE_INPUT), reconstruct),
    )


def mean_token(autoencoder: MaskedAutoencoder, ecg: Any) -> Any:
    """`(batch, 12, 5000)` mV -> mean of the patches' tokens, nothing hidden, `(batch, width)`."""
    tokens = autoencoder.encoder(to_patches(autoencoder.normalization(ecg)))
    return tf.reduce_mean(tf.cast(tokens[:, 1:], tf.float32), axis=1)


def number_where(ok: tf.Tensor, values: Any) -> tf.Tensor:
    """float32 `values` `(batch, ...)`, NaN where `ok` `(batch,)` is false."""
    values = tf.cast(values, tf.float32)
    shape = tf.concat([tf.shape(ok), tf.ones(tf.rank(values) - 1, tf.int32)], axis=0)
    return tf.where(tf.reshape(ok, shape), values, tf.constant(float("nan")))


def sanitize_input(ecg: tf.Tensor, max_flat_leads: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A recording as a dataset would store it, and whether `prepare` would have accepted it.

    Samples are rounded to the unit of `dataset/example.py`, so that a recording has one value, the one it had in
    training, whether it comes as a tf.Example, from a file, or from a client that has not rounded it.

    Args:
        ecg: `(batch, 12, 5000)` float32 mV.
        max_flat_leads: how many leads may be constant.

    Returns:
        `(batch, 12, 5000)` float32 mV, zero where it is not accepted; `(batch,)` bool: all samples are numbers and
        within what the dataset holds, at most so many leads are flat, and the amplitude is one of millivolts.
    """
    finite = tf.reduce_all(tf.math.is_finite(ecg), axis=(1, 2))
    # NaN has no place in an order, and the sorting below would not end well.
    ecg = _where(finite, ecg)
    # In float64, as the dataset is written: in float32 some samples would fall to the other side of a half.
    units = tf.round(tf.cast(ecg, tf.float64) / MILLIVOLTS_PER_UNIT)
    ecg = tf.cast(units, tf.float32) * MILLIVOLTS_PER_UNIT
    range_mv = tf.reduce_max(ecg, axis=2) - tf.reduce_min(ecg, axis=2)  # (batch, 12)
    flat = tf.reduce_sum(tf.cast(range_mv < FLAT_PEAK_TO_PEAK_MV - ROUNDING_MV, tf.int32), axis=1)
    ok = (
        finite
        & tf.reduce_all((units >= _UNITS.min) & (units <= _UNITS.max), axis=(1, 2))
        & (flat <= max_flat_leads)
        & (tf.reduce_max(range_mv, axis=1) >= SMALLEST_PEAK_TO_PEAK_MV - ROUNDING_MV)
        & tf.reduce_all(_peaks_mv(ecg, range_mv) <= LARGEST_PEAK_MV + ROUNDING_MV, axis=1)
    )
    return _where(ok, ecg), ok


def _peaks_mv(ecg: tf.Tensor, range_mv: tf.Tensor) -> tf.Tensor:
    """Each lead's largest distance from its median, or a bound of it where that is within the limit: `(batch, 12)`."""

    def from_median() -> tf.Tensor:
        descending = tf.math.top_k(ecg, SAMPLES // 2 + 1).values
        median = (descending[..., -1] + descending[..., -2]) / 2
        return tf.reduce_max(tf.abs(ecg - median[..., tf.newaxis]), axis=2)

    # Nothing lies farther from the median than from peak to peak. A median costs as much as a tiny model.
    return tf.cond(tf.reduce_any(range_mv > LARGEST_PEAK_MV), from_median, lambda: range_mv)


def _where(kept: tf.Tensor, ecg: tf.Tensor) -> tf.Tensor:
    return tf.where(kept[:, tf.newaxis, tf.newaxis], ecg, tf.zeros_like(ecg))
