"""AdamW against Muon: how many steps and seconds pretraining takes to reach half of the variance.

    python -m benchmarks.optimizers

Pretrains the autoencoder of pipelines/demo.flags on the demo's cohort, below runs/optimizers. Each optimizer tries its
peak rates with seed 0; the one with the lowest validation error at the end is trained with the other seeds too. Steps,
epochs, warm-up and masks are the same for both. Run it again after an interruption: a run goes on where it stopped.

Prints a table and one JSON line, and draws runs/optimizers/optimizers.svg.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib

from benchmarks.commands import metrics, run, say, table

FOLDER = Path("runs/optimizers")
RATES = {"adamw": (5e-4, 1e-3), "muon": (2e-3, 3e-3)}
BATCH, WARMUP_EPOCHS = 8, 0.6
GOAL = 0.5
ERROR = "validation_error"


def pretrain(optimizer: str, rate: float, seed: int, epochs: int) -> list[dict[str, float]]:
    """The rows of a run's metrics.csv, with each epoch's `seconds` of training.

    The run is made, or finished, where it has to be.
    """
    to = FOLDER / f"{optimizer}_{rate:g}_{seed}"
    run(
        "train",
        "--flagfile=pipelines/demo.flags",
        f"--dataset={FOLDER}/dataset",
        f"--run={to}",
        f"--seed={seed}",
        "--stages=pretrain",
        f"--pretrain_optimizer={optimizer}",
        f"--pretrain_base_learning_rate={rate * 256 / BATCH}",
        f"--pretrain_batch_size={BATCH}",
        f"--pretrain_epochs={epochs}",
        f"--pretrain_warmup_epochs={WARMUP_EPOCHS}",
        "--pretrain_validation_epochs=1",
    )
    rows = [{name: float(text) for name, text in row.items() if text} for row in metrics(to / "pretrain")]
    for row in rows:
        row["seconds"] = rows[0]["step"] * BATCH / row["records_per_second"]
    return rows


def reached(rows: list[dict[str, float]]) -> tuple[float, float] | None:
    """Steps and seconds of training until the validation error is at most `GOAL`, from one validation to the next."""
    seconds = 0.0
    for row in rows:
        seconds += row["seconds"]
        if row[ERROR] <= GOAL:
            return row["step"], seconds
    return None


def draw(curves: dict[str, list[list[dict[str, float]]]]) -> None:
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for colour, (name, runs) in zip(("tab:blue", "tab:orange"), curves.items(), strict=True):
        for number, rows in enumerate(runs):
            seconds = [sum(row["seconds"] for row in rows[: last + 1]) for last in range(len(rows))]
            for panel, axis in zip(panels, ([row["step"] for row in rows], seconds), strict=True):
                panel.plot(axis, [row[ERROR] for row in rows], color=colour, label=name if not number else None)
    for panel, label in zip(panels, ("steps", "seconds of training"), strict=True):
        panel.axhline(GOAL, color="grey", linestyle=":")
        panel.set(xlabel=label, ylim=(0, 1.1))
    panels[0].set_ylabel("validation error on hidden patches,\nshare of the variance")
    panels[0].legend()
    figure.savefig(FOLDER / "optimizers.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not (FOLDER / "dataset/manifest.json").exists():
        cohort = [f"--recordings={FOLDER}/recordings", f"--labels={FOLDER}/recordings/labels.csv"]
        for command, flags in (("simulate", cohort), ("prepare", [*cohort, f"--output={FOLDER}/dataset"])):
            run(command, "--flagfile=pipelines/demo.flags", *flags)
    lines, curves, result = [], {}, {"epochs": options.epochs}
    for optimizer, rates in RATES.items():
        grid = {rate: pretrain(optimizer, rate, 0, options.epochs) for rate in rates}
        best = min(rates, key=lambda rate: grid[rate][-1][ERROR])
        runs = [grid[best], *(pretrain(optimizer, best, seed, options.epochs) for seed in range(1, options.seeds))]
        for rate in rates:
            for seed, rows in enumerate(runs if rate == best else [grid[rate]]):
                goal = reached(rows)
                shown = [f"{goal[0]:,.0f}", f"{goal[1]:,.0f}"] if goal else ["not reached", ""]
                lines.append([optimizer, f"{rate:g}", str(seed), f"{rows[-1][ERROR]:.3f}", *shown])
        curves[f"{optimizer}, {best:g}"] = runs
        result[optimizer] = {
            "rate": best,
            "errors": [rows[-1][ERROR] for rows in runs],
            "median_step_ms": 1000
            * BATCH
            / statistics.median(row["records_per_second"] for rows in runs for row in rows),
            "reached": [reached(rows) for rows in runs],
        }
        say(table(["optimizer", "peak rate", "seed", "validation error at the end", "steps to 0.5", "seconds"], lines))
    draw(curves)
    say(json.dumps(result))


if __name__ == "__main__":
    main()
