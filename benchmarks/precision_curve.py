"""The loss curves of pretraining in float32 and in mixed bfloat16, from the same seed, epoch by epoch.

    python -m benchmarks.precision_curve

Pretrains a tiny autoencoder twice for 300 steps on a simulated cohort below runs/precision_curve, and compares the
training loss and the validation error of every epoch. Ends with status 1 where they are further apart than 2%.
`--steps` takes more: 300 steps hardly leave the plateau of the trivial predictors, as the table shows.
"""

import argparse
import json
import math
import shutil
import sys
from pathlib import Path

from benchmarks.commands import make_cohort, metrics, run, say, table

FOLDER = Path("runs/precision_curve")
PATIENTS, BATCH = 240, 16
SCALARS = ("loss", "validation_error")
ALLOWED = 0.02


def curves(precision: str, dataset: str, epochs: int) -> list[dict[str, float]]:
    """The scalars of each epoch of one pretraining."""
    folder = FOLDER / precision
    flags = [
        dataset,
        f"--run={folder}",
        f"--precision={precision}",
        "--stages=pretrain",
        "--size=tiny",
        "--normalization=lead",
        "--pretrain_time_shift",
        f"--pretrain_epochs={epochs}",
        "--pretrain_warmup_epochs=1",
        f"--pretrain_batch_size={BATCH}",
        "--pretrain_base_learning_rate=1.6e-2",
        "--pretrain_validation_epochs=1",
    ]
    run("train", *flags)
    return [{name: float(row[name]) for name in ("step", *SCALARS)} for row in metrics(folder / "pretrain")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of each pretraining, to the next whole epoch")
    steps = parser.parse_args().steps
    shutil.rmtree(FOLDER, ignore_errors=True)
    dataset = make_cohort(FOLDER, PATIENTS)
    counts = json.loads((FOLDER / "dataset/manifest.json").read_text())["counts"]
    (train,) = (count for count in counts if count["split"] == "train")
    records = train["positive"] + train["negative"] + train["unlabelled"]
    epochs = math.ceil(steps / (records // BATCH))
    exact, rounded = (curves(precision, dataset, epochs) for precision in ("float32", "mixed_bfloat16"))
    rows, largest = [], dict.fromkeys(SCALARS, 0.0)
    for one, other in zip(exact, rounded, strict=True):
        cells = [f"{one['step']:.0f}"]
        for name in SCALARS:
            apart = abs(other[name] - one[name]) / abs(one[name])
            largest[name] = max(largest[name], apart)
            cells += [f"{one[name]:.4f}", f"{other[name]:.4f}", f"{apart:.2%}"]
        rows.append(cells)
    header = ["step", *(f"{name}, {kind}" for name in SCALARS for kind in ("float32", "bfloat16", "apart"))]
    say(table(header, rows))
    close = all(apart <= ALLOWED for apart in largest.values())
    furthest = ", ".join(f"{name} {apart:.2%}" for name, apart in largest.items())
    say(f"\nFurthest apart in {len(rows)} epochs: {furthest}. {'Within' if close else 'NOT within'} {ALLOWED:.0%}.")
    return 0 if close else 1


if __name__ == "__main__":
    sys.exit(main())
