"""A fine-tuned classifier as a versioned SavedModel that TF Serving loads."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.models.classifier import Classifier
from keras_ecg_mae.run_folder import write_whole
from keras_ecg_mae.spec import LEADS, SAMPLES, signal_contract
from keras_ecg_mae.storage import files_under, is_remote, read_if_there

MODEL_FILE = "model.json"
SAVED_MODEL = "saved_model.pb"
TOLERANCE = 1e-5


def output_name(label_name: str) -> str:
    """The served output, e.g. `lvsd_probability`: called after what the model was trained to predict."""
    return f"{label_name}_probability"


def export_classifier(
    classifier: Classifier, folder: Path, *, label_name: str, threshold: float, provenance: dict[str, Any]
) -> Path:
    """Writes `folder/VERSION`, the next integer version.

    The model takes `ecg`, `(batch, 12, 5000)` float32 mV, and returns a dict with `<label_name>_probability`,
    `(batch,)` float32. Normalisation is inside. It is written under another name, loaded again and compared with
    `classifier`, and renamed: TF Serving never sees half a version.

    In cloud storage a folder cannot be renamed: there the files of a version that was written and compared on this
    machine are uploaded, the weights first and `saved_model.pb` last. TF Serving sees the version with its first file,
    cannot load it without the last one, keeps the version before, and tries again five times, a minute apart. Two
    exports at a time must not go to one folder there: they could take the same number.

    Args:
        classifier: loaded outside any distribution strategy.
        folder: of all versions of this model; made if absent.
        label_name: what a positive label means, e.g. `lvsd`.
        threshold: a probability of at least this is called positive.
        provenance: where the model comes from, for `assets/model.json`.

    Raises:
        RunError: the reloaded model's outputs differ from the classifier's, or the files cannot be uploaded.
    """
    remote = is_remote(folder)
    if not remote:
        folder.mkdir(parents=True, exist_ok=True)
    # A dot in front: TF Serving looks at folders whose name is a number.
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=None if remote else folder))
    try:
        archive = keras.export.ExportArchive()
        archive.track(classifier)
        name = output_name(label_name)
        archive.add_endpoint(
            "serving_default",
            lambda ecg: {name: classifier.probability(ecg)},
            input_signature=[tf.TensorSpec((None, len(LEADS), SAMPLES), tf.float32, name="ecg")],
        )
        archive.write_out(str(partial), verbose=False)
        _write_description(partial, classifier, label_name, threshold, provenance)
        _compare(partial, classifier, name)
        partial.chmod(0o755)  # mkdtemp's 0700 would lock the server's user out
        version = _upload_as_next_version(partial, folder) if remote else _rename_to_next_version(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logging.info("Exported %s.", version)
    return version


def _write_description(
    folder: Path, classifier: Classifier, label_name: str, threshold: float, provenance: dict[str, Any]
) -> None:
    description = {
        "signal": signal_contract(),
        "input": "ecg",
        "output": output_name(label_name),
        "label": label_name,
        "threshold": threshold,
        "normalization": classifier.normalization.mode,
        "weights": classifier.count_params(),
        "intended_use": "Research. Not a medical device.",
        **provenance,
    }
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / MODEL_FILE).write_text(json.dumps(description, indent=2) + "\n")


def _compare(folder: Path, classifier: Classifier, name: str) -> None:
    ecg = np.random.default_rng(0).normal(scale=0.3, size=(3, len(LEADS), SAMPLES)).astype("float32")
    expected = np.asarray(classifier.probability(ecg))
    received = tf.saved_model.load(str(folder)).signatures["serving_default"](ecg=tf.constant(ecg))[name].numpy()
    difference = float(np.max(np.abs(expected - received)))
    if not difference <= TOLERANCE:
        raise RunError(
            f"{folder}: Expected the export to predict as the model does, within {TOLERANCE}. "
            f"Received a difference of {difference:g}."
        )


def _rename_to_next_version(partial: Path, folder: Path) -> Path:
    while True:
        version = max(versions(folder), default=0) + 1
        try:
            os.rename(partial, folder / str(version))
            return folder / str(version)
        except OSError:  # another export took this number meanwhile; a rename never replaces a full folder
            if not (folder / str(version)).exists():
                raise


def _upload_as_next_version(partial: Path, folder: Path) -> Path:
    number = max(versions(folder), default=0) + 1
    while read_if_there(folder / str(number) / SAVED_MODEL) is not None:  # a listing that failed is one of nothing
        number += 1
    version = folder / str(number)
    for file in sorted(files_under(partial), key=lambda file: (file.name == SAVED_MODEL, -file.stat().st_size)):
        write_whole(version / file.relative_to(partial), file.read_bytes())
    return version


def versions(folder: Path) -> list[int]:
    """The versions of a model that are there, or begun; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
