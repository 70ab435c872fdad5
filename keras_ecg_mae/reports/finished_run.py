"""A run that was trained and evaluated, as its folder tells of it: what a report is made from."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from keras_ecg_mae.config import OWN_PRETRAINING
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.evaluation.evaluate import PREDICTIONS, RESULTS, read_results
from keras_ecg_mae.evaluation.predictions import read_predictions
from keras_ecg_mae.evaluation.scoring import Group, Results
from keras_ecg_mae.files import read_if_there, read_json
from keras_ecg_mae.runs.fingerprint import expect_made_from
from keras_ecg_mae.runs.folder import (
    DONE,
    EVALUATION_FIGURES,
    FIGURES,
    FOLDERS,
    METRICS,
    RECONSTRUCTION_ERRORS,
    SETTINGS,
    Made,
    read_made,
)
from keras_ecg_mae.runs.record import RECORD, Dataset, read_commands
from keras_ecg_mae.runs.training_data import TrainingData, expect_training_data


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: of the run.
        title: the last flag `--title` of a command that asked for fine-tuning, or the folder's name.
        paper_column: the flag `--paper_column` of the last such command.
        settings: those that decided its fine-tuning: `architecture`, `recipe`, `label_fraction`, ...
        trained: what its weights have seen.
        pretrained: when and with what the encoder it started from was made; None where that is not this run's.
        finetuned: when and with what it was fine-tuned.
        evaluated: when and with what it was evaluated.
        results: of its evaluation.
        predictions_sha256: checksum of its predictions table.
        test: the test ECGs of that table, see `predictions.COLUMNS`, ordered by record.
        pictures: those that its evaluation left, by their key in `EVALUATION_FIGURES`, and the reconstructions of its
            pretraining, by their key in `FIGURES`; none of a pretraining that it did not start from.
        pretraining_rows: of that pretraining's `metrics.csv`; None without one.
        finetuning_rows: of `metrics.csv` of each learning rate.
        reconstruction_errors: the table of that pretraining; None where there is none.
    """

    folder: Path
    title: str
    paper_column: str
    settings: Mapping[str, Any]
    trained: TrainingData
    pretrained: Made | None
    finetuned: Made | None
    evaluated: Made | None
    results: Results
    predictions_sha256: str
    test: pd.DataFrame
    pictures: dict[str, Path]
    pretraining_rows: pd.DataFrame | None
    finetuning_rows: Mapping[str, pd.DataFrame]
    reconstruction_errors: Path | None

    @property
    def is_cnn(self) -> bool:
        return bool(self.settings["architecture"] == "cnn")

    @property
    def dataset(self) -> Dataset:
        """What it was trained and evaluated on."""
        return self.trained.dataset

    @property
    def labels(self) -> int:
        """ECGs whose labels fine-tuning used, to learn from or to choose by."""
        return self.trained.count("train") + self.trained.count("validation")

    @property
    def learnt_from_validation(self) -> bool:
        """Whether pretraining learnt from the recordings of the split validation, on which it is pictured."""
        return self.trained.before is not None and self.trained.before.count("validation") > 0

    def rows_of(self, group: Group) -> pd.DataFrame:
        """The test ECGs that a group of the results holds."""
        if not group.pooled:
            return self.test[self.test["institution"] == group.name]
        external = {other.name for other in self.results.groups if other.role == "external" and not other.pooled}
        return self.test[self.test["institution"].isin(external) == (group.role == "external")]


def read_finished_run(folder: Path) -> FinishedRun:
    """Reads what a finished run left in its folder.

    Raises:
        RunError: a file is missing (each is named), is not what it should be, or a stage was done anew and the next one
            was not.
        DatasetError: the predictions table is wrong; names the row.
    """
    pretraining, finetuning, evaluation = (folder / FOLDERS[stage] for stage in ("pretrain", "finetune", "evaluate"))
    needed = [folder / RECORD, *(finetuning / name for name in (SETTINGS, DONE))]
    needed += [evaluation / name for name in (DONE, RESULTS, PREDICTIONS)]
    missing = [str(path.relative_to(folder)) for path in needed if not path.is_file()]
    if missing:
        raise RunError(
            f"{folder}: Expected a finished run. Received one without {', '.join(missing)}: "
            f"run python -m keras_ecg_mae.train --flagfile={folder / 'flags.txt'} --stages=finetune,evaluate."
        )
    commands = [command for command in read_commands(folder) if "finetune" in command.stages]
    titles = [command.title for command in commands if command.title]
    settings = read_json(finetuning / SETTINGS) or {}
    own = settings["encoder"] == OWN_PRETRAINING
    expect_made_from(evaluation, finetuning)
    if own:
        expect_made_from(finetuning, pretraining)
    predictions = read_predictions(evaluation / PREDICTIONS)
    left = {key: evaluation / name for key, name in EVALUATION_FIGURES.items()}
    left |= {key: pretraining / name for key, name in FIGURES.items() if own}
    errors = pretraining / RECONSTRUCTION_ERRORS
    return FinishedRun(
        folder=folder,
        title=titles[-1] if titles else folder.resolve().name,
        paper_column=commands[-1].paper_column if commands else "",
        settings=settings,
        trained=expect_training_data(finetuning, "finetune"),
        pretrained=read_made(pretraining) if own else None,
        finetuned=read_made(finetuning),
        evaluated=read_made(evaluation),
        results=read_results(evaluation),
        predictions_sha256=hashlib.sha256((evaluation / PREDICTIONS).read_bytes()).hexdigest(),
        test=predictions[predictions["split"] == "test"].sort_values("record_id", ignore_index=True),
        pictures={key: path for key, path in left.items() if path.is_file()},
        pretraining_rows=_read_metrics(pretraining) if own else None,
        finetuning_rows={
            name: rows
            for name in sorted(path.name for path in finetuning.iterdir() if path.is_dir())
            if (rows := _read_metrics(finetuning / name)) is not None
        },
        reconstruction_errors=errors if own and errors.is_file() else None,
    )


def _read_metrics(folder: Path) -> pd.DataFrame | None:
    content = read_if_there(folder / METRICS)
    return None if not content else pd.read_csv(io.BytesIO(content))
