"""What a training has learnt from, noted in its stage's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_ecg_mae.config import Config
from keras_ecg_mae.dataset import Manifest, learnt_from
from keras_ecg_mae.runs.record import Dataset
from keras_ecg_mae.runs.training_data import AUTOENCODER, TrainingData, read_training_data, to_json, write_patients


def note_training_data(
    config: Config,
    manifest: Manifest,
    folder: Path,
    splits: Sequence[str],
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
    data = TrainingData(
        run=config.training.run,
        dataset=Dataset(manifest.folder, manifest.digest, manifest.count()),
        label_name=manifest.label_name if labelled else "",
        lvef_threshold=manifest.lvef_threshold if labelled else None,
        patient_keys=manifest.patient_keys,
        recordings=learnt.recordings,
        initial_weights="" if initial_weights is None else str(initial_weights),
        before=None if initial_weights is None else _training_data_of(initial_weights),
        without_patient_id=manifest.table.get("without_patient_id", 0),
    )
    return to_json(data)


def _training_data_of(weights: Path) -> TrainingData | None:
    """What weights were trained on; None of any other file than the one that a stage left in its folder."""
    return read_training_data(weights.parent) if weights.name == AUTOENCODER else None
