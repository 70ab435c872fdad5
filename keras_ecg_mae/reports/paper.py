"""The numbers of Sawano et al. (`pipelines/paper/`), and which runs may stand beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from keras_ecg_mae.config import RANDOM, SPLITS
from keras_ecg_mae.errors import RunError
from keras_ecg_mae.reports.comparison import Column, GroupKey

DATASET1, DATASET2 = ("institution_1",), ("institution_1", "institution_2", "institution_3")
NOTHING, IMAGES = "nothing", "images"
# Table 3's columns: model, what it was pretrained on, and the institutions it was fine-tuned on.
COLUMNS: dict[str, tuple[str, tuple[str, ...] | str, tuple[str, ...]]] = {
    "ds1_cnn": ("cnn", NOTHING, DATASET1),
    "ds1": ("vit", DATASET1, DATASET1),
    "ds1_mae_ds2": ("vit", DATASET2, DATASET1),
    "ds2_cnn": ("cnn", NOTHING, DATASET2),
    "ds2_imagenet": ("vit", IMAGES, DATASET2),
    "ds2_mae_ds1": ("vit", DATASET1, DATASET2),
    "ds2": ("vit", DATASET2, DATASET2),
}
# The two columns of "higher AUROC results than the baseline CNN with only 30% labels" (section 3).
FEWER_LABELS = ("ds1", "ds2_cnn")


@dataclass(frozen=True)
class Paper:
    """The paper's table 3, and how many labels each of its columns used.

    Attributes:
        table_3: AUROC; a row a cohort (`test1`, `institution_2`), a column as in `COLUMNS`; NaN for its dashes.
        labels: ECGs of Train1 and Train2, as the paper counts labels: training and validation.
    """

    table_3: pd.DataFrame
    labels: tuple[int, int]

    def auroc(self, column: Column, key: GroupKey) -> float | None:
        """The paper's AUROC beside ours of a column and a group: all internal ECGs, or one external institution's."""
        pooled, name = key
        paper_column, group = column.run.paper_column, column.groups.get(key)
        if not paper_column or (group is not None and (group.role == "internal") != pooled):
            return None
        row = f"test{_training_set(paper_column)}" if pooled else name
        value = self.table_3[paper_column].get(row)
        return None if value is None or pd.isna(value) else float(value)

    def labels_of(self, column: Column) -> int | None:
        """How many labels the paper's column used that ours reproduces."""
        paper_column = column.run.paper_column
        return self.labels[_training_set(paper_column) - 1] if paper_column else None


def read_paper(folder: Path) -> Paper:
    """Reads `table_1.csv` to `table_3.csv`. Raises `RunError` where one is missing."""
    try:
        tables = [pd.read_csv(folder / f"table_{number}.csv", index_col=0) for number in (1, 2, 3)]
    except FileNotFoundError as error:
        raise RunError(
            f"{error.filename}: Expected a table of the paper (--paper=pipelines/paper). Received no such file."
        ) from error
    train1, train2 = (int(table["over_all"].iloc[:2].sum()) for table in tables[:2])
    return Paper(tables[2], (train1, train2))


def expect_reproductions(columns: Sequence[Column]) -> None:
    """Raises `RunError` where a run is not what its `--paper_column` says; each difference is named."""
    for run in (column.run for column in columns if column.run.paper_column):
        architecture, pretrained, finetuned = COLUMNS[run.paper_column]
        trained, before = run.trained, run.trained.before
        weights = IMAGES if run.settings["transfer"] == "blocks" else trained.initial_weights
        ours = {
            "label": (trained.label, "lvsd (ejection fraction under 40%)"),
            "model": (run.settings["architecture"], architecture),
            "pretrained on": (tuple(sorted(before.recordings)) if before else weights or NOTHING, pretrained),
            # "All ECG data from Dataset1 and Dataset2 were used separately for the self-supervised pretraining" (2.1).
            "pretrained on the splits": (tuple(name for name in SPLITS if not before or before.count(name)), SPLITS),
            "pretraining's optimizer": (before.optimizer if before else "adamw", "adamw"),
            "pretraining began with": ((before and before.initial_weights) or RANDOM, RANDOM),
            "recipe": (run.settings["recipe"], "paper"),
            "what learnt": (run.settings["trained"], "all"),
            "share of the labels": (f"{run.settings['label_fraction']:g}", "1"),
            "fine-tuned on": (tuple(sorted(trained.recordings)), finetuned),
        }
        wrong = [f"{name}: {_text(found)}, not {_text(said)}" for name, (found, said) in ours.items() if found != said]
        if wrong:
            raise RunError(
                f"{run.folder}: Expected a run of the column {run.paper_column} of the paper's table 3, as its "
                f"--paper_column says. Received one that differs: {'; '.join(wrong)}. Give its train command again "
                "with --paper_column= to leave it without the paper's numbers."
            )


def _training_set(paper_column: str) -> int:
    return 1 if COLUMNS[paper_column][2] == DATASET1 else 2


def _text(value: tuple[str, ...] | str) -> str:
    return value if isinstance(value, str) else ", ".join(value)
