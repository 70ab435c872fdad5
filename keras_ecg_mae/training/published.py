"""Weights in the published naming, loaded into a model that is about to be trained."""

from pathlib import Path
from typing import Literal

from absl import logging

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import local_copy
from keras_ecg_mae.models.autoencoder import MaskedAutoencoder
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.models.published_weights import LICENCE_NOTE, load_autoencoder_weights, load_classifier_weights
from keras_ecg_mae.models.state_dict import read_state_dict


def load_published(
    path: Path, model: MaskedAutoencoder | Classifier, transfer: Literal["encoder", "blocks"] = "encoder"
) -> None:
    """Loads a weights file and logs what became of each tensor; `transfer` is for a classifier.

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
