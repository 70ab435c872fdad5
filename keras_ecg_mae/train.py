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

SHOWN = ("model", "training", "pretraining", "finetuning", "mae_finetuning", "evaluation", "export")


def main(config: Config, _: list[str]) -> int:
    """Runs `--stages` and prints what came of them."""
    from keras_ecg_mae.dataset import read_manifest, verify
    from keras_ecg_mae.run_folder import alone
    from keras_ecg_mae.stages import begin_run, run_stage, summary
    from keras_ecg_mae.storage import storage_path
    from keras_ecg_mae.training.distribution import agreed, is_chief, let_memory_grow, make_strategy

    config.training.require("dataset", "run")
    let_memory_grow()
    strategy = make_strategy(config.training.strategy)  # workers have to meet before anything is computed
    chief = is_chief(strategy)
    manifest = read_manifest(config.training.dataset)
    verify(manifest)
    begin_run(config, manifest, chief)
    with alone(storage_path(config.training.run)) if chief else nullcontext():
        for stage in config.training.stages:
            if chief or stage in TRAINED_STAGES:
                run_stage(stage, config, manifest, chief)
            agreed(strategy, [0])  # nobody reads what the chief is still writing, or is done before it is
    if chief:
        sys.stdout.write(summary(config, manifest))
    return 0


if __name__ == "__main__":
    run_command(main, SHOWN)
