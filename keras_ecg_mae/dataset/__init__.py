"""Datasets: TFRecord shards with their manifest, how they are prepared, and how they are read."""

from etils import epy

# Only reading needs TensorFlow, which takes seconds and half a gigabyte to import: so nothing is imported before it is
# asked for, and the processes that `prepare` starts do without.
with epy.lazy_api_imports(globals()):
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
