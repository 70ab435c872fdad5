"""Pretrains, fine-tunes, evaluates and exports a model: the stages of a run, one after the other.

    python -m keras_ecg_mae.train --flagfile=pipelines/ds2.flags --dataset=DATASET --run=RUN

Run it again after an interruption: finished stages are skipped, the one that was stopped goes on from its last
checkpoint. SIGTERM or Ctrl-C saves one first; the exit status is then 75. Watch it with `tensorboard --logdir RUN`.
Several machines train together when each runs this command with its own TF_CONFIG (docs/deploy.md).
"""

import sys
from contextlib import nullcontext

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import TRAINED_STAGES, Config
from keras_ecg_mae.errors import DatasetError
from keras_ecg_mae.files import storage_path

SHOWN = ("model", "training", "pretraining", "finetuning", "mae_finetuning", "evaluation", "export")


def main(config: Config, _: list[str]) -> int:
    """Runs `--stages` and prints what came of them."""
    from keras_ecg_mae.dataset import read_manifest
    from keras_ecg_mae.runs.folder import run_lock
    from keras_ecg_mae.stages import begin_run, run_stage, summary
    from keras_ecg_mae.training.distribution import agreed, is_chief, let_memory_grow, make_strategy

    config.training.require("dataset", "run")
    let_memory_grow()
    strategy = make_strategy(config.training.strategy)  # workers have to meet before anything is computed
    chief = is_chief(strategy)
    try:
        manifest = read_manifest(config.training.dataset)
    except DatasetError as error:
        raise _with_the_command_that_makes_it(error, config.training.dataset) from error
    with run_lock(storage_path(config.training.run)) if chief else nullcontext():
        begin_run(config, manifest, chief)
        for stage in config.training.stages:
            if chief or stage in TRAINED_STAGES:
                run_stage(stage, config, manifest, chief)
            agreed(strategy, [0])  # nobody reads what the chief is still writing, or is done before it is
    if chief:
        sys.stdout.write(summary(config))
    return 0


def _with_the_command_that_makes_it(error: DatasetError, dataset: str) -> DatasetError:
    """Where there is no dataset and the command came from flag files: those say how it is prepared, too."""
    flag_files = " ".join(word for word in sys.argv[1:] if word.startswith("--flagfile="))
    if not flag_files or storage_path(dataset).exists():
        return error
    return DatasetError(
        f"{error} Make it with: python -m keras_ecg_mae.prepare {flag_files} --recordings=ROOT --labels=TABLE "
        f"--output={dataset}"
    )


if __name__ == "__main__":
    run_command(main, SHOWN)
