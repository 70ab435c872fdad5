"""A run that was trained and evaluated, as its folder tells of it: what a report is made from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from keras_ecg_mae.config import OWN_PRETRAINING, Model
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import PREDICTIONS, RESULTS, Group, Results, read_results
from keras_ecg_mae.evaluation.predictions import read_predictions
from keras_ecg_mae.run_folder import DONE, SETTINGS

FLAGS, RUN = "flags.txt", "run.json"
PRETRAINING, FINETUNING, EVALUATION = "pretrain", "finetune", "evaluation"
# Figures 1 and 3 of Sawano et al., as pretraining leaves them: name, leads.
PICTURES = {"figure_1": "reconstruction_II_V5.png", "figure_3": "reconstruction.png"}
CNN = "cnn"


@dataclass(frozen=True)
class Dataset:
    """What a run was trained on: where it lay, its checksum, and how many recordings it held."""

    folder: str
    sha256: str
    recordings: int


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        title: its flag `--title`, or the folder's name.
        architecture: what was fine-tuned, `vit` or `cnn`.
        encoder: what that started from: `pretrain`, `random`, or a path.
        dataset: what it was trained and evaluated on.
        began: date and time at which it was begun or gone on with, ISO 8601.
        git_revision: of the checkout it ran from, `-dirty` where files differed; empty outside one.
        version: of this package.
        results: of its evaluation.
        predictions_sha256: checksum of its predictions table.
        test: the test ECGs of that table, see `predictions.COLUMNS`, ordered by record.
        pictures: the reconstructions that its pretraining left, by their key in `PICTURES`.
    """

    folder: Path
    title: str
    architecture: str
    encoder: str
    dataset: Dataset
    began: str
    git_revision: str
    version: str
    results: Results
    predictions_sha256: str
    test: pd.DataFrame
    pictures: dict[str, Path]

    def rows_of(self, group: Group) -> pd.DataFrame:
        """The test ECGs that a group of the results holds."""
        if not group.pooled:
            return self.test[self.test["institution"] == group.name]
        external = {other.name for other in self.results.groups if other.role == "external" and not other.pooled}
        return self.test[self.test["institution"].isin(external) == (group.role == "external")]


def read_finished_run(folder: Path) -> FinishedRun:
    """Reads what a finished run left in its folder.

    Raises:
        RunError: a file is missing (each is named), is not what it should be, or tells of another dataset.
        DatasetError: the predictions table is wrong; names the row.
    """
    evaluation = folder / EVALUATION
    needed = [folder / FLAGS, folder / RUN, *(evaluation / name for name in (DONE, RESULTS, PREDICTIONS))]
    missing = [str(path.relative_to(folder)) for path in needed if not path.is_file()]
    if missing:
        raise RunError(
            f"{folder}: Expected a finished run. Received one without {', '.join(missing)}: "
            f"run python -m keras_ecg_mae.train --flagfile={folder / FLAGS}."
        )
    dataset, began, git_revision, version = _read_description(folder / RUN)
    if (evaluation / SETTINGS).is_file():
        evaluated = json.loads((evaluation / SETTINGS).read_text(encoding="utf-8")).get("dataset")
        if evaluated != dataset.sha256:
            raise RunError(
                f"{evaluation / SETTINGS}: Expected an evaluation on the dataset of {RUN}, {dataset.sha256}. "
                f"Received one on {evaluated}: the run was gone on with on another dataset."
            )
    flags = _read_flags(folder / FLAGS)
    # What fine-tuning was begun with; flags.txt is of the last command, which may have been for another stage.
    settings = folder / FINETUNING / SETTINGS
    begun = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    predictions = read_predictions(evaluation / PREDICTIONS)
    test = predictions[predictions["split"] == "test"].sort_values("record_id", ignore_index=True)
    pictures = {key: folder / PRETRAINING / name for key, name in PICTURES.items()}
    return FinishedRun(
        folder=folder,
        title=flags.get("title") or folder.resolve().name,
        architecture=begun.get("architecture") or flags.get("architecture", Model.architecture),
        encoder=begun.get("encoder") or flags.get("finetune_encoder", OWN_PRETRAINING),
        dataset=dataset,
        began=began,
        git_revision=git_revision,
        version=version,
        results=read_results(evaluation),
        predictions_sha256=hashlib.sha256((evaluation / PREDICTIONS).read_bytes()).hexdigest(),
        test=test,
        pictures={key: path for key, path in pictures.items() if path.is_file()},
    )


def _read_flags(path: Path) -> dict[str, str]:
    """A run's `flags.txt`, which has one `--name=value` a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line[2:].partition("=") for line in lines if line.startswith("--"))
    return {name: value for name, _, value in pairs}


def _read_description(path: Path) -> tuple[Dataset, str, str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        dataset = Dataset(
            str(content["dataset"]["folder"]), str(content["dataset"]["sha256"]), int(content["dataset"]["recordings"])
        )
        return dataset, str(content["began"]), str(content["git_revision"] or ""), str(content["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: Expected the description of a run. Received something else: {type(error).__name__} {error}."
        ) from error
