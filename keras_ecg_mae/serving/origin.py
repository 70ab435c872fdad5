"""Where an exported model comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from keras_ecg_mae.config import SPLITS, Cohort, Quality
from keras_ecg_mae.dataset import CohortDescription, Manifest, evaluation_batches
from keras_ecg_mae.run_folder import SETTINGS, Made, read_json, read_made
from keras_ecg_mae.training_data import TrainingData

COMPARED_RECORDINGS = 8

# Settings that a model card shows, of those that decide a stage.
_SHOWN = (
    *("architecture", "size", "pooling", "mask_ratio", "normalize_target", "encoder", "transfer", "recipe", "trained"),
    *("label_fraction", "precision", "seed"),
)


@dataclass(frozen=True)
class Origin:
    """Where a model comes from.

    Attributes:
        trained: what it was trained on.
        cohort: who is in that dataset.
        max_flat_leads, long_recordings: `prepare`'s settings, which say what becomes of a recording before the model.
        quality: what `prepare` refused recordings for, and by which limits: settings of `Quality`.
        settings: others that made it, by name, for the model card.
        made: when and by which revision its weights were finished; None where it is not known.
    """

    trained: TrainingData
    cohort: CohortDescription
    max_flat_leads: int = 0
    long_recordings: str = "first"
    quality: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    made: Made | None = None


def origin_of(trained: TrainingData, stage: Path, manifest: Manifest) -> Origin:
    """The origin of a run's model.

    Args:
        trained: what it was trained on.
        stage: the folder of the stage that made it. What it was made with stands there: the settings of a later
            command may be others.
        manifest: the dataset it was trained on.
    """
    made_with, prepared = read_json(stage / SETTINGS) or {}, manifest.settings
    return Origin(
        trained=trained,
        cohort=manifest,
        max_flat_leads=prepared.get("max_flat_leads", Cohort.max_flat_leads),
        long_recordings=prepared.get("long_recordings", Cohort.long_recordings),
        quality={
            item.name: prepared[flag] for item in fields(Quality) if (flag := Quality.flag(item.name)) in prepared
        },
        settings={name: made_with[name] for name in _SHOWN if name in made_with},
        made=read_made(stage),
    )


def ecgs_to_compare(manifest: Manifest, *, labelled: bool) -> np.ndarray:
    """Some of the dataset's recordings, tested ones first: `(recordings, 12, 5000)` mV."""
    batches = evaluation_batches(manifest, SPLITS[::-1], batch_size=COMPARED_RECORDINGS, labelled=labelled)
    return next(iter(batches))["ecg"].numpy()
