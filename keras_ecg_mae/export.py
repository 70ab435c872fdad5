"""Exports a run's fine-tuned model as the next version of a SavedModel for TF Serving.

    python -m keras_ecg_mae.export --run=RUN --name=NAME

`train` does this as its last stage; here it is done alone, for a run that was evaluated, or with --exported=autoencoder
for one that was pretrained. --dataset says where the run's dataset lies now, where it has moved.
"""

import sys

from keras_ecg_mae.command import run_command
from keras_ecg_mae.config import Config

SHOWN = ("training.dataset", "training.run", "export", "evaluation.confidence", "evaluation.evaluate_batch_size")


def main(config: Config, _: list[str]) -> int:
    """Exports and prints where to."""
    from keras_ecg_mae.stages import own_dataset, run_stage

    config.training.require("run")
    done = run_stage("export", config, own_dataset("export", config))
    sys.stdout.write(f"{done['saved_model']}\n")
    return 0


if __name__ == "__main__":
    run_command(main, SHOWN)
