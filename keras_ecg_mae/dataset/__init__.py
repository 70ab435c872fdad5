"""Datasets: a cohort's table, the split by patient, TFRecord shards with their manifest, and reading them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_ecg_mae.dataset.manifest import Manifest, read_cohort, read_manifest
    from keras_ecg_mae.dataset.reading import (
        LabelledPatients,
        LearntFrom,
        evaluation_batches,
        labelled_patients,
        learnt_from,
        steps_per_epoch,
        training_batches,
        verify,
    )
    from keras_ecg_mae.dataset.writing import prepare, split_table

__all__ = [
    "LabelledPatients",
    "LearntFrom",
    "Manifest",
    "evaluation_batches",
    "labelled_patients",
    "learnt_from",
    "prepare",
    "read_cohort",
    "read_manifest",
    "split_table",
    "steps_per_epoch",
    "training_batches",
    "verify",
]

# Only reading needs TensorFlow, which takes seconds and half a gigabyte to import: so nothing is imported before it is
# asked for, and the processes that `prepare` starts do without.
_MODULES = {
    "manifest": ("Manifest", "read_cohort", "read_manifest"),
    "writing": ("prepare", "split_table"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "reading")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
