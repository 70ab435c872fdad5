"""A classifier's export, loaded on this machine, and what a classifier answers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import is_remote, tensorflow_folder
from keras_ecg_mae.serving.model_json import read_description
from keras_ecg_mae.serving.signatures import DEFAULT, INPUT_OK, positive_output, probability_output
from keras_ecg_mae.serving.versions import SAVED_MODEL, newest_version
from keras_ecg_mae.spec import signal_contract


@dataclass(frozen=True)
class Answer:
    """One batch's results, each `(batch,)`.

    Attributes:
        probability: float32; NaN where the input cannot be an ECG.
        positive: bool, whether the probability reaches the export's threshold.
        input_ok: bool, whether the input can be an ECG.
    """

    probability: np.ndarray
    positive: np.ndarray
    input_ok: np.ndarray


class ExportedModel:
    """A classifier's export, loaded.

    Args:
        path: `saved_models/NAME` for its newest whole version, or `saved_models/NAME/VERSION`.

    Attributes:
        folder: of the version. name: the same, from the root.
        label: what a positive label means. threshold: from which a probability is positive.
        output: the probability's name among the outputs.
        max_flat_leads, long_recordings, quality: how recordings are conformed, as those were that it was trained on.

    Raises:
        RunError: there is no export at `path`, it is not a classifier's, or it takes another signal.
    """

    def __init__(self, path: Path):
        self.folder = version_folder(path)
        self.name = str(self.folder if is_remote(self.folder) else self.folder.resolve())
        description = read_description(self.folder)
        if description.decision is None:
            raise RunError(f"{self.folder}: Expected the export of a classifier. Received an {description.model}'s.")
        if description.signal != signal_contract():
            raise RunError(f"{self.folder}: Expected the signal {signal_contract()}. Received {description.signal}.")
        self.label = description.decision.label
        self.threshold = description.decision.threshold
        self.output = probability_output(self.label)
        self.max_flat_leads = description.max_flat_leads
        self.long_recordings = description.long_recordings
        self.quality = description.quality
        with tensorflow_folder(self.folder) as folder:
            self._loaded = tf.saved_model.load(folder)  # keeps the variables alive

    def classify(self, ecg_mv: np.ndarray) -> Answer:
        """`(batch, 12, 5000)` float32 mV."""
        outputs = self._loaded.signatures[DEFAULT](ecg=tf.constant(ecg_mv, tf.float32))
        names = (self.output, positive_output(self.label), INPUT_OK)
        return Answer(*(outputs[name].numpy() for name in names))


def version_folder(path: Path) -> Path:
    """`path` where it is a version, else its newest whole one. Raises `RunError` where there is none."""
    version = path if (path / SAVED_MODEL).exists() else newest_version(path)
    if version is None:
        raise RunError(f"{path}: Expected an export, saved_models/NAME or saved_models/NAME/VERSION. Received none.")
    return version
