"""What the benchmarks of the training share: the package's commands, a small simulated cohort, a run's figures."""

import csv
import subprocess
import sys
from pathlib import Path


def command_line(name: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"keras_ecg_mae.{name}", *flags]


def run(name: str, *flags: str) -> str:
    """Runs a command to its end and returns what it wrote, which is shown where it fails."""
    done = subprocess.run(
        command_line(name, *flags), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{name} ended with status {done.returncode}.")
    return done.stdout


def make_cohort(folder: Path, patients: int) -> str:
    """Simulates and prepares a cohort of one institution below a folder; the flag that names the dataset."""
    recordings, dataset = folder / "recordings", folder / "dataset"
    table = f"--labels={recordings}/labels.csv"
    run("simulate", f"--recordings={recordings}", table, f"--simulate_patients={patients}", "--simulate_institutions=1")
    run("prepare", f"--recordings={recordings}", table, f"--output={dataset}")
    return f"--dataset={dataset}"


def metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a training's `metrics.csv`, as they are written; none before its first epoch has ended."""
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
