"""What checkpoints cost a pretraining at `--size=small`.

    python -m benchmarks.checkpoint_cost

Pretrains one epoch of a simulated cohort below runs/checkpoint_cost, in turns with a checkpoint every few seconds and
with none but the last. What one costs is what the runs are apart; from it the default's share is reckoned, since so
short a run would see none. By default there is one every ten minutes, and one at the end of an epoch where copying and
writing it takes less than 1% of the time since the last: these cost no more than that 1%. Ends with status 1 where
both together are over 2%. Every run is one epoch, as an epoch's end may be saved whatever `--checkpoint_minutes` says.
"""

import argparse
import re
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import make_cohort, metrics, run, say, table

FOLDER = Path("runs/checkpoint_cost")
OFTEN_MINUTES, NEVER_MINUTES, DEFAULT_MINUTES = 0.25, 1e6, 10
EPOCH_ENDS, ALLOWED = 0.01, 0.02
REPORT = re.compile(
    r"took (?P<taken>[\d.]+) s; its first step was done after (?P<first>[\d.]+) s; "
    r"(?P<saved>\d+) checkpoints held it up for (?P<held_up>[\d.]+) s"
)


@dataclass(frozen=True)
class Timing:
    """Of one training: seconds until the first step and for each later one, and what it logged of its checkpoints."""

    first_s: float
    step_s: float
    saved: int
    held_up_s: float
    taken_s: float


def pretraining(dataset: str, batch: int, name: str, minutes: float) -> Timing:
    flags = [
        dataset,
        f"--run={FOLDER}/{name}",
        f"--checkpoint_minutes={minutes:g}",
        "--stages=pretrain",
        "--size=small",
        "--pretrain_epochs=1",
        "--pretrain_warmup_epochs=0.5",
        f"--pretrain_batch_size={batch}",
    ]
    found = REPORT.search(run("train", *flags))
    if found is None:
        sys.exit("Expected the training to log how long it took. Received no such line.")
    taken, first, held_up = (float(found[name]) for name in ("taken", "first", "held_up"))
    steps = int(metrics(FOLDER / name / "pretrain")[-1]["step"])
    shutil.rmtree(FOLDER / name)  # its checkpoints take a gigabyte
    return Timing(first, (taken - first) / (steps - 1), int(found["saved"]), held_up, taken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4, help="of runs with and without checkpoints")
    parser.add_argument("--patients", type=int, default=600, help="of the cohort: sets how long a run takes")
    parser.add_argument("--batch_size", type=int, default=8, help="a GPU needs a larger one to be busy")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    dataset = make_cohort(FOLDER, options.patients)
    pairs = []
    for pair in range(options.pairs):
        timings = {}
        # The order changes from pair to pair, so that a machine that slows down favours neither.
        for name in ("often", "never") if pair % 2 == 0 else ("never", "often"):
            minutes = OFTEN_MINUTES if name == "often" else NEVER_MINUTES
            timings[name] = pretraining(dataset, options.batch_size, f"{name}_{pair}", minutes)
        pairs.append((timings["often"], timings["never"]))
        say(f"pair {pair + 1} of {options.pairs}")
    if not all(often.saved > never.saved for often, never in pairs):
        sys.exit("Expected trainings that take longer. Received some without checkpoints: give more --patients.")
    rows = [
        [
            str(number),
            f"{often.step_s:.4f}",
            f"{never.step_s:.4f}",
            f"{often.step_s / never.step_s:.4f}",
            f"{often.saved} and {never.saved}",
            f"{often.held_up_s / often.taken_s:.2%}",
            f"{often.first_s:.1f} and {never.first_s:.1f}",
        ]
        for number, (often, never) in enumerate(pairs, start=1)
    ]
    header = ["pair", "s a step, with", "without", "ratio", "checkpoints", "held up", "s to the first step"]
    say("\n" + table(header, rows))
    ratio = statistics.median(often.step_s / never.step_s for often, never in pairs)
    cost_s = statistics.median(
        (often.taken_s - often.first_s - never.taken_s + never.first_s) / (often.saved - never.saved)
        for often, never in pairs
    )
    first_s = statistics.median(timing.first_s for pair in pairs for timing in pair)
    timed = max(cost_s, 0) / (60 * DEFAULT_MINUTES)
    share = timed + EPOCH_ENDS
    say(
        f"\nMedian ratio of the time per step, a checkpoint every {60 * OFTEN_MINUTES:g} s to none: {ratio:.4f}. One "
        f"costs {cost_s:.2f} s, or {timed:.2%} of {DEFAULT_MINUTES} minutes; with the ends of epochs, at most "
        f"{share:.2%} of the time. Median time to the first step: {first_s:.1f} s."
    )
    return 0 if share < ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
