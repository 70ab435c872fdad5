"""Pretrains, fine-tunes, evaluates and exports a model: the stages of a run, one after the other.

    python -m keras_ecg_mae.train --dataset=DATASET --run=RUN --flagfile=pipelines/ds2.flags

Run it again after an interruption: finished stages are skipped, the one that was stopped goes on from its last
checkpoint. SIGTERM or Ctrl-C saves one first; the exit status is then 75. Watch it with `tensorboard --logdir RUN`.
"""

import sys

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config

SECTIONS = ["model", "training", "pretraining", "finetuning", "evaluation", "export"]


def main(config: Config, _: list[str]) -> int:
    """Runs `--stages` and prints what came of them."""
    from keras_ecg_mae.dataset import read_manifest, verify
    from keras_ecg_mae.stages import begin_run, run_stage, summary
    from keras_ecg_mae.training.distribution import let_memory_grow

    config.training.require("dataset", "run")
    let_memory_grow()
    manifest = read_manifest(config.training.dataset)
    verify(manifest)
    begin_run(config, manifest)
    for stage in config.training.stages:
        run_stage(stage, config, manifest)
    sys.stdout.write(summary(config, manifest))
    return 0


if __name__ == "__main__":
    run_command(main, SECTIONS)
