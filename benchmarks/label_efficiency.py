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

from keras_ecg_mae.evaluation.evaluate import read_results
from keras_ecg_mae.evaluation.metrics import auroc_difference
from keras_ecg_mae.evaluation.predictions import read_predictions

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
    tables = []
    for run in (pretrained, scratch):
        table = read_predictions(run / "evaluation" / "predictions.csv").set_index("record_id").sort_index()
        tables.append(table[(table["split"] == "test") & (table["institution"] == EXTERNAL)])
    first, second = tables
    assert first.index.equals(second.index)
    difference = auroc_difference(
        first["label"].to_numpy(),
        first["probability"].to_numpy(),
        second["probability"].to_numpy(),
        first["patient_key"].to_numpy(),
    )
    cells = [str(seed)]
    for run in (pretrained, scratch):
        area = next(group for group in read_results(run / "evaluation").groups if group.name == EXTERNAL).auroc
        cells.append(f"{area.value:.3f} ({area.low:.3f}-{area.high:.3f})")
    cells.append(f"{difference.difference:.3f} ({difference.low:.3f}-{difference.high:.3f})")
    return f"| {' | '.join(cells)} |"


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
