"""A run that was trained and evaluated, as its folder tells of it: what a report is made from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from keras_ecg_mae.config import OWN_PRETRAINING
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import PREDICTIONS, RESULTS, read_results
from keras_ecg_mae.evaluation.predictions import read_predictions
from keras_ecg_mae.evaluation.scoring import Group, Results
from keras_ecg_mae.run_folder import DONE, SETTINGS, Made, read_made
from keras_ecg_mae.run_record import RECORD, Dataset, read_commands

PRETRAINING, FINETUNING, EVALUATION = "pretrain", "finetune", "evaluation"
# Figures 1 and 3 of Sawano et al., as pretraining leaves them: name, leads.
PICTURES = {"figure_1": "reconstruction_II_V5.png", "figure_3": "reconstruction.png"}
CNN = "cnn"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        title: the last flag `--title` of a command that asked for fine-tuning, or the folder's name.
        architecture: what was fine-tuned, `vit` or `cnn`.
        encoder: what that started from: `pretrain`, `random`, or a path.
        dataset: what it was trained and evaluated on.
        pretrained: when and with what the encoder it started from was made; None where that is not this run's.
        finetuned: when and with what it was fine-tuned.
        evaluated: when and with what it was evaluated.
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
    pretrained: Made | None
    finetuned: Made | None
    evaluated: Made | None
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
    evaluation, finetuning = folder / EVALUATION, folder / FINETUNING
    needed = [folder / RECORD, *(finetuning / name for name in (SETTINGS, DONE))]
    needed += [evaluation / name for name in (DONE, RESULTS, PREDICTIONS)]
    missing = [str(path.relative_to(folder)) for path in needed if not path.is_file()]
    if missing:
        raise RunError(
            f"{folder}: Expected a finished run. Received one without {', '.join(missing)}: "
            f"run python -m keras_ecg_mae.train --flagfile={folder / 'flags.txt'}."
        )
    commands = read_commands(folder)
    dataset = commands[-1].dataset
    if (evaluation / SETTINGS).is_file():
        evaluated = json.loads((evaluation / SETTINGS).read_text(encoding="utf-8")).get("dataset")
        if evaluated != dataset.sha256:
            raise RunError(
                f"{evaluation / SETTINGS}: Expected an evaluation on the dataset of {RECORD}, {dataset.sha256}. "
                f"Received one on {evaluated}."
            )
    titles = [command.title for command in commands if "finetune" in command.stages and command.title]
    settings = json.loads((finetuning / SETTINGS).read_text(encoding="utf-8"))
    own = settings["encoder"] == OWN_PRETRAINING
    predictions = read_predictions(evaluation / PREDICTIONS)
    test = predictions[predictions["split"] == "test"].sort_values("record_id", ignore_index=True)
    pictures = {key: folder / PRETRAINING / name for key, name in PICTURES.items()}
    return FinishedRun(
        folder=folder,
        title=titles[-1] if titles else folder.resolve().name,
        architecture=settings["architecture"],
        encoder=settings["encoder"],
        dataset=dataset,
        pretrained=read_made(folder / PRETRAINING) if own else None,
        finetuned=read_made(finetuning),
        evaluated=read_made(evaluation),
        results=read_results(evaluation),
        predictions_sha256=hashlib.sha256((evaluation / PREDICTIONS).read_bytes()).hexdigest(),
        test=test,
        pictures={key: path for key, path in pictures.items() if path.is_file()},
    )
