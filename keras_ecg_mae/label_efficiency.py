"""Shows AUROC against the number of labels, for a pretrained encoder and for what it is compared with.

    python -m keras_ecg_mae.label_efficiency --flagfile=pipelines/label_efficiency.flags

Each of `--study_arms` is fine-tuned and evaluated with each of `--study_label_fractions` and each of `--study_seeds`,
as a run of its own below `RUN/label_efficiency`. Run it again after an interruption: it goes on.
Prints the report as Markdown at the end. After every fine-tuning it lies in `RUN/label_efficiency/report`: Markdown,
an HTML page with a plot, CSV files.
"""

import sys

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config

SHOWN = ("model", "training", "pretraining", "finetuning", "evaluation", "label_efficiency")


def main(config: Config, _: list[str]) -> int:
    """Does what is left of a study, and reports on it."""
    from keras_ecg_mae.dataset import read_manifest
    from keras_ecg_mae.reports.label_efficiency import label_efficiency_report
    from keras_ecg_mae.stages.label_efficiency import finished_trials, study_folder
    from keras_ecg_mae.training.distribution import let_memory_grow

    config.training.require("dataset", "run")
    config.finetuning.expect("recipe", config.finetuning.recipe == "paper", "to be paper: the CNN has no other")
    let_memory_grow()
    trials = []
    for trial in finished_trials(config, read_manifest(config.training.dataset)):
        trials.append(trial)
        report = label_efficiency_report(trials)
        report.write(study_folder(config) / "report")
    sys.stdout.write(report.markdown())
    return 0


if __name__ == "__main__":
    run_command(main, SHOWN)
