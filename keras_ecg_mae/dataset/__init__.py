"""Datasets: a cohort's table, the split by patient, TFRecord shards with their manifest, and reading them."""

from keras_ecg_mae.dataset.manifest import Manifest, read_manifest
from keras_ecg_mae.dataset.reading import evaluation_batches, steps_per_epoch, training_batches, verify
from keras_ecg_mae.dataset.split import SPLITS
from keras_ecg_mae.dataset.writing import prepare

__all__ = [
    "SPLITS",
    "Manifest",
    "evaluation_batches",
    "prepare",
    "read_manifest",
    "steps_per_epoch",
    "training_batches",
    "verify",
]
