"""How fast `prepare` is beside a bare loop that only reads the same WFDB files.

    python -m benchmarks.prepare_speed

Simulates a cohort below runs/prepare_speed, and times three commands in turns, with the same number of processes:
`prepare`, from its start to its end; a loop over `wfdb.rdsamp`, which is how WFDB files are read in Python; and a loop
over this package's own `open_recording`, which is several times as fast as wfdb. The files are in the page cache, so it
is the processors that are compared; seconds of processor time tell on a machine that others use too. Ends with status 1
where `prepare` is under 80% of the speed of the first loop.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.commands import command_line, run, say, table

FOLDER = Path("runs/prepare_speed")
LEAST_RATIO = 0.8
# What `prepare` pays for too: starting Python, the imports, and the processes.
LOOP = """
import multiprocessing, sys

def read(path):
    {read}

def start():
    {imports}

if __name__ == "__main__":
    paths = sys.stdin.read().splitlines()
    with multiprocessing.get_context("spawn").Pool(int(sys.argv[1]), start) as pool:
        for _ in pool.imap_unordered(read, paths, 50):
            pass
"""
LOOPS = {
    "wfdb.rdsamp": LOOP.format(imports="import wfdb", read="import wfdb; wfdb.rdsamp(path)"),
    "open_recording": LOOP.format(
        imports="import keras_ecg_mae.recordings",
        read="from keras_ecg_mae.recordings import open_recording; open_recording(path)",
    ),
}


def timed(command: list[str], stdin: str = "") -> tuple[float, float]:
    """Seconds that a command takes, and those of all processors that it uses."""
    # An installation has its modules compiled; where Python is told not to keep them, that would be timed each time.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began, used = time.perf_counter(), os.times()
    subprocess.run(command, input=stdin, text=True, check=True, capture_output=True, env=environment)
    now = os.times()
    processors = now.children_user - used.children_user + now.children_system - used.children_system
    return time.perf_counter() - began, processors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=4000, help="to simulate; some 1.5 recordings each")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="of each command")
    parser.add_argument("--rounds", type=int, default=3, help="each with every command once")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    recordings = FOLDER / "recordings"
    cohort = [f"--recordings={recordings}", f"--labels={recordings}/labels.csv"]
    run("simulate", *cohort, f"--simulate_patients={options.patients}")
    with (recordings / "labels.csv").open(newline="") as file:
        paths = [str(recordings / row["path"]) for row in csv.DictReader(file)]
    for name, loop in LOOPS.items():
        (FOLDER / f"{name}.py").write_text(loop)
    # A shard a process and split at least, as in a dataset of many shards.
    prepare = command_line(
        "prepare", *cohort, f"--output={FOLDER}/dataset", f"--workers={options.processes}", "--records_per_shard=250"
    )
    timings: dict[str, list[tuple[float, float]]] = {"prepare": [], **{name: [] for name in LOOPS}}
    for number in range(options.rounds + 1):
        for name in LOOPS:
            loop_line = [sys.executable, str(FOLDER / f"{name}.py"), str(options.processes)]
            timings[name].append(timed(loop_line, "\n".join(paths)))
        timings["prepare"].append(timed(prepare))
        shutil.rmtree(FOLDER / "dataset")
        say(
            f"round {number} of {options.rounds}" + (" (not counted: the files are read into the cache)" * (not number))
        )
    median = {
        name: [statistics.median(kind) for kind in zip(*times[1:], strict=True)] for name, times in timings.items()
    }
    ratios = {
        name: [theirs / ours for theirs, ours in zip(median[name], median["prepare"], strict=True)] for name in LOOPS
    }
    rows = [
        [
            name,
            f"{median[name][0]:.2f}",
            f"{len(paths) / median[name][0]:,.0f}",
            f"{median[name][1]:.2f}",
            *([f"{ratio:.3f}" for ratio in ratios[name]] if name in LOOPS else ["", ""]),
        ]
        for name in median
    ]
    header = [
        "command",
        "s (median)",
        "recordings a second",
        "processor s",
        "prepare's speed over it",
        "by processor s",
    ]
    say(f"\n{len(paths):,} recordings, {options.processes} processes:\n\n" + table(header, rows))
    ratio, by_processor = ratios["wfdb.rdsamp"]
    say(
        f"\nprepare runs at {ratio:.1%} of the speed of a bare loop over wfdb.rdsamp ({by_processor:.1%} by processor "
        "time)."
    )
    return 0 if ratio >= LEAST_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
