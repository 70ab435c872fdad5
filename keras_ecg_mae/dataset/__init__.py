"""Datasets: TFRecord shards with their manifest, how they are prepared, and how they are read."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_ecg_mae.dataset.batches import Draws, Portion, evaluation_batches, training_batches
    from keras_ecg_mae.dataset.manifest import Manifest, read_cohort, read_manifest, verify
    from keras_ecg_mae.dataset.selection import (
        LabelledPatients,
        LearntFrom,
        labelled_patients,
        learnt_from,
        steps_per_epoch,
    )
    from keras_ecg_mae.dataset.writing import prepare, split_table

__all__ = [
    "Draws",
    "LabelledPatients",
    "LearntFrom",
    "Manifest",
    "Portion",
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
    "batches": ("Draws", "Portion", "evaluation_batches", "training_batches"),
    "manifest": ("Manifest", "read_cohort", "read_manifest", "verify"),
    "writing": ("prepare", "split_table"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "selection")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
