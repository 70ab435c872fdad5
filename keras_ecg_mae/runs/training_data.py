"""What a run's weights have been trained on: which datasets, institutions and patients, with which label.

It stands in the `done.json` of the stages pretrain and finetune, under `training_data`, with the patients' keys beside
it in `patients.txt`. Every later command takes label and roles from it, not from the dataset it is given.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_ecg_mae.errors import RunError
from keras_ecg_mae.files import read_if_there, write_whole
from keras_ecg_mae.runs.folder import DONE, read_done
from keras_ecg_mae.runs.record import Dataset

TRAINING_DATA = "training_data"
PATIENTS = "patients.txt"
AUTOENCODER = "autoencoder.keras"  # what pretraining leaves, beside its record


@dataclass(frozen=True)
class TrainingData:
    """What the weights that a stage left were trained on.

    Attributes:
        run: the run's folder, as it was named.
        dataset: the dataset.
        label_name: what a positive label means; empty for pretraining, which uses no labels.
        lvef_threshold: an ejection fraction under this percentage was a positive label; None with another label.
        patient_keys: fingerprint of the secret that patient keys were made with; empty where it is not known.
        recordings: how many were learnt from, by institution and split. Fine-tuning's are labelled, and those of the
            split validation chose among its epochs, its learning rates and the threshold.
        initial_weights: the file that training began with; empty for random weights.
        before: what the weights of that file were trained on; None where that is not known, as of published ones.
        without_patient_id: recordings of the dataset's table that name no patient: each counts as a patient of its own,
            whom another dataset may know under another key.
        optimizer: of pretraining; the recipe decides fine-tuning's.
    """

    run: str
    dataset: Dataset
    label_name: str
    lvef_threshold: float | None
    patient_keys: str
    recordings: Mapping[str, Mapping[str, int]]
    initial_weights: str = ""
    before: "TrainingData | None" = None
    without_patient_id: int = 0
    optimizer: str = "adamw"

    def count(self, split: str) -> int:
        """Recordings of a split that were learnt from."""
        return sum(splits.get(split, 0) for splits in self.recordings.values())

    @property
    def label(self) -> str:
        """The label, for messages: its name, and the threshold where it is one of ejection fractions."""
        return describe_label(self.label_name, self.lvef_threshold)

    def sentence(self) -> str:
        """What this training has seen, for people."""
        if self.label_name:
            return (
                f"Fine-tuning learnt from the labels of {self.count('train'):,} train ECGs, and chose by those of "
                f"{self.count('validation'):,} validation ECGs, of {', '.join(self.recordings)} (dataset "
                f"{self.dataset.folder})."
            )
        return f"Pretraining saw, without labels, {self._seen()} (dataset {self.dataset.folder}, run {self.run})."

    def sentences(self) -> list[str]:
        """What the weights have seen, for people, the last training first."""
        if self.before is not None:
            return [self.sentence(), *self.before.sentences()]
        return [self.sentence(), self.unknown_weights()] if self.initial_weights else [self.sentence()]

    def unknown_weights(self) -> str:
        """About weights without a record."""
        return f"What the weights it began with, {self.initial_weights}, have seen is not known."

    def _seen(self) -> str:
        """`the train and test ECGs of a, b; the train ECGs of c`."""
        institutions: dict[tuple[str, ...], list[str]] = {}
        for institution, splits in self.recordings.items():
            institutions.setdefault(tuple(splits), []).append(institution)
        return "; ".join(f"the {_and(splits)} ECGs of {', '.join(names)}" for splits, names in institutions.items())


def describe_label(name: str, lvef_threshold: float | None) -> str:
    """A label, for messages: its name, and the threshold where it is one of ejection fractions."""
    under = "" if lvef_threshold is None else f" (ejection fraction under {lvef_threshold:g}%)"
    return f"{name or 'no label'}{under}"


def _and(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def write_patients(folder: Path, keys: Collection[str]) -> None:
    """Writes the patient keys of a stage's training data, before its `done.json`."""
    write_whole(folder / PATIENTS, "".join(f"{key}\n" for key in sorted(keys)))


def read_patients(folder: Path) -> frozenset[str]:
    """Keys of the patients that a finished stage has learnt from. Raises `RunError` where they are missing."""
    content = read_if_there(folder / PATIENTS)
    if content is None:
        raise RunError(f"{folder / PATIENTS}: Expected the patients that the stage has learnt from. Received no file.")
    return frozenset(content.decode().split())


def read_training_data(folder: Path) -> TrainingData | None:
    """What the weights in a stage's folder were trained on; None where its `done.json` is missing or does not say.

    Raises:
        RunError: `done.json` is broken.
    """
    said = (read_done(folder) or {}).get(TRAINING_DATA)
    try:
        return None if said is None else _parse(said)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{folder / DONE}: Expected what a stage was trained on. Received other fields: {error}."
        ) from error


def expect_training_data(folder: Path, stage: str) -> TrainingData:
    """As `read_training_data`. Raises `RunError` where the stage is not done."""
    found = read_training_data(folder)
    if found is None:
        raise RunError(
            f"{folder / DONE}: Expected a stage that is done and says what it was trained on. Received none: run the "
            f"stage {stage} first."
        )
    return found


def _parse(content: Mapping[str, Any]) -> TrainingData:
    before = content["before"]
    return TrainingData(
        **{**content, "dataset": Dataset(**content["dataset"]), "before": None if before is None else _parse(before)}
    )


def to_json(data: TrainingData) -> dict[str, Any]:
    """As it stands in `done.json`."""
    return {TRAINING_DATA: asdict(data)}
