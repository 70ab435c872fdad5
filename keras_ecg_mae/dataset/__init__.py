"""Datasets: a cohort's table, the split by patient, TFRecord shards with their manifest, and reading them."""

from keras_ecg_mae.dataset.description import CohortDescription
from keras_ecg_mae.dataset.manifest import Manifest, read_cohort, read_manifest
from keras_ecg_mae.dataset.reading import (
    LabelledPatients,
    evaluation_batches,
    labelled_patients,
    steps_per_epoch,
    training_batches,
    verify,
)
from keras_ecg_mae.dataset.writing import prepare, split_table

__all__ = [
    "CohortDescription",
    "LabelledPatients",
    "Manifest",
    "evaluation_batches",
    "labelled_patients",
    "prepare",
    "read_cohort",
    "read_manifest",
    "split_table",
    "steps_per_epoch",
    "training_batches",
    "verify",
]
