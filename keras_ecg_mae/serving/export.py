"""A run's model as a versioned SavedModel that TF Serving loads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae import __version__
from keras_ecg_mae.config import Export
from keras_ecg_mae.dataset.schema import encode_units, to_units
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.run_folder import Made, git_revision, now
from keras_ecg_mae.serving.description import (
    INTENDED_USE,
    Decision,
    describe_decision,
    weights_sha256,
    write_checksums,
    write_description,
)
from keras_ecg_mae.serving.input_check import checked
from keras_ecg_mae.serving.model_card import write_autoencoder_card, write_classifier_card
from keras_ecg_mae.serving.origin import Origin
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
)
from keras_ecg_mae.serving.versions import partial_version, publish
from keras_ecg_mae.serving.warmup import simulated_ecg, write_warmup
from keras_ecg_mae.spec import PATCHES
from keras_ecg_mae.training_data import to_json

TOLERANCE = 1e-5

# By signature and output, what the run's own model gives for recordings (batch, 12, 5000) and mask noise (batch, 240).
# In graphs, as evaluation computes: outside of them, bfloat16 rounds between any two operations.
Expected = Callable[[tf.Tensor, np.ndarray], dict[str, dict[str, Any]]]


def export_classifier(
    classifier: Classifier | CnnClassifier,
    folder: Path,
    *,
    decision: Decision,
    origin: Origin,
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
        origin: where the model comes from.
        batch_sizes: to warm up.
        ecg_mv: `(recordings, 12, 5000)` mV to compare on; None takes a simulated one.

    Raises:
        RunError: the reloaded model's outputs differ from the classifier's, or the files cannot be written.
        ConfigError: the batch sizes make too many warm-up requests.
    """
    label = decision.label
    signatures = classifier_signatures(
        classifier, label_name=label, threshold=decision.threshold, max_flat_leads=origin.max_flat_leads
    )

    def expected(ecg: tf.Tensor, _: np.ndarray) -> dict[str, dict[str, Any]]:
        probability = tf.function(classifier.probability)(ecg).numpy()
        ok = np.ones(len(probability), bool)
        answer = {
            probability_output(label): probability,
            positive_output(label): probability.astype(np.float64) >= decision.threshold,
            INPUT_OK: ok,
        }
        features = tf.function(classifier.features)(ecg, training=False)
        return {DEFAULT: answer, EXAMPLES: answer, ENCODE: {FEATURES: features, INPUT_OK: ok}}

    def describe(partial: Path, content: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        names = {"output": probability_output(label), "positive": positive_output(label)}
        write_description(partial, {"model": "classifier", **content, **names, **describe_decision(decision)})
        write_classifier_card(partial, folder.name, origin, decision, facts)

    return _export(classifier, folder, signatures, expected, describe, origin, batch_sizes, ecg_mv)


def export_autoencoder(
    autoencoder: MaskedAutoencoder,
    folder: Path,
    *,
    origin: Origin,
    validation: Mapping[str, Any],
    batch_sizes: Sequence[int] = Export.export_batch_sizes,
    ecg_mv: np.ndarray | None = None,
) -> Path:
    """As `export_classifier`, for a pretrained autoencoder; its signatures are `autoencoder_signatures`.

    Args:
        validation: what pretraining's `done.json` says of its errors, and on what they are, for the model card.
    """
    signatures = autoencoder_signatures(autoencoder, max_flat_leads=origin.max_flat_leads)

    def expected(ecg: tf.Tensor, noise: np.ndarray) -> dict[str, dict[str, Any]]:
        ok = np.ones(len(noise), bool)
        features = {FEATURES: tf.function(mean_token)(autoencoder, ecg), INPUT_OK: ok}
        reconstruction, mask = tf.function(autoencoder.reconstruct)(ecg, noise)
        reconstructed = {RECONSTRUCTION: reconstruction, MASK: mask, INPUT_OK: ok}
        return {DEFAULT: features, EXAMPLES: features, ENCODE: features, RECONSTRUCT: reconstructed}

    def describe(partial: Path, content: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        write_description(partial, {"model": "autoencoder", **content, "output": "", "validation": dict(validation)})
        write_autoencoder_card(partial, folder.name, origin, validation, facts)

    return _export(autoencoder, folder, signatures, expected, describe, origin, batch_sizes, ecg_mv)


def _export(
    model: keras.Model,
    folder: Path,
    signatures: Sequence[Signature],
    expected: Expected,
    describe: Callable[[Path, Mapping[str, Any], Mapping[str, Any]], None],
    origin: Origin,
    batch_sizes: Sequence[int],
    ecg_mv: np.ndarray | None,
) -> Path:
    ecg = _accepted(folder, simulated_ecg()[np.newaxis] if ecg_mv is None else ecg_mv, origin.max_flat_leads)
    with partial_version(folder) as partial:
        # A bare tf.Module would lose a Keras model's variables. The archive finds those that the signatures use;
        # told to track the model, it would write each a second time.
        archive = keras.export.ExportArchive()
        for signature in signatures:
            archive.add_endpoint(signature.name, signature.compute, input_signature=list(signature.inputs))
        archive.write_out(str(partial), verbose=False)
        loaded = tf.saved_model.load(str(partial))
        _compare(partial, loaded, expected, ecg)
        content, facts = _about(model, folder.name, loaded, origin, batch_sizes)
        describe(partial, content, facts)
        write_warmup(partial, folder.name, signatures, batch_sizes)
        write_checksums(partial)
        version = publish(partial, folder)
    logging.info("Exported %s.", version)
    return version


def _accepted(folder: Path, ecg_mv: np.ndarray, max_flat_leads: int) -> tf.Tensor:
    """Those of some recordings that the export will take. Raises `RunError` where there are none."""
    ecg, ok = checked(tf.constant(ecg_mv, tf.float32), max_flat_leads)
    if not np.any(ok):
        raise RunError(
            f"{folder}: Expected to compare on recordings that the export accepts. Received {len(ecg_mv)}, and it "
            f"refuses each, with more than {max_flat_leads} flat leads or an amplitude that is not one of millivolts."
        )
    return tf.boolean_mask(ecg, ok)


def _compare(folder: Path, loaded: Any, expected: Expected, ecg: tf.Tensor) -> None:
    """Raises `RunError` where a reloaded version answers otherwise than the run's model."""
    noise = np.random.default_rng(0).uniform(size=(len(ecg), PATCHES)).astype(np.float32)
    inputs = {
        ECG_INPUT.name: ecg,
        EXAMPLES_INPUT.name: tf.constant([encode_units(to_units("", one)) for one in ecg.numpy()]),
        NOISE_INPUT.name: tf.constant(noise),
    }
    for name, outputs in expected(ecg, noise).items():
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


def _about(
    model: Any, name: str, loaded: Any, origin: Origin, batch_sizes: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `model.json` and the model card say of every kind of model."""
    made = Made(now(), git_revision(), __version__)
    weights = {"count": model.count_params(), "sha256": weights_sha256(model)}
    content = {
        "name": name,
        "input": ECG_INPUT.name,
        "signatures": {name: _describe_signature(serve) for name, serve in sorted(loaded.signatures.items())},
        "precision": model.encoder.dtype_policy.name,
        "normalization": model.normalization.mode,
        "max_flat_leads": origin.max_flat_leads,
        "long_recordings": origin.long_recordings,
        "quality": origin.quality,
        "weights": weights,
        "warmup_batch_sizes": list(batch_sizes),
        "intended_use": INTENDED_USE,
        "run": origin.trained.run,
        "dataset": origin.trained.dataset.sha256,
        **to_json(origin.trained),
        "external_institutions": list(origin.cohort.external_institutions),
        "counts": [asdict(count) for count in origin.cohort.counts],
        "settings": dict(origin.settings),
        "trained": origin.made and asdict(origin.made),
        "exported": asdict(made),
    }
    facts = {
        **{setting: str(value) for setting, value in origin.settings.items()},
        "normalisation, inside": model.normalization.mode,
        "computes in": model.encoder.dtype_policy.name,
        "weights": f"{weights['count']:,}, SHA-256 {weights['sha256']}",
        "run": origin.trained.run,
        "dataset": origin.trained.dataset.sha256,
        "trained": origin.made and f"{origin.made.done}, revision {origin.made.git_revision}",
        "exported": f"{made.done}, revision {made.git_revision}",
    }
    return content, {head: value for head, value in facts.items() if value is not None}


def _describe_signature(serve: Any) -> dict[str, Any]:
    def described(specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in sorted(specs.items())}

    return {
        "inputs": described(serve.structured_input_signature[1]),
        "outputs": described(serve.structured_outputs),
    }
