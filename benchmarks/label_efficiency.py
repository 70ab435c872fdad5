"""AUROC of a pretrained encoder beside that of the same encoder from scratch, both with a tenth of the labels.

    python benchmarks/label_efficiency.py

Runs the package's own commands with pipelines/label_efficiency.flags, below runs/label_efficiency, and prints the
paired difference at the external institution, seed by seed. The encoder is pretrained once. A seed draws the labelled
patients, the head, the order of the recordings and, for the encoder from scratch, its weights; both encoders learn
from the same labels. Run it again after an interruption: it goes on.
"""

import subprocess
import sys
from pathlib import Path

from keras_ecg_mae.evaluation.comparison import difference
from keras_ecg_mae.evaluation.finished_run import read_finished_run

FLAGS = "--flagfile=pipelines/label_efficiency.flags"
FOLDER = Path("runs/label_efficiency")
EXTERNAL = "institution_3"
SEEDS = (0, 1, 2)


def command(name: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"keras_ecg_mae.{name}", FLAGS, *arguments], check=True)


def finetuned(encoder: str, name: str, seed: int) -> Path:
    """The run folder of one fine-tuning and its evaluation."""
    run = FOLDER / f"{name}_{seed}"
    command("train", f"--run={run}", "--stages=finetune,evaluate", f"--finetune_encoder={encoder}", f"--seed={seed}")
    return run


def compare(seed: int, pretrained: Path, scratch: Path) -> str:
    """One line of the table."""
    runs = [read_finished_run(folder) for folder in (pretrained, scratch)]
    groups = [next(group for group in run.results.groups if group.name == EXTERNAL) for run in runs]
    gap = difference(*runs, groups[0])
    estimates = [*((group.auroc.value, group.auroc) for group in groups), (gap.difference, gap)]
    cells = [f"{value:.3f} ({area.low:.3f}-{area.high:.3f})" for value, area in estimates]
    return f"| {' | '.join([str(seed), *cells])} |"


def main() -> None:
    command("simulate")
    command("prepare")
    command("train", f"--run={FOLDER}/pretrained", "--stages=pretrain")
    encoder = f"{FOLDER}/pretrained/pretrain/autoencoder.keras"
    lines = [
        compare(seed, finetuned(encoder, "finetuned", seed), finetuned("random", "scratch", seed)) for seed in SEEDS
    ]
    header = ["| seed | AUROC, pretrained | AUROC, from scratch | difference |", "|---|---|---|---|"]
    sys.stdout.write("\n".join(["", *header, *lines, ""]))


if __name__ == "__main__":
    main()
