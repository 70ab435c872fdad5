"""A run's classifier, held against a dataset's labels."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest, evaluation_batches
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import evaluate
from keras_ecg_mae.evaluation.scoring import Results
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.cnn import CnnClassifier
from keras_ecg_mae.stages.settings import FOLDERS
from keras_ecg_mae.storage import local_copy, storage_path
from keras_ecg_mae.training.finetune import CLASSIFIER


def load_classifier(config: Config) -> Classifier | CnnClassifier:
    """The run's fine-tuned classifier. Raises `RunError` where there is none."""
    path = storage_path(config.training.run) / FOLDERS["finetune"] / CLASSIFIER
    if not path.is_file():
        raise RunError(
            f"{path}: Expected a fine-tuned classifier. Received no such file: run the stage finetune first."
        )
    with local_copy(path) as file:
        return keras.models.load_model(file, compile=False)


def evaluate_model(
    classifier: Classifier | CnnClassifier, config: Config, manifest: Manifest, folder: Path, threshold: float | None
) -> Results:
    """As `evaluate_predictions`, with those of a classifier."""
    predict = tf.function(classifier.probability, reduce_retracing=True)
    return evaluate_predictions(lambda ecg: np.asarray(predict(tf.constant(ecg))), config, manifest, folder, threshold)


def evaluate_predictions(
    predict: Callable[[np.ndarray], np.ndarray],
    config: Config,
    manifest: Manifest,
    folder: Path,
    threshold: float | None,
) -> Results:
    """Predicts the validation and test ECGs that have a label, and leaves what comes of it in `folder`.

    Args:
        predict: `(batch, 12, 5000)` mV -> probabilities `(batch,)`.
        threshold: from which a probability is positive; None chooses it on the validation ECGs.
    """
    batches = evaluation_batches(
        manifest, ["validation", "test"], batch_size=config.evaluation.evaluate_batch_size, labelled=True
    )
    return evaluate(
        predict,
        batches.as_numpy_iterator(),
        folder,
        external_institutions=manifest.external_institutions,
        label_name=manifest.label_name,
        confidence=config.evaluation.confidence,
        threshold=threshold,
    )
