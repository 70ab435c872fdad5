"""Evaluates a run's fine-tuned model on a dataset: AUROC with its interval per institution.

    python -m keras_ecg_mae.evaluate --run=RUN --dataset=DATASET

On the run's own dataset, which needs no --dataset where it has not moved, this is the run's stage `evaluate`. Another
dataset's results go to a folder of their own, with the threshold that the run chose on its own validation recordings.
It must have the run's label. An institution is internal where the run was fine-tuned on its ECGs; of the others all
labelled ECGs are tested on, whichever their split. Patients whom the run was fine-tuned on are left out.
"""

import sys

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config

SHOWN = (
    "training.dataset",
    "training.run",
    "evaluation.confidence",
    "evaluation.threshold_rule",
    "evaluation.evaluate_batch_size",
)


def main(config: Config, _: list[str]) -> int:
    """Evaluates and prints the table."""
    from keras_ecg_mae.evaluation.evaluate import format_results
    from keras_ecg_mae.stages import evaluate_dataset, own_dataset

    config.training.require("run")
    folder, results = evaluate_dataset(config, own_dataset("evaluate", config))
    sys.stdout.write(f"{format_results(results)}\n\nTables, figures and predictions: {folder}\n")
    return 0


if __name__ == "__main__":
    run_command(main, SHOWN)
