"""AUROC of a pretrained encoder beside that of the same encoder from scratch, both with a tenth of the labels.

    python benchmarks/label_efficiency.py

Runs the package's own commands with pipelines/label_efficiency.flags, below runs/label_efficiency, and prints the
paired difference at the external institution, seed by seed and over the seeds. The encoder is pretrained once. A seed
draws the labelled patients, the head, the order of the recordings and, for the encoder from scratch, its weights; both
encoders learn from the same labels. Run it again after an interruption: it goes on.

Flags given to it are for the encoder from scratch alone, whose runs then have names of their own:

    python benchmarks/label_efficiency.py --finetune_epochs=120 --finetune_patience=40
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student_t

from keras_ecg_mae.evaluation.metrics import AurocDifference
from keras_ecg_mae.reports.comparison import paired_difference
from keras_ecg_mae.reports.finished_run import FinishedRun, read_finished_run
from keras_ecg_mae.runs.folder import read_done

FLAGS = "--flagfile=pipelines/label_efficiency.flags"
FOLDER = Path("runs/label_efficiency")
EXTERNAL = "institution_3"
SEEDS = tuple(range(10))
# The first five seeds were run, and looked at, before a third rate was added for the others (docs/label_efficiency.md).
FIRST_SEEDS, FIRST_RATES = SEEDS[:5], "--finetune_learning_rates=1e-3,3e-4"
CONFIDENCE = 0.95
# Who looks twice, and stops when he likes what he sees, errs in 5% of all cases with this at each look (Pocock,
# Biometrika 1977;64:191).
CONFIDENCE_OF_TWO_LOOKS = 1 - 0.0294


@dataclass(frozen=True)
class Pair:
    """Both encoders of one seed.

    Attributes:
        line: of the table.
        gap: the paired difference at the external institution.
        labels, patients: `(recordings,)` of its test ECGs, in one order for all seeds.
        probabilities: `(2, recordings)` of the pretrained encoder, and of that from scratch.
    """

    line: str
    gap: AurocDifference
    labels: np.ndarray
    patients: np.ndarray
    probabilities: np.ndarray


def command(name: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"keras_ecg_mae.{name}", FLAGS, *arguments], check=True)


def finetuned(encoder: str, name: str, seed: int, *flags: str) -> FinishedRun:
    """One fine-tuning and its evaluation."""
    run = FOLDER / "_".join([name, *(flag.lstrip("-").replace("/", "-") for flag in flags), str(seed)])
    stages = ["--stages=finetune,evaluate", f"--finetune_encoder={encoder}", f"--seed={seed}"]
    rates = [FIRST_RATES] if seed in FIRST_SEEDS else []
    command("train", f"--run={run}", *stages, *rates, *flags)
    return read_finished_run(run)


def compare(seed: int, pretrained: FinishedRun, scratch: FinishedRun) -> Pair:
    runs = (pretrained, scratch)
    groups = [next(group for group in run.results.groups if group.name == EXTERNAL) for run in runs]
    tables = [run.rows_of(group) for run, group in zip(runs, groups, strict=True)]
    gap = paired_difference(*tables, runs[0].results.confidence)
    cells = [str(seed)]
    for run, group in zip(runs, groups, strict=True):
        won = read_done(run.folder / "finetune") or {}
        area = f"{group.auroc.value:.3f} ({group.auroc.low:.3f}-{group.auroc.high:.3f})"
        cells.append(f"{area}, rate {won['learning_rate']:g}, epoch {won['epoch'] + 1}")
    cells.append(f"{gap.difference:.3f} ({gap.low:.3f} to {gap.high:.3f})")
    return Pair(
        f"| {' | '.join(cells)} |",
        gap,
        tables[0]["label"].to_numpy(),
        tables[0].groupby(["institution", "patient_key"]).ngroup().to_numpy(),
        np.stack([table["probability"].to_numpy() for table in tables]),
    )


def area(positive: np.ndarray, probabilities: np.ndarray) -> float:
    """AUROC by ranks."""
    ones = np.count_nonzero(positive)
    above = rankdata(probabilities)[positive].sum() - ones * (ones + 1) / 2
    return float(above / (ones * (len(positive) - ones)))


def mean_gap(pairs: list[Pair], kept: np.ndarray) -> float:
    """The mean difference of AUROC over the seeds, on some of the test ECGs."""
    positive = pairs[0].labels[kept] == 1
    areas = np.array([[area(positive, one[kept]) for one in pair.probabilities] for pair in pairs])
    return float(np.mean(areas[:, 0] - areas[:, 1]))


def over_seeds(pairs: list[Pair], levels: Sequence[float] = (CONFIDENCE,)) -> str:
    """The mean difference with two intervals, at each of the levels.

    The first takes the seeds as replicates (Student's t) and the test ECGs as they are. The second allows for other
    test patients too: to the variance between seeds over their number is added that of the mean between patients,
    left out one by one (jackknife), with the seeds' degrees of freedom. What differs between seeds because of the
    patients is counted twice, so it is rather too wide.
    """
    gaps = np.array([pair.gap.difference for pair in pairs], float)
    mean, seeds = float(gaps.mean()), len(gaps)
    of_seeds = float(gaps.var(ddof=1)) / seeds
    patients = pairs[0].patients
    without = np.array([mean_gap(pairs, patients != patient) for patient in np.unique(patients)])
    of_patients = float(np.sum((without - without.mean()) ** 2)) * (len(without) - 1) / len(without)
    lines = [f"Mean difference over {seeds} seeds: {mean:.3f}, standard deviation {np.sqrt(of_seeds * seeds):.3f}."]
    for what, variance in (
        ("other seeds, these test patients", of_seeds),
        ("other seeds, other test patients", of_seeds + of_patients),
    ):
        intervals = []
        for level in levels:
            half = float(student_t.ppf(0.5 + level / 2, seeds - 1)) * variance**0.5
            intervals.append(f"{mean - half:.3f} to {mean + half:.3f}")
        lines.append(f"{CONFIDENCE:.0%} interval for {what}: {'; allowing for two looks '.join(intervals)}.")
    return "\n".join(lines)


def main() -> None:
    command("simulate")
    command("prepare")
    command("train", f"--run={FOLDER}/pretrained", "--stages=pretrain")
    encoder = f"{FOLDER}/pretrained/pretrain/autoencoder.keras"
    pairs = [
        compare(seed, finetuned(encoder, "finetuned", seed), finetuned("random", "scratch", seed, *sys.argv[1:]))
        for seed in SEEDS
    ]
    header = ["| seed | AUROC, pretrained | AUROC, from scratch | difference |", "|---|---|---|---|"]
    first, later = (over_seeds(some) for some in (pairs[: len(FIRST_SEEDS)], pairs[len(FIRST_SEEDS) :]))
    overall = over_seeds(pairs, (CONFIDENCE, CONFIDENCE_OF_TWO_LOOKS))
    lines = ["", *header, *(pair.line for pair in pairs), "", overall, first, later]
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
