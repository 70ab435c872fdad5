"""What is trained, and on what: the part of a training that pretraining and fine-tuning do not share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf
from absl import logging

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest, Portion, learnt_from
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import local_copy
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.published_weights import LICENCE_NOTE, load_autoencoder_weights, load_classifier_weights
from keras_ecg_mae.models.state_dict import read_state_dict
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.runs.training_data import AUTOENCODER, TrainingData, read_training_data, to_json, write_patients
from keras_ecg_mae.training.log import MetricsLog
from keras_ecg_mae.training.steps import Batch


class Task(ABC):
    """A model, how it learns, and what it learns from.

    Attributes:
        title: names the training on the console.
        folder: for checkpoints, best weights, `metrics.csv` and `tensorboard/`.
        model, optimizer: made in the strategy's scope.
        inputs: what of a batch goes to the devices.
        epochs, steps_per_epoch, batch_size: of the whole, over all replicas.
        best_by: the scalar of the validation whose lowest is the best epoch.
        patience: epochs without a better one before the training is ended.
    """

    title: str
    folder: Path
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    inputs: tuple[str, ...]
    epochs: int
    steps_per_epoch: int
    batch_size: int
    best_by: str
    patience: int

    @abstractmethod
    def losses(self, batch: Batch) -> tf.Tensor:
        """A batch on one replica -> the loss of each of its recordings, `(batch,)`."""

    @abstractmethod
    def batches(self, portion: Portion) -> tf.data.Dataset:
        """The batches to learn from, as `dataset.training_batches` gives them."""

    @abstractmethod
    def validate(self, epoch: int, log: MetricsLog) -> dict[str, float]:
        """Scalars of the model after an epoch; pictures go to the log."""


def load_published(
    path: Path, model: MaskedAutoencoder | Classifier, transfer: Literal["encoder", "blocks"] = "encoder"
) -> None:
    """Loads weights in the published naming and logs what became of each tensor; `transfer` is for a classifier.

    Raises:
        RunError: the file cannot be read, or its tensors are not those of the model.
    """
    with local_copy(path) as file:
        state = read_state_dict(file)
    try:
        if isinstance(model, MaskedAutoencoder):
            accounting = load_autoencoder_weights(model, state)
        else:
            accounting = load_classifier_weights(model, state, transfer)
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error
    logging.info("%s: %s", path, accounting.summary())
    if transfer == "blocks":
        logging.warning("%s: %s", path, LICENCE_NOTE)


def note_training_data(
    config: Config,
    manifest: Manifest,
    folder: Path,
    splits: tuple[str, ...],
    *,
    labelled: bool,
    initial_weights: Path | None,
    label_fraction: float = 1.0,
) -> dict[str, Any]:
    """Writes the patients that a stage has learnt from into its folder.

    Args:
        initial_weights: the file that it began with. Where that is another stage's, its record lies beside it.
        config, manifest, folder: of the stage. splits, labelled, label_fraction: as in `dataset.learnt_from`.

    Returns:
        The stage's training data, as its `done.json` is to hold them.
    """
    learnt = learnt_from(manifest, splits, labelled=labelled, label_fraction=label_fraction, seed=config.training.seed)
    write_patients(folder, learnt.patients)
    before = None
    if initial_weights is not None and initial_weights.name == AUTOENCODER:
        before = read_training_data(initial_weights.parent)
    data = TrainingData(
        run=config.training.run,
        dataset=Dataset(manifest.folder, manifest.digest, manifest.count()),
        label_name=manifest.label_name if labelled else "",
        lvef_threshold=manifest.lvef_threshold if labelled else None,
        patient_keys=manifest.patient_keys,
        recordings=learnt.recordings,
        initial_weights="" if initial_weights is None else str(initial_weights),
        before=before,
        without_patient_id=manifest.table.get("without_patient_id", 0),
        optimizer=config.pretraining.optimizer,
    )
    return to_json(data)
