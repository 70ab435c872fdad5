"""A run's model as a versioned SavedModel that TF Serving loads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import Export
from keras_ecg_mae.dataset.example import encode_units, to_units
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import file_errors
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.serving.model_card import autoencoder_card, classifier_card
from keras_ecg_mae.serving.model_json import (
    ASSETS,
    MODEL_FILE,
    Decision,
    Provenance,
    decision_json,
    model_json,
    write_checksums,
)
from keras_ecg_mae.serving.signatures import (
    DEFAULT,
    ECG_INPUT,
    ENCODE,
    EXAMPLES,
    EXAMPLES_INPUT,
    FEATURES,
    INPUT_OK,
    MASK,
    NOISE_INPUT,
    RECONSTRUCT,
    RECONSTRUCTION,
    Signature,
    autoencoder_signatures,
    classifier_signatures,
    mean_token,
    positive_output,
    probability_output,
    sanitize_input,
)
from keras_ecg_mae.serving.versions import partial_version, publish
from keras_ecg_mae.serving.warmup import simulated_ecg, write_warmup
from keras_ecg_mae.spec import PATCHES

CARD_FILE = "model_card.md"
TOLERANCE = 1e-5

# Outputs by name, by signature.
Answers = dict[str, dict[str, Any]]


def export_classifier(
    classifier: Classifier | CnnClassifier,
    folder: Path,
    *,
    decision: Decision,
    provenance: Provenance,
    batch_sizes: Sequence[int] = Export.export_batch_sizes,
    ecg_mv: np.ndarray | None = None,
) -> Path:
    """Writes `folder/VERSION`, the next integer version; its signatures are `classifier_signatures`.

    It is written under another name, loaded again and compared with `classifier`, and renamed: TF Serving never sees
    half a version. Beside the SavedModel it holds `assets/model.json`, `assets/model_card.md`, `assets/SHA256SUMS` and
    the warm-up requests.

    Args:
        classifier: loaded outside any distribution strategy.
        folder: of all versions of this model, called after its name; made if absent.
        decision: what the probability is of, and when it is positive.
        provenance: where the model comes from.
        batch_sizes: to warm up.
        ecg_mv: `(recordings, 12, 5000)` mV to compare on; None takes a simulated one.

    Raises:
        RunError: the reloaded model's outputs differ from the classifier's.
        FileError: the files cannot be written.
        ConfigError: the batch sizes make too many warm-up requests.
    """
    label = decision.label
    names = {"output": probability_output(label), "positive": positive_output(label)}
    signatures = classifier_signatures(
        classifier, label_name=label, threshold=decision.threshold, max_flat_leads=provenance.max_flat_leads
    )
    ecg = _accepted(folder, ecg_mv, provenance.max_flat_leads)
    ok = np.ones(len(ecg), bool)
    # In graphs, as evaluation computes: outside of them, bfloat16 rounds between any two operations.
    probability = tf.function(classifier.probability)(ecg).numpy()
    answer = {
        names["output"]: probability,
        names["positive"]: probability.astype(np.float64) >= decision.threshold,
        INPUT_OK: ok,
    }
    features = tf.function(classifier.features)(ecg, training=False)
    expected = {DEFAULT: answer, EXAMPLES: answer, ENCODE: {FEATURES: features, INPUT_OK: ok}}
    about = model_json(classifier, folder.name, provenance, batch_sizes)
    content = {"model": "classifier", **about, **names, **decision_json(decision)}
    card = classifier_card(provenance, decision, about)
    return _export(folder, signatures, ecg, expected, content, card, batch_sizes)


def export_autoencoder(
    autoencoder: MaskedAutoencoder,
    folder: Path,
    *,
    provenance: Provenance,
    validation: Mapping[str, Any],
    batch_sizes: Sequence[int] = Export.export_batch_sizes,
    ecg_mv: np.ndarray | None = None,
) -> Path:
    """As `export_classifier`, for a pretrained autoencoder; its signatures are `autoencoder_signatures`.

    Args:
        validation: what pretraining's `done.json` says of its errors, and on what they are, for the model card.
    """
    signatures = autoencoder_signatures(autoencoder, max_flat_leads=provenance.max_flat_leads)
    ecg = _accepted(folder, ecg_mv, provenance.max_flat_leads)
    ok = np.ones(len(ecg), bool)
    features = {FEATURES: tf.function(mean_token)(autoencoder, ecg), INPUT_OK: ok}
    reconstruction, mask = tf.function(autoencoder.reconstruct)(ecg, _mask_noise(len(ecg)))
    reconstructed = {RECONSTRUCTION: reconstruction, MASK: mask, INPUT_OK: ok}
    expected = {DEFAULT: features, EXAMPLES: features, ENCODE: features, RECONSTRUCT: reconstructed}
    about = model_json(autoencoder, folder.name, provenance, batch_sizes)
    content = {"model": "autoencoder", **about, "output": "", "validation": dict(validation)}
    card = autoencoder_card(provenance, validation, about)
    return _export(folder, signatures, ecg, expected, content, card, batch_sizes)


def _export(
    folder: Path,
    signatures: Sequence[Signature],
    ecg: tf.Tensor,
    expected: Answers,
    content: Mapping[str, Any],
    card: str,
    batch_sizes: Sequence[int],
) -> Path:
    with partial_version(folder) as partial, file_errors(folder, "write"):
        # A bare tf.Module would lose a Keras model's variables. The archive finds those that the signatures use;
        # told to track the model, it would write each a second time.
        archive = keras.export.ExportArchive()
        for signature in signatures:
            archive.add_endpoint(signature.name, signature.compute, input_signature=list(signature.inputs))
        archive.write_out(str(partial), verbose=False)
        loaded = tf.saved_model.load(str(partial))
        _compare(partial, loaded, expected, ecg)
        described = {name: _describe_signature(serve) for name, serve in sorted(loaded.signatures.items())}
        text = json.dumps({**content, "signatures": described}, indent=2, ensure_ascii=False, allow_nan=False)
        (partial / ASSETS).mkdir(exist_ok=True)
        (partial / ASSETS / MODEL_FILE).write_text(text + "\n", encoding="utf-8")
        (partial / ASSETS / CARD_FILE).write_text(card, encoding="utf-8")
        write_warmup(partial, folder.name, signatures, batch_sizes)
        write_checksums(partial)
        version = publish(partial, folder)
    logging.info("Exported %s.", version)
    return version


def _accepted(folder: Path, ecg_mv: np.ndarray | None, max_flat_leads: int) -> tf.Tensor:
    """Those of some recordings that the export will take; of None, a simulated one. Raises `RunError` without any."""
    ecg_mv = simulated_ecg()[np.newaxis] if ecg_mv is None else ecg_mv
    ecg, ok = sanitize_input(tf.constant(ecg_mv, tf.float32), max_flat_leads)
    if not np.any(ok):
        raise RunError(
            f"{folder}: Expected to compare on recordings that the export accepts. Received {len(ecg_mv)}, and it "
            f"refuses each, with more than {max_flat_leads} flat leads or an amplitude that is not one of millivolts."
        )
    return tf.boolean_mask(ecg, ok)


def _mask_noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(count, PATCHES)).astype(np.float32)


def _compare(folder: Path, loaded: Any, expected: Answers, ecg: tf.Tensor) -> None:
    """Raises `RunError` where a reloaded version answers otherwise than the run's model."""
    inputs = {
        ECG_INPUT.name: ecg,
        EXAMPLES_INPUT.name: tf.constant([encode_units(to_units("", one)) for one in ecg.numpy()]),
        NOISE_INPUT.name: tf.constant(_mask_noise(len(ecg))),
    }
    for name, outputs in expected.items():
        serve = loaded.signatures[name]
        served = serve(**{key: inputs[key] for key in serve.structured_input_signature[1]})
        for output, values in outputs.items():
            wanted, received = (np.asarray(array).astype(np.float64) for array in (values, served[output]))
            # Features and millivolts are not confined to [0, 1]: what they are rounded by grows with them.
            difference = float(np.max(np.abs(wanted - received) / np.maximum(np.abs(wanted), 1.0)))
            if not difference <= TOLERANCE:
                raise RunError(
                    f"{folder}: Expected the export's {output} of {name} to be the model's, within {TOLERANCE}. "
                    f"Received a difference of {difference:g}."
                )


def _describe_signature(serve: Any) -> dict[str, Any]:
    def described(specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in sorted(specs.items())}

    return {
        "inputs": described(serve.structured_input_signature[1]),
        "outputs": described(serve.structured_outputs),
    }
